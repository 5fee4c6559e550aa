"""The form of a notebook: its parameters, prefilled, judged while one types, and read by the bind cell.

Where nobody can be asked, headless, the same cell shows the same values as a table.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell
from pydantic.fields import FieldInfo

from runbook_lib.errors import Refused
from runbook_lib.jupyter.inputs import Inputs
from runbook_lib.parameters import Parameters, as_shipped, is_secret, project_folder
from runbook_lib.secrets import REFERENCE
from runbook_lib.session import Kind
from runbook_lib.signers import OPTIONS
from runbook_lib.tables import Table, table

if TYPE_CHECKING:
    from runbook_lib.jupyter.page import Page

_PLAIN = (str, int, float, list, dict, tuple, type(None))
_NOTHING = object()
_NOT_SHOWN = "cannot be used, and is not shown"
_SERVER = ("host", "user", "ssh_port", "ssh_password", "sudo_password", "https_port", "service_addresses")
_LIVE = ("activation", "rollback_after_s", "apply")
_NOTE = ("ticket", "operator", "reason")
SECTIONS: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "audit": {"Server": _SERVER, "For the record": _NOTE},
    "request": {
        "Server": _SERVER,
        "What the certificate should say": (
            "common_name", "san", "organization", "organizational_unit", "locality", "state", "country", "email", "key_type", "validity_days",
        ),
        "Who signs it": ("signer", "signer_options"),
        "For the record": (*_NOTE, "apply"),
    },
    "install": {
        "Server": _SERVER,
        "What the CA handed back": ("certificate_file", "ca_file"),
        "How it goes live": _LIVE,
        "For the record": _NOTE,
    },
    "restore": {
        "Server": _SERVER,
        "What comes back": ("change_id", "pair"),
        "How it goes live": _LIVE,
        "For the record": _NOTE,
    },
}  # fmt: skip


class Form(Inputs):
    """The parameters of a run, shown by a notebook's cell.

    Args:
        kind: Which notebook this is.
        given: The parameters cell's values.
        shell: The kernel's IPython shell.

    Attributes:
        cell: The execution count of the cell that made it.
        interactive: Whether a person can be asked.
        page: The fields; None headless.
    """

    def __init__(self, kind: Kind, given: Mapping[str, object], shell: InteractiveShell) -> None:
        super().__init__(kind, given, project_folder(Path.cwd()))
        self.shell = shell
        self.cell = len(shell.history_manager.input_hist_raw) - 1  # type: ignore[union-attr]
        answers = bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))
        mode = given.get("mode", "auto")
        self.interactive = answers if mode == "auto" else mode != "headless"
        self.page = self._shown() if self.interactive else None

    def _shown(self) -> "Page":
        from runbook_lib.jupyter.page import Page  # noqa: PLC0415 - a fifth of a second that no headless run should pay

        return Page(self, SECTIONS[self.kind])

    def take(self) -> None:
        """A run begins with these values, and the page says so."""
        super().take()
        if self.page:
            self.page.show_taken()

    def let_go(self) -> None:
        """That run did not begin: the fields may be mended."""
        super().let_go()
        if self.page:
            self.page.show_taken()

    def overtaken(self) -> tuple[str, ...]:
        """The parameters that the notebook gave another value since: the parameters cell was run again, and this form's was not."""
        now = given_parameters(self.shell.user_ns, self.shell.user_ns_hidden)
        return tuple(
            name for name in Parameters.model_fields if now.get(name, _NOTHING) != self.given.get(name, _NOTHING)
        )

    def table(self) -> Table:
        """The values of the form's fields that are not empty, and all others that are not as shipped."""
        shipped, values = as_shipped(), self.values
        fields = [name for names in SECTIONS[self.kind].values() for name in names]
        others = [name for name, value in values.items() if name not in fields and value != shipped.get(name)]
        told = {
            name: _told(values[name], Parameters.model_fields.get(name))
            for name in (*fields, *others)
            if name in values
        }
        told["signer_options"] = self._options(values.get("signer_options"))
        rows = [(name, text, self._origin(name)) for name, text in told.items() if text]
        if self.handed_in:
            found = f"{len(self.handed_in):,} bytes, SHA-256 {hashlib.sha256(self.handed_in).hexdigest()}"
            rows = [row for row in rows if row[0] != "certificate_file"]
            rows.append(("certificate_file", found, "dropped or pasted here"))
        return table("what this run is given", ("parameter", "value", "from"), rows)

    def _options(self, options: object) -> str:
        if not isinstance(options, Mapping):
            return _NOT_SHOWN if options else ""
        model = OPTIONS.get(str(self.values.get("signer", "")))
        about = model.model_fields if model else {}
        return "\n".join(f"{name}: {_told(each, about.get(name))}" for name, each in options.items())

    def _origin(self, name: str) -> str:
        if self.changed.get(name, self.given.get(name)) != self.given.get(name):
            return "this form"
        return "as shipped" if self.values[name] == as_shipped().get(name, _NOTHING) else "parameters cell"

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        shown = self.table()
        bundle = {"text/plain": repr(shown), "text/html": shown._repr_html_()}
        return bundle | (self.page.view if self.page else {})


def form(kind: Kind) -> Form:
    """The parameters of a notebook, to be looked at and changed before anything is contacted.

    In JupyterLab it shows fields, each judged while one types; headless, or with `mode = "headless"`, a table. What it holds
    is read by `bind`.

    Args:
        kind: Which notebook this is: `audit`, `request`, `install` or `restore`.

    Raises:
        Refused: This is no notebook.
    """
    shell = get_ipython()
    if shell is None:
        raise Refused("form is called outside a notebook", todo="run the notebooks, or `runbook`")
    return Form(kind, given_parameters(shell.user_ns, shell.user_ns_hidden), shell)


def given_parameters(namespace: Mapping[str, object], there_before: Mapping[str, object]) -> dict[str, object]:
    """The parameters as they stand in the notebook.

    Every name that holds plain data counts, so that a misspelt one, which papermill only logs, is refused and not ignored.

    Args:
        namespace: The names of the notebook.
        there_before: Names that stood there before the first cell ran: IPython's own, and those of start-up files.
    """
    return {
        name: value
        for name, value in namespace.items()
        if name in Parameters.model_fields
        or (isinstance(value, _PLAIN) and not name.startswith("_") and value is not there_before.get(name, _NOTHING))
    }


def _told(value: object, about: FieldInfo | None) -> str:
    """A value as text. What is refused may be a secret in clear, in the wrong place or under a misspelt name: a word stands for it."""
    if value in (None, "", [], {}):
        return ""
    if isinstance(value, Mapping):  # of secret references, besides the signer's options
        return "\n".join(
            f"{name}: {each if REFERENCE.fullmatch(str(each)) else _NOT_SHOWN}" for name, each in value.items()
        )
    if isinstance(value, list):
        return "\n".join(map(str, value)) if about else _NOT_SHOWN
    clear = about and is_secret(about) and not REFERENCE.fullmatch(str(value))
    return _NOT_SHOWN if about is None or clear or "-----" in str(value) else str(value)


__all__ = ["Form", "form", "given_parameters"]
