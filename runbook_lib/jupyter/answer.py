"""Where the signed certificate is dropped or pasted, and what is to be said of it at once."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import ipywidgets as widgets

from runbook_lib.change.staging import made_for
from runbook_lib.files import read_regular
from runbook_lib.jupyter.fields import LABEL, Changed, Field, look, said, wrong
from runbook_lib.jupyter.inputs import Inputs
from runbook_lib.models import Certificate, Fault, Outcome, Verdict
from runbook_lib.parameters import validate
from runbook_lib.pki.certificates import LARGEST, order_chain, read_certificates
from runbook_lib.pki.checks import check_certificate
from runbook_lib.pki.csr import read_request
from runbook_lib.record.listing import Wanted, list_records
from runbook_lib.tables import certificates_table, checks_table

_PRIVATE = b"PRIVATE KEY"
_KEY_CAME = "there is a private key in it, which nobody asked for and which was not kept"
_STANDS_ON = ("host", "service_addresses", "ca_file", "change_id", "records_dir")


class Answer(Field):
    """A certificate as a path, as a file that is dropped, or as text that is pasted; the last of these that was changed counts.

    Args:
        name: `certificate_file`.
        given: The path that was given.
        form: What was handed in is kept there, and the names and trust anchors to judge it by are taken from it.
    """

    def __init__(self, name: str, given: str, form: Inputs) -> None:
        self._form = form
        self._path = widgets.Text(value=given, description=name, tooltip="the path of a file on this host", **look())
        self._drop = widgets.FileUpload(
            description="choose or drop the file",
            multiple=False,
            layout=widgets.Layout(width="auto", margin=f"2px 2px 2px calc({LABEL} + 12px)"),
        )
        self._paste = widgets.Textarea(
            description="or paste it", rows=5, placeholder="-----BEGIN CERTIFICATE-----", **look()
        )
        self._judged = widgets.HTML()
        super().__init__(name, "a path, a file that is chosen, or text that is pasted: PEM, DER or PKCS#7, with its chain",
                         widgets.VBox([self._path, self._drop, self._paste]))  # fmt: skip
        self.box = widgets.VBox([self.box, self._judged])
        self._by_hand = True
        self._judged_for: object = None

    @property
    def value(self) -> object:
        """The path; what was dropped or pasted is in the form."""
        return self._path.value

    def hear(self, changed: Changed) -> None:
        """The path, a file, or a text."""
        for control, taken in ((self._path, self._named), (self._drop, self._dropped), (self._paste, self._pasted)):
            control.observe(lambda _, taken=taken: self._heard(taken, changed), "value")

    def tell(self, faults: Sequence[Fault]) -> None:
        """What is wrong with it; and what is to be said of it, anew when that stands on something else now."""
        super().tell(faults)
        values = self._form.values
        data = self._form.handed_in or (b"" if self._form.unfit else self._in_file())
        stands_on = (data, *(repr(values.get(name)) for name in _STANDS_ON))
        if stands_on != self._judged_for:
            self._judged_for = stands_on
            self._judged.value = judged_as_html(data, self._form.base, values) if data else ""

    def _heard(self, taken: Callable[[], None], changed: Changed) -> None:
        if self._by_hand:  # and not by this field itself
            taken()
            changed()

    def _named(self) -> None:
        self._empty(self._drop, self._paste)
        self._form.hand_in(b"")

    def _dropped(self) -> None:
        self._empty(self._paste)
        self._take(bytes(self._drop.value[0]["content"]) if self._drop.value else b"")

    def _pasted(self) -> None:
        self._empty(self._drop)
        self._take(self._paste.value.strip().encode())

    def _take(self, data: bytes) -> None:
        """Keeps what is a certificate and nothing else: a private key must not lie in the page or here."""
        why = _unfit(data) if data else ""
        if why:
            self._form.hand_in(
                b"", (Fault(self.name, f"holds no certificate that can be used: {why}", "the certificate alone"),)
            )
            self._empty(self._drop, *([self._paste] if _PRIVATE in data else []))
        else:
            self._form.hand_in(data)

    def _empty(self, *controls: widgets.Widget) -> None:
        self._by_hand = False
        for each in controls:
            each.value = () if each is self._drop else ""
        self._by_hand = True

    def _in_file(self) -> bytes:
        with suppress(OSError, RuntimeError):  # what is wrong with the path is said by the model and the bind cell
            path = self._form.base / Path(self._path.value).expanduser()
            return read_regular(path, LARGEST) if self._path.value and path.exists() else b""
        return b""


def _unfit(data: bytes) -> str:
    """Why this is not to be kept; empty for certificates and nothing else."""
    if _PRIVATE in data:
        return _KEY_CAME
    try:
        read_certificates(data)
    except ValueError as error:
        return str(error)
    return ""


def judged_as_html(data: bytes, base: Path, values: Mapping[str, object]) -> str:
    """What is to be said of what a CA handed back before any server is asked.

    Args:
        data: The file.
        base: The folder against which relative paths are resolved.
        values: The parameters: the names it is to be good for, the trust anchors, and whose CSR it answers.
    """
    csr, change_id = _asked(base, values)
    try:
        wanted = read_request(csr).spki_sha256 if csr else ""
        chain = order_chain(read_certificates(data), wanted)
    except ValueError as error:
        return wrong([Fault("certificate_file", f"holds no certificate: {error}", "what the CA handed back")])
    names = {"leaf": chain[0], **{f"issuer {number}": each for number, each in enumerate(chain[1:], 1)}}
    checks = check_certificate(chain, None, _trust(base, values), dt.datetime.now(dt.UTC), _names(values))
    if wanted:
        checks = (made_for(chain, wanted), *checks)
    bad = [each for each in checks if each.verdict is not Verdict.PASS]
    title = f"judged here{f', with the CSR of change {change_id}' if wanted else ''}: {len(checks) - len(bad)} of {len(checks)} checks pass"
    later = said("Whether it belongs to the key on the server is looked at there, by the notebook's step 5.")
    shown = [checks_table(title, bad), certificates_table("what was handed in", names)]
    return "".join(each._repr_html_() for each in shown) + later


def _names(values: Mapping[str, object]) -> Sequence[str]:
    """The addresses that clients use, where they can be used."""
    parameters, _ = validate(values, asks_for_certificate=False)
    return parameters.addresses if parameters else ()


def _trust(base: Path, values: Mapping[str, object]) -> tuple[Certificate, ...]:
    with suppress(OSError, ValueError, RuntimeError):  # what is wrong with it is said by the bind cell
        file = base / Path(str(values.get("ca_file", ""))).expanduser()
        return read_certificates(read_regular(file, LARGEST)) if values.get("ca_file") else ()
    return ()


def _asked(base: Path, values: Mapping[str, object]) -> tuple[str, str]:
    """The CSR that waits for its answer as the records here know it, and its change; empty where none does."""
    wanted = Wanted(server=str(values.get("host", "")), outcomes=(Outcome.WAITING,))
    with suppress(OSError, RuntimeError):
        folder = base / Path(str(values.get("records_dir", "records"))).expanduser()
        for each in reversed(list_records(folder)):
            file = folder / each.change_id / "files" / "nginx.csr"
            if wanted.takes(each) and values.get("change_id", "") in {"", each.change_id} and file.exists():
                return read_regular(file, LARGEST).decode(errors="replace"), each.change_id
    return "", ""
