"""Where the signed certificate is dropped or pasted, and what is to be said of it at once."""

import datetime as dt
from collections.abc import Mapping, Sequence
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
_KEY_CAME = "holds a private key, which nobody asked for and which was not kept"


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
        self._fault = ""

    @property
    def value(self) -> object:
        """The path; what was dropped or pasted is in the form."""
        return self._path.value

    def hear(self, changed: Changed) -> None:
        """The path, a file, or a text."""
        for control, taken in ((self._path, self._named), (self._drop, self._dropped), (self._paste, self._pasted)):
            control.observe(lambda _, taken=taken: taken(), "value")
            control.observe(lambda _: changed(), "value")
        if self._path.value:
            self._judge(self._in_file())

    def tell(self, faults: Sequence[Fault]) -> None:
        """The model's faults, and what is wrong with what was handed in."""
        own = [Fault(self.name, self._fault, "the certificate alone")] if self._fault else []
        super().tell([*faults, *own])

    def _named(self) -> None:
        self._take(b"")

    def _dropped(self) -> None:
        if self._drop.value:
            self._paste.value = ""
            self._take(bytes(self._drop.value[0]["content"]))

    def _pasted(self) -> None:
        text = self._paste.value
        if _PRIVATE.decode() in text:
            self._paste.value = ""  # it must not lie in the page
            self._fault = _KEY_CAME
        elif text.strip():
            self._drop.value = ()
            self._take(text.encode())

    def _take(self, data: bytes) -> None:
        self._fault = _KEY_CAME if _PRIVATE in data else ""
        if self._fault:
            self._drop.value = ()
        self._form.handed_in = b"" if self._fault else data
        self._judge(data if data and not self._fault else self._in_file())

    def _in_file(self) -> bytes:
        try:
            path = self._form.base / Path(self._path.value).expanduser()
            return read_regular(path, LARGEST) if self._path.value and path.exists() else b""
        except RuntimeError:  # no such home folder, which the model says
            return b""
        except OSError as error:
            self._fault = f"cannot be read: {error.strerror}"
            return b""

    def _judge(self, data: bytes) -> None:
        self._judged.value = judged_as_html(data, self._form.base, self._form.values) if data else ""


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
    file = base / Path(str(values.get("ca_file", ""))).expanduser()
    with suppress(OSError, ValueError):  # what is wrong with it is said by the bind cell
        return read_certificates(read_regular(file, LARGEST)) if values.get("ca_file") else ()
    return ()


def _asked(base: Path, values: Mapping[str, object]) -> tuple[str, str]:
    """The CSR that waits for its answer as the records here know it, and its change; empty where none does."""
    folder = base / Path(str(values.get("records_dir", "records"))).expanduser()
    wanted = Wanted(server=str(values.get("host", "")), outcomes=(Outcome.WAITING,))
    with suppress(OSError):
        for each in reversed(list_records(folder)):
            file = folder / each.change_id / "files" / "nginx.csr"
            if wanted.takes(each) and values.get("change_id", "") in {"", each.change_id} and file.exists():
                return read_regular(file, LARGEST).decode(errors="replace"), each.change_id
    return "", ""
