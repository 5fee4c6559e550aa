"""An operator who runs changes on a server: the conductor alone, its steps in the order in which the notebooks call them."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, overload

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from runbook_lib.change import Change, Install, Request, open_change
from runbook_lib.errors import RunbookError
from runbook_lib.models import Outcome
from runbook_lib.record.archive import Record, open_record
from runbook_lib.record.journal import outcome_of, read
from runbook_lib.secrets import REGISTRY
from runbook_lib.session import prepare
from runbook_lib.tables import Table
from tests.pki.authority import DAY, SERVER_AUTH, Issued, Key, alternative_names, authority, key_usage
from tests.servers import FileState, ServerUnderTest

PROJECT = Path(__file__).parents[2]
Kind = Literal["request", "install", "restore"]
PUTTING_IN_PLACE = ("check", "plan", "compare", "browse_before", "install", "browse", "confirm")
STEPS: Mapping[Kind, tuple[str, ...]] = {
    "request": ("check", "plan", "back_up", "make_key", "make_csr", "sign"),
    "install": PUTTING_IN_PLACE,
    "restore": PUTTING_IN_PLACE,
}
NAME = "apstra.example.com"
PAIR = ("nginx.crt", "nginx.key")


@dataclass
class Run:
    """How a run ended.

    Attributes:
        change: The conductor, closed; None when the run ended before its change was found.
        error: What was raised, if anything.
        tables: What each step showed.
        record: The record's folder; None when there is none.
    """

    change: Change | None = None
    error: RunbookError | None = None
    tables: dict[str, Table] = field(default_factory=dict)
    record: Path | None = None

    @property
    def outcome(self) -> Outcome:
        """The outcome, as the journal tells it where there is one."""
        if self.record:
            return outcome_of(self.journal)
        assert self.error
        return self.error.outcome

    @property
    def journal(self) -> tuple[Mapping[str, Any], ...]:
        """The events of the record."""
        assert self.record
        return read(self.record)

    @property
    def change_id(self) -> str:
        """The change's id."""
        assert self.record
        return self.record.name

    @property
    def said(self) -> str:
        """What the error says, line by line."""
        return str(self.error)

    @property
    def plan_sha256(self) -> str:
        """The hash of the plan that was shown last."""
        return str([event["sha256"] for event in self.journal if event["event"] == "plan"][-1])


class Operator:
    """Somebody with a server's parameters and a folder for records."""

    def __init__(self, server: ServerUnderTest, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.records = folder / "records"
        host = server.parameters["host"]
        self.given: dict[str, Any] = {
            **server.parameters, "records_dir": str(self.records), "common_name": NAME,
            "san": [f"DNS:{NAME}", f"IP:{host}"], "key_type": "ec-p256", "apply": True,
        }  # fmt: skip

    @property
    def state_dir(self) -> Path:
        """`state_dir` as it can be read from here."""
        return self.server.path(self.given["state_dir"])

    def of(self, change_id: str) -> Path:
        """A change's folder on the server."""
        return self.state_dir / "changes" / change_id

    @overload
    async def begin(self, kind: Literal["request"], **values: object) -> Request: ...
    @overload
    async def begin(self, kind: Literal["install"], **values: object) -> Install: ...
    async def begin(self, kind: Kind, **values: object) -> Change:
        """A run after its bind cell."""
        prepared = prepare(kind, {**self.given, **values}, PROJECT, None)
        return await open_change(prepared, lambda change_id: open_record(prepared.records, change_id, REGISTRY.redact))

    async def run(self, kind: Kind, **values: object) -> Run:
        """A run through all its cells, up to the first that fails."""
        ended = Run()
        prepared = prepare(kind, {**self.given, **values}, PROJECT, None)

        def opening(change_id: str) -> Record:
            record = open_record(prepared.records, change_id, REGISTRY.redact)
            ended.record = record.folder
            return record

        try:
            change = ended.change = await open_change(prepared, opening)
        except RunbookError as error:
            ended.error = error
            return ended
        try:
            for step in STEPS[kind]:
                ended.tables[step] = await getattr(change, step)()
            ended.tables["summary"] = change.summary()
        except RunbookError as error:
            ended.error = error
        finally:
            await change.close()
        return ended

    async def replace(self, **values: object) -> tuple[Run, Run]:
        """Request, then install, both done."""
        request = await self.run("request", **values)
        assert request.outcome is Outcome.DONE, request.said
        install = await self.run("install", **{**values, "change_id": request.change_id})
        assert install.outcome is Outcome.DONE, install.said
        return request, install

    async def wait(self, **values: object) -> Run:
        """A request whose CA has not answered."""
        run = await self.run("request", **values)
        assert run.outcome is Outcome.WAITING, run.said
        return run

    def csr(self, run: Run) -> x509.CertificateSigningRequest:
        """The CSR as the record keeps it."""
        assert run.record
        return x509.load_pem_x509_csr((run.record / "files" / "nginx.csr").read_bytes())

    def file(self, name: str, content: bytes) -> str:
        """A file on the operator's side."""
        path = self.folder / name
        path.write_bytes(content)
        return str(path)

    def answer(self, *certificates: x509.Certificate, name: str = "answer.pem") -> str:
        """What the CA handed back, as a PEM file."""
        return self.file(name, pem(*certificates))


ROOT = authority("Test Root")
ISSUING = authority("Test Issuing CA", ROOT, path_length=0)


def certify(
    csr: x509.CertificateSigningRequest,
    issuer: Issued = ROOT,
    *,
    san: Sequence[str] = (),
    days: tuple[float, float] = (-1, 90),
    key: Key | None = None,
) -> x509.Certificate:
    """What a CA makes of a CSR.

    Args:
        csr: The request.
        issuer: The CA.
        san: Other names than those asked for.
        days: From when to when it is good, in days from now.
        key: Another key than the CSR's.
    """
    now = dt.datetime.now(dt.UTC)
    public = key.public_key() if key else csr.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    asked = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        x509.CertificateBuilder()
        .subject_name(csr.subject)
        .issuer_name(issuer.x509.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + days[0] * DAY)
        .not_valid_after(now + days[1] * DAY)
        .add_extension(alternative_names(san) if san else asked, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage(SERVER_AUTH), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as PEM, in this order."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def all_but_pair(snapshot: Mapping[str, FileState]) -> dict[str, FileState]:
    """What a change must leave exactly as it is."""
    return {name: state for name, state in snapshot.items() if name not in PAIR}


def owners(snapshot: Mapping[str, FileState]) -> dict[str, tuple[str, str]]:
    """Mode and owner of every file, the pair too."""
    return {name: (state.mode, state.owner) for name, state in snapshot.items()}


def json_of(path: Path) -> Any:  # noqa: ANN401 - any JSON
    """A JSON file."""
    return json.loads(path.read_text())
