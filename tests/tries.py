"""Runs on a telling server, each with another failure: a person's in one kernel, and those of programs."""

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.conftest import PRACTICE_PREFIX
from tests.jupyter.changes import NOTEBOOKS, parameter_file, start
from tests.jupyter.kernels import Kernel, Message
from tests.jupyter.test_bind import BIND, parameters_cell
from tests.planted import Planted
from tests.record.sealing import OPERATOR
from tests.telling import Telling, TellingServer

CELLS = {
    "request": ("check", "plan", "back_up", "make_key", "make_csr", "sign"),
    "install": ("check", "plan", "compare", "install", "confirm"),
    "audit": ("served", "judged", "found"),
}
TOKEN = "env:PLANTED_API_TOKEN"


@dataclass(frozen=True)
class Failure:
    """One thing that fails.

    Attributes:
        kind: The notebook.
        cell: The cell that ends with an error; empty where all goes well.
        error: The name of that error; empty where all goes well.
        command: Text of the command on the server that does not do its work.
        status: How that command ends.
        given: Other parameters.
        broken: Whether the live key is no key.
        babbles: A program on the server, with its first argument, that answers anything but what it is asked.
        strays: Whether files lie beside the pair that bear secrets as names.
        cut: Whether the connection is cut before that cell.
        curious: Whether a person wants to know more before that cell.
    """

    kind: Literal["request", "install", "audit"]
    cell: str
    command: str = ""
    status: int = 9
    given: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    broken: bool = False
    babbles: str = ""
    strays: bool = False
    cut: bool = False
    curious: bool = False


# in this order they are one change: each goes on where the one before was stopped
FAILURES: Mapping[str, Failure] = {
    "the login is refused": Failure("request", "bind", given={"ssh_password": TOKEN}, error="Unreachable"),
    "sudo is refused": Failure("request", "bind", given={"sudo_password": TOKEN}, error="Unreachable"),
    "the CA's passphrase is wrong": Failure(
        "request", "bind", given={"ca_key_password": TOKEN}, error="UnusableParameters"
    ),
    "the server cannot be read": Failure("request", "bind", "docker ps", error="Refused"),
    "docker babbles": Failure("request", "bind", babbles="docker inspect", error="Refused"),
    "the pair is broken": Failure("request", "check", broken=True, strays=True, error="ChecksFailed"),
    "the backup fails": Failure("request", "back_up", "backup.new", curious=True, error="Refused"),
    "the key fails": Failure("request", "make_key", "genpkey", error="Refused"),
    "the CSR fails": Failure("request", "make_csr", "openssl req -new", error="Refused"),
    "the staging fails": Failure("request", "sign", "cat >nginx.crt.new", error="Refused"),
    "requested": Failure("request", ""),
    "another plan was approved": Failure("install", "plan", given={"approved_plan": "0" * 64}, error="Refused"),
    "the rehearsal fails": Failure("install", "compare", "rehearse.sh", error="Refused"),
    "the rehearsal ends badly": Failure("install", "compare", "rehearse.sh", status=0, error="ChecksFailed"),
    "the restart fails": Failure("install", "install", "docker restart", error="RolledBack"),
    "the confirm fails": Failure("install", "confirm", "guard.sh confirm", error="RolledBack"),
    "the connection is cut": Failure("install", "confirm", cut=True, error="Unsettled"),
    "audited": Failure("audit", "", strays=True),
    "audited while openssl babbles": Failure("audit", "", babbles="openssl"),
}
# what a person runs who wants to know more
CURIOUS = (
    "%xmode Verbose",
    "change.prepared",
    "change.prepared.login",
    "change.prepared.sudo_password",
    "import os; dict(os.environ)",
    "def fails(prepared, password, environment): 1 / 0",
    "fails(change.prepared, change.prepared.sudo_password, dict(os.environ))",
    "locals()",
    "%history -o",
)


