"""The end of a notebook's run: its record is sealed before the front end hears that the cell has ended."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.models import Verdict
from runbook_lib.record.seal import described, sealed
from runbook_lib.record.verify import verify
from tests.agents import slow_agent
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import request, values
from tests.jupyter.kernels import LIMIT_S, Kernel, Message
from tests.jupyter.test_bind import BIND, error, install, parameters_cell, shown
from tests.record.sealing import OPERATOR, allowing, signing_key
from tests.servers import wait_until

STEPS = ("check", "plan", "compare", "install", "confirm")


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel in the project."""
    made = Kernel(tmp_path)
    yield made
    made.close()


@pytest.fixture
def given(practice: EmbeddedHost, tmp_path: Path) -> dict[str, object]:
    """The parameters of somebody who seals."""
    key = signing_key(tmp_path)
    (tmp_path / "allowed").write_text(allowing(key))
    return values(
        practice, tmp_path, signing_key=str(key.path), allowed_signers=str(tmp_path / "allowed"), operator=OPERATOR
    )


def told(sent: list[Message]) -> str:
    """What a cell wrote to its standard output; it did not fail."""
    shown(sent)
    return "".join(message["content"]["text"] for message in sent if message["msg_type"] == "stream")


def faults(record: Path) -> dict[str, str]:
    """What does not pass."""
    signers = (record.parents[1] / "allowed").read_text()
    checks = verify(record, allowed_signers=signers)
    return {each.question: each.found for each in checks if each.verdict is not Verdict.PASS}


def test_an_installed_change_is_sealed(kernel: Kernel, practice: EmbeddedHost, given: dict[str, object]) -> None:
    """With the summary's output in the sealed notebook; the digest is shown and lies on the server; the connection has ended."""
    record = request(given)
    shown(install(kernel, given))
    for step in STEPS:
        shown(kernel.run(f"await change.{step}()"))
    said = told(kernel.run("change.summary()"))
    name, _, digest = described(record).partition(" ")
    assert name == "seals/0001.json"
    assert f"seal: {name} {digest}" in said
    assert faults(record) == {}
    folder = f"{practice.parameters['state_dir']}/changes/{record.name}"
    assert f"sha256:{practice.run(f'cat {folder}/seal').stdout.strip()}" == digest
    assert not practice.practice.connections
    (notebook,) = (each for each in (record / "notebooks").iterdir() if "300_" in each.name)
    summary = [
        cell for cell in json.loads(notebook.read_text())["cells"] if "change.summary()" in "".join(cell["source"])
    ]
    assert "outcome" in str(summary[0]["outputs"])
    assert digest not in notebook.read_text()


def test_what_is_run_afterwards_changes_no_record(kernel: Kernel, given: dict[str, object]) -> None:
    """The same kernel goes on being redacted, and a new bind begins a run with a seal of its own."""
    record = request(given)
    shown(install(kernel, given | {"apply": False}))
    for step in STEPS:
        shown(kernel.run(f"await change.{step}()"))
    shown(kernel.run("change.summary()"))
    shown(kernel.run("change.summary()"))
    assert told(kernel.run(f"print(open({str(Path(str(given['sudo_password'])[5:]))!r}).read())")) == "[secret]\n"
    assert faults(record) == {}
    assert len(sealed(record)) == 1
    shown(kernel.run(BIND.format(kind="install")))
    shown(kernel.run("await change.check()"))
    shown(kernel.run(BIND.format(kind="install")))
    wait_until(lambda: len(sealed(record)) == 2)


def test_a_run_that_failed_is_sealed_with_its_error(
    kernel: Kernel, practice: EmbeddedHost, given: dict[str, object]
) -> None:
    """The error that ended it stands in the sealed notebook."""
    record = request(given)
    (practice.practice.conf_dir / "nginx.key").write_text("no key")
    shown(install(kernel, given))
    assert error(kernel.run("await change.check()"))["ename"] == "ChecksFailed"
    assert faults(record) == {}
    (notebook,) = (each for each in (record / "notebooks").iterdir() if "300_" in each.name)
    assert '"ename": "ChecksFailed"' in notebook.read_text()
    assert not practice.practice.connections


def test_a_run_that_could_not_begin_is_sealed(kernel: Kernel, given: dict[str, object], tmp_path: Path) -> None:
    """A server that turns the login down: the record of that run, with the bind cell's error."""
    record = request(given)
    (tmp_path / "wrong").write_text("another password")
    (tmp_path / "wrong").chmod(0o600)
    wrong = {"sudo_password": f"file:{tmp_path}/wrong", "change_id": record.name}
    assert error(install(kernel, given | wrong))["ename"] == "Unreachable"
    assert faults(record) == {}
    assert len(sealed(record)) == 1


def test_stop_while_a_key_takes_its_time(
    practice: EmbeddedHost, tmp_path: Path, given: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cell ends all the same, as JupyterLab and papermill see it; the record says why it is not sealed."""
    (tmp_path / "key").rename(tmp_path / "elsewhere")
    with slow_agent(tmp_path, tmp_path / "elsewhere", sign_s=LIMIT_S) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        kernel = Kernel(tmp_path)
        shown(kernel.run(parameters_cell(given | {"signing_key": str(tmp_path / "key.pub")})))
        shown(kernel.run(BIND.format(kind="audit").replace("change", "audit")))
        for cell in ("audit.served()", "audit.judged()"):
            shown(kernel.run(cell))
        threading.Timer(2, kernel.interrupt).start()
        began = time.monotonic()
        said = told(kernel.run("audit.found()"))
        kernel.close()
    assert time.monotonic() - began < LIMIT_S - 5
    assert "seal: none: " in said
    assert not practice.practice.connections
    (record,) = (tmp_path / "records").iterdir()
    assert sealed(record) == ()


def test_an_audit_is_sealed_with_its_last_cell(kernel: Kernel, given: dict[str, object], tmp_path: Path) -> None:
    """Its tables are in the sealed notebook."""
    shown(kernel.run(parameters_cell(given)))
    shown(kernel.run(BIND.format(kind="audit").replace("change", "audit")))
    for cell in ("audit.served()", "audit.judged()"):
        shown(kernel.run(cell))
    (record,) = (tmp_path / "records").iterdir()
    assert sealed(record) == ()
    assert "seal: seals/0001.json sha256:" in told(kernel.run("audit.found()"))
    assert faults(record) == {}
