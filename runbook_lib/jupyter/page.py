"""What a form looks like in a notebook: its fields in sections, and whether all of it can be used."""

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ipywidgets as widgets

from runbook_lib.jupyter.answer import Answer
from runbook_lib.jupyter.fields import Field, Options, field_for, said, wrong
from runbook_lib.jupyter.inputs import Inputs
from runbook_lib.models import Fault
from runbook_lib.parameters import Parameters, as_shipped
from runbook_lib.signers import OPTIONS

_SHIPPED = as_shipped()


class Page:
    """The fields of a form.

    Args:
        form: Whose values they are.
        sections: Headings, and the names of the fields under each.

    Attributes:
        box: All of it, as one widget.
    """

    def __init__(self, form: Inputs, sections: Mapping[str, Sequence[str]]) -> None:
        self._form, self._state = form, widgets.HTML()
        self._fields = {name: self._field(name) for names in sections.values() for name in names}
        parts: list[widgets.Widget] = []
        for heading, names in sections.items():
            parts += [widgets.HTML(f"<h4>{html.escape(heading)}</h4>"), *(self._fields[name].box for name in names)]
        self.box = widgets.VBox([*parts, self._state])
        for name, field in self._fields.items():
            field.hear(lambda name=name: self._changed(name))  # type: ignore[misc]
        self._judge()

    @property
    def view(self) -> dict[str, Any]:
        """What tells a front end to show it."""
        return {kind: each for kind, each in self.box._repr_mimebundle_().items() if "widget-view" in kind}

    def _field(self, name: str) -> Field:
        given = self._form.given.get(name, _SHIPPED.get(name, ""))
        if name == "signer_options":
            return Options(name, self._signer(), given if isinstance(given, dict) else {})
        if name == "certificate_file":
            return Answer(name, str(given), self._form)
        return field_for(name, Parameters.model_fields[name], given)

    def _signer(self) -> str:
        signer = str(self._form.values.get("signer", _SHIPPED["signer"]))
        return signer if signer in OPTIONS else str(_SHIPPED["signer"])

    def show_taken(self) -> None:
        """The fields can be changed no more while a run goes on with what they hold, and it says so."""
        for each in _within(self.box):
            if each.has_trait("disabled"):
                each.disabled = self._form.taken
        self._judge()

    def _changed(self, name: str) -> None:
        self._form.change(name, self._fields[name].value)
        options = self._fields.get("signer_options")
        if name == "signer" and isinstance(options, Options):
            options.show(self._signer())
            self._form.change("signer_options", options.value)
        self._judge()

    def _judge(self) -> None:
        """Shows each fault beside its field; what has none here is named below."""
        faults = self._form.faults()
        for name, field in self._fields.items():
            field.tell([each for each in faults if _belongs(each, name)])
        elsewhere = [each for each in faults if not any(_belongs(each, name) for name in self._fields)]
        names = ", ".join(dict.fromkeys(each.field for each in faults))
        parts = [wrong([Fault(each.field, f"{each.field} {each.wrong}", each.write)]) for each in elsewhere]
        if self._form.taken:
            text = "The next cell goes on with this. To change it, run this cell again, and then the next one."
        elif faults:
            text = f"Not yet: {names}. The next cell would refuse it."
        else:
            text = "Nothing is wrong with what is written here: run the next cell."
        self._state.value = "<br>".join([said(text), *parts])


def _belongs(fault: Fault, name: str) -> bool:
    return fault.field == name or fault.field.startswith(f"{name}.")


def _within(widget: widgets.Widget) -> Iterator[widgets.Widget]:
    yield widget
    for each in getattr(widget, "children", ()):
        yield from _within(each)