@dataclass
class Session:
    """Everything that was run, and where its traces would be."""

    folder: Path
    planted: Planted
    servers: list[TellingServer] = field(default_factory=list)
    secret_files: list[Path] = field(default_factory=list)
    failed: dict[str, tuple[str, str]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    shown: list[Message] = field(default_factory=list)
    arguments: set[bytes] = field(default_factory=set)

    @property
    def records(self) -> list[Path]:
        """Every record."""
        return sorted(self.folder.glob("*/records/*"))

    def telling(self) -> Telling:
        """A server that tells every secret."""
        self.servers.append(TellingServer(Path(tempfile.mkdtemp(prefix=PRACTICE_PREFIX, dir="/tmp"))))
        telling = Telling(self.servers[-1], self.planted)
        self.secret_files += telling.secret_files
        return telling

    def values(self, telling: Telling, place: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any parameters
        """The parameters of a run that seals, and keeps its record below `place`."""
        key, allowed = str(self.folder / "key"), str(self.folder / "allowed")
        own = {"common_name": "apstra.lab.example", "key_type": "ec-p256", "rollback_after_s": 30, "apply": True}
        sealing = {
            "signing_key": key,
            "allowed_signers": allowed,
            "operator": OPERATOR,
            "records_dir": str(place / "records"),
        }
        return telling.values(self.planted.references(self.folder / "secrets") | more) | own | sealing

    def place(self, name: str) -> tuple[Path, dict[str, str]]:
        """A folder with all that a program may write to in it, and the variables that say so."""
        place = self.folder / name
        variables = {"HOME": "home", "TMPDIR": "temporary", "IPYTHONDIR": "ipython"}
        for each in variables.values():
            (place / each).mkdir(parents=True)
        return place, {name: str(place / each) for name, each in variables.items()} | self.planted.environment


def one_kernel(session: Session) -> None:
    """A person tries again and again in one kernel, as in JupyterLab, and something else fails each time."""
    telling, (place, environment) = session.telling(), session.place("kernel")
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("SSH_AUTH_SOCK", raising=False)
        for name, value in environment.items():
            patched.setenv(name, value)
        kernel = Kernel(place)
    try:
        for name, failure in FAILURES.items():
            given = session.values(telling, place, **failure.given)
            if failure.kind == "install":
                given["change_id"] = next((telling.server.state_dir / "changes").iterdir()).name
            with telling.strays() if failure.strays else nullcontext():
                session.failed[name] = tried(kernel, telling, failure, given)
        session.shown += kernel.seen
    finally:
        kernel.close()


def codes_of(kind: str) -> dict[str, str]:
    """A notebook's cells from the bind cell on."""
    bind = BIND.format(kind=kind)
    if kind == "audit":
        return {"bind": bind.replace("change = ", "audit = "), **{each: f"audit.{each}()" for each in CELLS[kind]}}
    return {"bind": bind, **{each: f"await change.{each}()" for each in CELLS[kind]}}


def tried(kernel: Kernel, telling: Telling, failure: Failure, given: Mapping[str, object]) -> tuple[str, str]:
    """Runs a notebook up to the cell that fails; returns which that is, and its error."""
    key = telling.server.conf_dir / "nginx.key"
    whole = key.read_bytes()
    telling.answers(failure.command, failure.status)
    telling.babbles(failure.babbles)
    if failure.broken:
        key.write_bytes(b"no key")
    kernel.run(parameters_cell(given))
    try:
        for cell, code in codes_of(failure.kind).items():
            if failure.cut and cell == failure.cell:
                telling.server.cut()
            for more in CURIOUS if failure.curious and cell == failure.cell else ():
                kernel.run(more)
            errors = [each["content"]["ename"] for each in kernel.run(code) if each["msg_type"] == "error"]
            if errors:
                return cell, errors[0]
        if failure.kind != "audit":
            kernel.run("change.summary()")
    finally:
        if failure.broken:
            key.write_bytes(whole)
        telling.answers("", 0)
        telling.babbles("")
    return "", ""


def programs(session: Session) -> None:
    """The same server for those who type commands: papermill, whose run fails, and `runbook`, whose run does not."""
    telling, (place, environment) = session.telling(), session.place("programs")
    given = parameter_file(place, session.values(telling, place))
    telling.answers("openssl req -new", 9)
    request = str(NOTEBOOKS / "200_request_certificate.ipynb")
    anew = ("-p", "change_id", "new")
    commands: Mapping[str, tuple[str, ...]] = {
        "papermill": ("papermill", request, "out.ipynb", "-f", str(given)),
        "plan": ("runbook", "plan", "-f", str(given), *anew),
        "replace": ("runbook", "replace", "-f", str(given), *anew),
        "audit": ("runbook", "audit", "-f", str(given), "--json", "--html", "audit.html"),
    }
    for name, command in commands.items():
        with telling.strays() if name in {"plan", "audit"} else nullcontext():
            process = start(*command, cwd=place, log=place / f"{name}.log", **environment)
            session.statuses[name] = process.wait(timeout=100)
        telling.answers("", 0)
