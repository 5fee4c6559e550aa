"""The fields of a form: a widget or more for each parameter, and beside it what is wrong with its value.

What is typed is judged by the parameter model alone; a field only says what it holds and shows what it is told. Its label is the
parameter's name, so that a message, the documentation and a parameter file speak of the same thing.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import ipywidgets as widgets
from pydantic.fields import FieldInfo

from runbook_lib.models import Fault
from runbook_lib.parameters import is_secret
from runbook_lib.secrets import REFERENCE, redact
from runbook_lib.signers import OPTIONS
from runbook_lib.text import plain

ASK, NOTHING = "prompt", ""
LABEL, WIDTH = "11.5em", "31em"
_GOOD, _BAD = "var(--jp-ui-font-color2, #5f6368)", "var(--jp-error-color0, #8c1007)"
Changed = Callable[[], None]


def said(text: str, colour: str = _GOOD) -> str:
    """A text as HTML, which a screen reader speaks when it changes."""
    return f'<span role="status" aria-live="polite" style="color: {colour}; line-height: 1.4">{html.escape(redact(plain(text)))}</span>'


def wrong(faults: Sequence[Fault]) -> str:
    """What is wrong with a value and what to write, as HTML."""
    return said("; ".join(f"✘ {each.wrong}; write {each.write}" for each in faults), _BAD)


class Field:
    """One parameter in a form.

    Args:
        name: The parameter, or an option of a signer as `signer_options.NAME`.
        about: What it is, in a line.
        control: What a person types or chooses in.

    Attributes:
        box: The whole line.
    """

    def __init__(self, name: str, about: str, control: widgets.DOMWidget) -> None:
        self.name, self._about, self._control = name, about, control
        self._reason = widgets.HTML(said(about), layout=widgets.Layout(flex="1 1 16em"))
        self.box: widgets.Box = widgets.HBox([control, self._reason], layout=widgets.Layout(flex_flow="row wrap"))

    @property
    def value(self) -> object:
        """What it holds, as a parameter file would give it."""
        return self._control.value

    def hear(self, changed: Changed) -> None:
        """Has something called whenever a person changes it."""
        self._control.observe(lambda _: changed(), "value")

    def tell(self, faults: Sequence[Fault]) -> None:
        """Shows what is wrong with it, or what it is for."""
        text = wrong(faults) if faults else said(self._about)
        if self._reason.value != text:
            self._reason.value = text


class Number(Field):
    """A whole number, or nothing; what is none is handed on as it was typed, so that it is refused with a reason."""

    @property
    def value(self) -> object:
        """A number, None, or a text that is no number."""
        text = str(self._control.value).strip()
        return int(text) if text.isascii() and text.isdigit() else text or None


class Rows(Field):
    """A list: a row an entry, added and removed one by one."""

    def __init__(self, name: str, about: str, given: Sequence[object]) -> None:
        self._rows = widgets.VBox()
        margin = f"2px 2px 2px calc({LABEL} + 12px)"
        self._add = widgets.Button(description=f"add to {name}", layout=widgets.Layout(width="auto", margin=margin))
        self._add.on_click(lambda _: self._append("").focus())
        super().__init__(name, about, widgets.VBox([self._rows, self._add]))
        self._changed: Changed = _nothing
        for each in given:
            self._append(str(each))

    @property
    def value(self) -> object:
        """The rows that are not blank."""
        return [text for each in self._lines() if (text := each.value.strip())]

    def hear(self, changed: Changed) -> None:
        """Rows that are added or removed count as a change."""
        self._changed = changed

    def tell(self, faults: Sequence[Fault]) -> None:
        """What is wrong with one entry is shown beside its row."""
        filled = [each for each in self._rows.children if each.children[0].value.strip()]
        for each in self._rows.children:
            each.children[2].value = ""
        rest = []
        for fault in faults:
            index = fault.field.rpartition(".")[2]
            if index.isdigit() and int(index) < len(filled):
                filled[int(index)].children[2].value = wrong([fault])
            else:
                rest.append(fault)
        super().tell(rest)

    def _lines(self) -> list[widgets.Text]:
        return [each.children[0] for each in self._rows.children]

    def _append(self, text: str) -> widgets.Text:
        line = _text(f"{self.name} {len(self._rows.children) + 1}", text, self._about)
        remove = widgets.Button(
            description="remove", tooltip="takes this row away", layout=widgets.Layout(width="auto")
        )
        row = widgets.HBox([line, remove, widgets.HTML()], layout=widgets.Layout(flex_flow="row wrap"))
        line.observe(lambda _: self._changed(), "value")
        remove.on_click(lambda _: self._remove(row))
        self._rows.children = (*self._rows.children, row)
        return line

    def _remove(self, row: widgets.HBox) -> None:
        self._rows.children = tuple(each for each in self._rows.children if each is not row)
        for number, line in enumerate(self._lines(), 1):
            line.description = f"{self.name} {number}"
        self._add.focus()
        self._changed()


class Options(Field):
    """The options of the signer that is chosen, each a field of its own."""

    def __init__(self, name: str, signer: str, given: Mapping[str, Any]) -> None:
        super().__init__(name, "", widgets.VBox())
        self._given = dict(given)
        self._fields: list[Field] = []
        self._changed: Changed = _nothing
        self.show(signer)

    @property
    def value(self) -> object:
        """Those that are not empty, and those given that the signer does not have: they are faults to be seen."""
        held = {each.name.partition(".")[2]: each.value for each in self._fields}
        unknown = {name: value for name, value in self._given.items() if name not in held}
        return {name: value for name, value in held.items() if value} | unknown

    def show(self, signer: str) -> None:
        """Shows the options of another signer; what belongs to the one before is gone."""
        self._given = {} if self._fields else self._given
        about = OPTIONS[signer].model_fields
        self._fields = [
            field_for(f"{self.name}.{name}", each, self._given.get(name, "")) for name, each in about.items()
        ]
        for each in self._fields:
            each.hear(self._one_changed)
        self._control.children = [each.box for each in self._fields]

    def hear(self, changed: Changed) -> None:
        """Any of them counts."""
        self._changed = changed

    def _one_changed(self) -> None:
        self._changed()

    def tell(self, faults: Sequence[Fault]) -> None:
        """Beside the option that it belongs to."""
        names = {each.name for each in self._fields}
        for each in self._fields:
            each.tell([fault for fault in faults if fault.field == each.name])
        super().tell([fault for fault in faults if fault.field not in names])


def field_for(name: str, about: FieldInfo, given: object) -> Field:
    """The field that fits a parameter of the model.

    Args:
        name: The parameter, or `signer_options.NAME`.
        about: What the model says of it.
        given: The value that it has.
    """
    line = about.description or ""
    kind = about.annotation
    if is_secret(about):
        return Field(name, line, _secret(name, str(given)))
    if get_origin(kind) is Literal:
        return Field(name, line, _choice(name, list(get_args(kind)), given))
    if kind is bool:
        ticked = widgets.Checkbox(value=given is True, description=name, indent=True, tooltip=line, **look())
        return Field(name, line, ticked)
    if get_origin(kind) is list:
        return Rows(name, line, given if isinstance(given, list) else [])
    number = any(each is int or get_args(each)[:1] == (int,) for each in (kind, *get_args(kind)))
    field = Number if number else Field
    text = "" if given is None or "-----" in str(given) else str(given)  # a key in clear is refused, and is not shown
    return field(name, line, _text(name, text, line))


def _nothing() -> None:
    """What is called while nobody listens yet."""


def look() -> dict[str, Any]:
    """Label and width that all fields have."""
    return {"style": {"description_width": LABEL}, "layout": widgets.Layout(width=WIDTH)}


def _text(name: str, value: str, about: str) -> widgets.Text:
    return widgets.Text(value=value, description=name.rpartition(".")[2], tooltip=about, **look())


def _choice(name: str, options: Sequence[str], given: object) -> widgets.Dropdown:
    value = given if given in options else None
    return widgets.Dropdown(options=options, value=value, description=name, **look())


def _secret(name: str, given: str) -> widgets.Dropdown:
    """A choice and no text: a secret that is typed would lie in the page and in the kernel's messages."""
    usable = bool(REFERENCE.fullmatch(given)) or given == NOTHING
    options = [(given, given)] if usable and given not in {ASK, NOTHING} else []
    options += [("none", NOTHING), ("I am asked when the next cell runs", ASK)]
    return widgets.Dropdown(
        options=options, value=given if usable else None, description=name.rpartition(".")[2], **look()
    )
