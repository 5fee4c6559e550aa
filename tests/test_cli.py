"""The commands as an operator types them: exit code, last line, what is said, and what is left on the server."""

import asyncio
import csv
import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.models import Outcome
from runbook_lib.record.journal import last_run, read
from tests.change.operator import NAME, Operator, Run, certify
from tests.embedded import EmbeddedHost
from tests.pki.authority import ec_key
from tests.servers import ServerUnderTest, wait_until

PROJECT = Path(__file__).parents[1]
RUNBOOK = Path(sys.executable).with_name("runbook")
COMMANDS = (
    "plan",
    "request",
    "install",
    "restore",
    "replace",
    "audit",
    "trust",
    "records",
    "records list",
    "records show",
    "records diff",
)
RUNS = ("plan", "request", "install", "restore", "replace")
LAST_LINE = re.compile(r"outcome: ([a-z-]+) (-|/\S+)")
Ended = subprocess.CompletedProcess[str]
Typed = tuple[Ended, Outcome, Path | None]


def runbook(*arguments: str, said: str = "", cwd: Path = PROJECT) -> Ended:
    """Runs the command; `said` is what a person types."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"COLUMNS": "110"}
    line = [str(RUNBOOK), *arguments]
    return subprocess.run(
        line, capture_output=True, text=True, check=False, input=said, cwd=cwd, timeout=100, env=environment
    )


class AtTheTerminal(Operator):
    """An operator with a file of parameters."""

    def __init__(self, server: ServerUnderTest, folder: Path) -> None:
        super().__init__(server, folder)
        self.parameters = folder / "parameters.yaml"
        self.parameters.write_text(yaml.safe_dump(self.given))

    def types(self, command: str, *more: str, cwd: Path = PROJECT, **values: Any) -> Typed:  # noqa: ANN401 - any parameter
        """A run: its end, the outcome of the last line, held against the exit code, and the record."""
        given = ("-y", yaml.safe_dump(values)) if values else ()
        ended = runbook(command, "-f", str(self.parameters), *given, *more, cwd=cwd)
        last = LAST_LINE.fullmatch(ended.stdout.splitlines()[-1])
        assert last, ended.stdout + ended.stderr
        outcome = Outcome(last[1])
        assert ended.returncode == outcome.exit_code
        return ended, outcome, None if last[2] == "-" else Path(last[2])

    def leave_out(self, *names: str) -> None:
        """Takes parameters out of the file."""
        self.given = {name: value for name, value in self.given.items() if name not in names}
        self.parameters.write_text(yaml.safe_dump(self.given))


@pytest.fixture
def operator(server: ServerUnderTest, tmp_path: Path) -> AtTheTerminal:
    """Somebody at a terminal, with each server in turn."""
    return AtTheTerminal(server, tmp_path)


@pytest.fixture
def practised(practice: EmbeddedHost, tmp_path: Path) -> AtTheTerminal:
    """Somebody at a terminal with the embedded server alone, where the command is what is tried and not the server."""
    return AtTheTerminal(practice, tmp_path)


def test_a_certificate_is_replaced_and_brought_back(operator: AtTheTerminal) -> None:
    """Replace waits with the CSR shown; a colleague installs the answer elsewhere; again: nothing to do; restore brings it back."""
    first = operator.server.served()
    ended, outcome, record = operator.types("replace")
    assert (outcome, record and record.parent) == (Outcome.WAITING, operator.records)
    assert record
    csr = (record / "files" / "nginx.csr").read_text()
    assert csr in ended.stdout
    assert f"The CA is to sign this CSR, {record}/files/nginx.csr." in ended.stdout
    assert operator.server.served() == first

    elsewhere = operator.folder / "elsewhere"
    elsewhere.mkdir()
    answer = operator.answer(certify(_csr(record)))
    ended, outcome, part = operator.types(
        "install", "-p", "certificate_file", answer, records_dir=str(elsewhere), cwd=elsewhere
    )
    assert (outcome, part) == (Outcome.DONE, elsewhere / record.name), ended.stderr
    new = operator.server.served()
    assert new != first
    assert re.search(r"^  outage \d+ ms in \d+ probes$", ended.stderr, re.MULTILINE)
    assert re.search(
        r"^  1 public key in nginx\.key, nginx\.csr, nginx\.crt: [0-9a-f]{64}$", ended.stderr, re.MULTILINE
    )
    for field in ("outcome", "certificate before", "certificate after", "outage", "way back"):
        assert re.search(rf"^{field}  ", ended.stdout, re.MULTILINE), field
    assert (operator.of(record.name) / "decided").read_text() == "confirmed\n"

    assert operator.types("replace", certificate_file=answer)[1] is Outcome.NOTHING_TO_DO
    assert operator.server.served() == new
    _, outcome, restored = operator.types("restore")
    assert (outcome, operator.server.served()) == (Outcome.DONE, first)

    listed = runbook("records", "list", "--records-dir", str(operator.records))
    assert listed.returncode == 0
    assert restored
    assert all(word in listed.stdout for word in (record.name, restored.name, "waiting", "done", "nothing-to-do"))
    shown = runbook("records", "show", str(part))
    assert shown.returncode == 0
    assert "keep the new pair, disarm the guard: exit status 0" in shown.stdout
    assert shown.stdout.count("-300_install_certificate.ipynb") == 1


def _csr(record: Path) -> Any:  # noqa: ANN401 - cryptography's
    from cryptography import x509  # noqa: PLC0415 - here alone

    return x509.load_pem_x509_csr((record / "files" / "nginx.csr").read_bytes())


def test_replace_in_one_go(practised: AtTheTerminal) -> None:
    """With a signer that answers, one command does it all; its record holds both notebooks, and no private key or password."""
    first = practised.server.served()
    ended, outcome, record = practised.types("replace", **practised.server.signing)
    assert outcome is Outcome.DONE, ended.stderr
    assert practised.server.served() != first
    assert record
    assert [each.name[17:] for each in sorted((record / "notebooks").iterdir())] == [
        "200_request_certificate.ipynb",
        "300_install_certificate.ipynb",
    ]
    password = Path(practised.given["sudo_password"].removeprefix("file:")).read_text().strip()
    for file in [each for each in record.rglob("*") if each.is_file()]:
        assert "PRIVATE KEY" not in file.read_text()
        assert password not in file.read_text()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert password not in ended.stdout + ended.stderr


def test_plan_changes_nothing(operator: AtTheTerminal) -> None:
    """Not a byte on the server, whatever the state; the hash and the outcome are the last lines, and the hash stays the same."""
    before = operator.server.snapshot()
    hashes = []
    for _ in range(2):
        ended, outcome, record = operator.types("plan", **operator.server.signing)
        assert (outcome, ended.stderr) == (Outcome.PLANNED, "")
        hashes.append(re.fullmatch(r"plan sha256:([0-9a-f]{64})", ended.stdout.splitlines()[-2]))
        assert record
    assert hashes[0]
    assert hashes[1]
    assert hashes[0][1] == hashes[1][1]
    assert ended.stdout.count("✔ pass") > 10
    assert "openssl genpkey" in ended.stdout
    assert operator.server.snapshot() == before
    assert not operator.state_dir.exists()

    asyncio.run(operator.run("request", **operator.server.signing))
    files = {path: path.stat().st_mtime_ns for path in operator.state_dir.rglob("*")}
    ended, outcome, record = operator.types("plan", **operator.server.signing)
    assert (outcome, "guard.sh swap" in ended.stdout) == (Outcome.PLANNED, True)
    shown = ended.stdout.splitlines()[-2].removeprefix("plan sha256:")
    refused, outcome, record = operator.types("plan", approved_plan="0" * 64)
    assert (outcome, "look at what changed and have this plan approved" in refused.stderr) == (Outcome.REFUSED, True)
    assert record
    assert [event["event"] for event in last_run(read(record))].count("gate") == 1
    assert {path: path.stat().st_mtime_ns for path in operator.state_dir.rglob("*")} == files
    assert operator.server.snapshot() == before
    approved = asyncio.run(operator.run("install", **operator.server.signing, approved_plan=shown))
    assert approved.outcome is Outcome.DONE, approved.said


def test_notebooks_apply_nothing_by_default(practised: AtTheTerminal) -> None:
    """Replace without `apply` is planned, and no byte changes."""
    before = practised.server.snapshot()
    practised.leave_out("apply")
    _, outcome, record = practised.types("replace", **practised.server.signing)
    assert (outcome, practised.server.snapshot(), practised.state_dir.exists()) == (Outcome.PLANNED, before, False)
    assert record
    assert len(list((record / "notebooks").iterdir())) == 1


def test_what_is_refused_leaves_no_trace(practised: AtTheTerminal) -> None:
    """A wrong password, an unknown host key and a certificate of another key: 3, with what to do, by plan and by notebook."""
    before, served = practised.server.snapshot(), practised.server.served()
    wrong = Path(practised.file("wrong", b"not the password"))
    wrong.chmod(0o600)
    cases: tuple[tuple[str, dict[str, Any], str], ...] = (
        ("plan", {"sudo_password": f"file:{wrong}"}, "check sudo_password: one attempt was made"),
        ("request", {"known_hosts": practised.file("none", b"")}, "run `runbook trust "),
    )
    for command, values, says in cases:
        ended, outcome, record = practised.types(command, **values)
        assert (outcome, says in ended.stderr) == (Outcome.REFUSED, True), ended.stderr
        assert record
    ended, outcome, record = practised.types("request", records_dir=str(wrong))
    assert (outcome, record, "name another records_dir" in ended.stderr) == (Outcome.REFUSED, None, True)
    assert not practised.state_dir.exists()
    waiting = asyncio.run(practised.wait())
    answer = practised.answer(certify(practised.csr(waiting), key=ec_key()))
    ended, outcome, record = practised.types("install", certificate_file=answer)
    assert (outcome, record and record.name) == (Outcome.REFUSED, waiting.change_id)
    assert "this certificate was made for another key" in ended.stderr
    assert (practised.server.snapshot(), practised.server.served()) == (before, served)


def test_several_open_changes(practised: AtTheTerminal) -> None:
    """Two open changes and none named: 2, naming both."""
    one, two = asyncio.run(practised.wait()), asyncio.run(practised.wait(change_id="new"))
    (practised.of(one.change_id) / "decided").unlink()
    ids = ", ".join(sorted((one.change_id, two.change_id)))  # begun within one second they have no other order
    for command in ("plan", "install"):
        ended, outcome, _ = practised.types(command)
        assert outcome is Outcome.UNUSABLE
        assert f"several changes are open: {ids}" in ended.stderr


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "<&- >&- 2>&-"])
def test_a_result_that_cannot_be_written_is_one_all_the_same(practised: AtTheTerminal, where: str) -> None:
    """A full disk behind standard output, or none at all: the replacement is done, and the exit status says so."""
    first = practised.server.served()
    given = yaml.safe_dump(practised.server.signing)
    line = f'"$0" replace -f "$1" -y "$2" {where}'
    ended = subprocess.run(
        ["/bin/sh", "-c", line, RUNBOOK, practised.parameters, given], cwd=PROJECT, timeout=100, check=False
    )
    assert ended.returncode == 0
    assert practised.server.served() != first


def test_a_terminal_without_our_signs_ends_no_run(practised: AtTheTerminal) -> None:
    """Latin-1 has no check mark: another sign stands for it, and the outcome is what it is."""
    ended = subprocess.run(
        [RUNBOOK, "plan", "-f", practised.parameters], cwd=PROJECT, timeout=100, check=False, capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert rb"\u2714 pass" in ended.stdout


def test_a_plan_that_is_stopped_says_so(practised: AtTheTerminal) -> None:
    """Ctrl-C while it waits for a server that says nothing: 3 and the last line, without a stack trace."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        subprocess.Popen(
            [RUNBOOK, "plan", "-f", practised.parameters, "-p", "ssh_port", str(silent.getsockname()[1])],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running,
    ):
        waiting, _ = silent.accept()
        running.send_signal(signal.SIGINT)
        stdout, stderr = running.communicate(timeout=60)
        waiting.close()
    assert running.returncode == Outcome.REFUSED.exit_code, stderr
    assert stdout.splitlines()[-1] == "outcome: refused -"
    assert "Traceback" not in stderr


def test_trust_without_its_parameters_says_what_is_missing(tmp_path: Path) -> None:
    """A file that is not there is a fault like any other."""
    ended = runbook("trust", "-f", str(tmp_path / "none.yaml"))
    assert ended.returncode == Outcome.UNUSABLE.exit_code
    assert "none.yaml: cannot be read" in ended.stderr


def test_metrics_of_an_audit_that_could_not_be_made(practised: AtTheTerminal) -> None:
    """Whatever kept it from the server, none of an earlier audit are taken for today's."""
    metrics = practised.folder / "apstra.prom"
    metrics.write_text("apstra_audit_success 1\n")
    given = ("-p", "sudo_password", f"file:{practised.folder}/none", "--prometheus", str(metrics))
    ended = runbook("audit", "-f", str(practised.parameters), *given)
    assert ended.returncode == Outcome.UNUSABLE.exit_code
    assert re.search(r"^apstra_audit_success\{.*\} 0$", metrics.read_text(), re.MULTILINE)


def test_an_audit_that_cannot_be_written_says_so(practised: AtTheTerminal) -> None:
    """It is nothing but what it shows."""
    ended = subprocess.run(
        ["/bin/sh", "-c", '"$0" audit -f "$1" >/dev/full', RUNBOOK, practised.parameters],
        cwd=PROJECT, timeout=100, check=False, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert ended.returncode == Outcome.UNUSABLE.exit_code
    assert "standard output: cannot be written" in ended.stderr


def test_a_rollback(practised: AtTheTerminal) -> None:
    """nginx refuses its configuration after the swap: 5, the old pair is served, the way back is told."""
    first = practised.server.served()
    stray = practised.server.path(f"{practised.given['conf_dir']}/stray.conf")
    stray.write_text("broken")
    ended, outcome, record = practised.types("replace", **practised.server.signing)
    assert (outcome, practised.server.served()) == (Outcome.ROLLED_BACK, first)
    assert record
    assert f"{practised.given['state_dir']}/changes/{record.name}/restore.sh" in ended.stderr
    assert "let nginx test its configuration: failed on the server" in ended.stderr


def swapped(operator: AtTheTerminal, request: Run) -> str:
    """Waits for the swap; the number of the run's root shell, which holds the lock."""
    folder = operator.of(request.change_id)
    wait_until(lambda: "swapped" in (folder / "guard.log").read_text())
    return operator.server.run(
        f"for each in /proc/[0-9]*; do [ $each/fd/9 -ef {operator.given['conf_dir']} ] && "
        "tr '\\0' '\\n' <$each/environ | grep -qx RUNBOOK_SHELL=${each#/proc/} && echo ${each#/proc/}; done; true"
    ).stdout.strip()


def test_a_root_shell_that_dies(operator: AtTheTerminal) -> None:
    """Killed after the swap: 6, and the way back that is told brings the old pair back at once."""
    first = operator.server.served()
    request = asyncio.run(operator.run("request", **operator.server.signing))
    killer = threading.Thread(target=lambda: operator.server.run(f"kill -KILL {swapped(operator, request)}"))
    killer.start()
    ended, outcome, record = operator.types("install", **operator.server.signing)
    killer.join()
    assert (outcome, record and record.name) == (Outcome.UNKNOWN, request.change_id)
    line = re.search(r"sudo (sh \S+/restore\.sh)", ended.stderr)
    assert line
    assert operator.server.run(line[1]).returncode == 0
    assert operator.server.served() == first


def test_a_kernel_that_dies(practised: AtTheTerminal) -> None:
    """SIGKILL for the kernel after the swap: the notebook can say nothing any more, and the command tells outcome and way back."""
    first = practised.server.served()
    request = asyncio.run(practised.run("request", **practised.server.signing))
    line = [str(RUNBOOK), "install", "-f", str(practised.parameters), "-y", yaml.safe_dump(practised.server.signing)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT) as running:
        shell = swapped(practised, request)
        practised.server.run(f"kill -STOP {shell}")
        os.kill(kernel_of(running.pid), signal.SIGKILL)
        stdout, stderr = running.communicate(timeout=60)
    practised.server.run(f"kill -KILL {shell}")
    assert (running.returncode, stdout.splitlines()[-1]) == (
        6,
        f"outcome: unknown {practised.records}/{request.change_id}",
    )
    assert "unknown" in runbook("records", "list", "--records-dir", str(practised.records)).stdout
    way_back = re.search(
        r"^by hand the old pair comes back with: ssh .* sudo (sh \S+/restore\.sh)$", stderr, re.MULTILINE
    )
    assert way_back
    assert practised.server.run(way_back[1]).returncode == 0
    assert practised.server.served() == first


def kernel_of(pid: int) -> int:
    """The kernel among the descendants of a process."""
    children = [int(each) for file in Path(f"/proc/{pid}/task").glob("*/children") for each in file.read_text().split()]
    for child in children:
        if "kernel" in Path(f"/proc/{child}/cmdline").read_text():
            return child
    return next(filter(None, map(kernel_of, children)), 0)


def test_an_audit(operator: AtTheTerminal) -> None:
    """Tables, JSON, CSV, a page and metrics tell the same certificate; nothing changes."""
    before = operator.server.snapshot()
    page, metrics = operator.folder / "audit.html", operator.folder / "apstra.prom"
    table = runbook("audit", "-f", str(operator.parameters), "--html", str(page), "--prometheus", str(metrics))
    assert table.returncode == 0, table.stderr
    assert table.stdout.count("✔ pass") == page.read_text().count("✔ pass") > 10
    assert "Does nginx serve the live certificate?" in page.read_text()
    assert "4.2.0" in table.stdout
    assert "<script" not in page.read_text()
    assert "default-src &#x27;none&#x27;" in page.read_text() or "default-src 'none'" in page.read_text()
    assert 'apstra_certificate_served{server="' in metrics.read_text()
    assert re.search(r"^apstra_certificate_not_after_seconds\{.*\} \d{10}$", metrics.read_text(), re.MULTILINE)
    rows = json.loads(runbook("audit", "-f", str(operator.parameters), "--json").stdout)["served"]
    assert {row["seen from"] for row in rows} == {"server", "direct", "ssh"}
    read = list(csv.DictReader(io.StringIO(runbook("audit", "-f", str(operator.parameters), "--csv").stdout)))
    assert [row["sha256"] for row in read] == [row["sha256"] for row in rows]
    assert operator.server.snapshot() == before
    assert not operator.state_dir.exists()
    nowhere = runbook("audit", "-f", str(operator.parameters), "--html", str(operator.folder / "no" / "page.html"))
    assert (nowhere.returncode, "cannot be written: No such file or directory" in nowhere.stderr) == (2, True)
    wrong = runbook("audit", "-f", str(operator.parameters), "-p", "ssh_port", "1")
    assert (wrong.returncode, "check host, ssh_port and the network" in wrong.stderr) == (3, True)


def test_trust(operator: AtTheTerminal) -> None:
    """The key is shown; a no pins nothing, a yes does, so that plan works; a second time it is there; another key is refused."""
    pinned = operator.folder / "new" / "known_hosts"
    port = ("-p", "ssh_port", str(operator.given["ssh_port"]), "-p", "known_hosts", str(pinned))
    host = operator.given["host"]
    known = Path(operator.given["known_hosts"]).read_text().split()
    for answer in ("n\n", ""):
        refused = runbook("trust", host, *port, said=answer)
        assert (refused.returncode, pinned.exists()) == (3, False)
        assert "stopped; nothing was changed" in refused.stderr
        assert f"host key of {known[0]}: {known[1]} SHA256:" in refused.stdout
    assert operator.types("plan", known_hosts=str(pinned))[1] is Outcome.REFUSED
    accepted = runbook("trust", host, *port, said="y\n")
    assert (accepted.returncode, pinned.read_text().split()[:3]) == (0, known[:3])
    assert operator.types("plan", known_hosts=str(pinned))[1] is Outcome.PLANNED
    again = runbook("trust", host, *port)
    assert (again.returncode, f"it is pinned already in {pinned}" in again.stdout) == (0, True)
    other = subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", operator.folder / "other"], check=False
    )
    assert other.returncode == 0
    pinned.write_text(f"{known[0]} {(operator.folder / 'other.pub').read_text()}")
    changed = runbook("trust", host, *port, said="y\n")
    assert (changed.returncode, "ask who manages the server" in changed.stderr) == (3, True)


GOOD = f"host: 192.0.2.1\ncommon_name: {NAME}\n"
UNUSABLE = [
    ("nosuch: 1\n", "- nosuch: is no parameter"),
    ("sudo_password: hunter2 hunter2\n", "- sudo_password: is no secret reference"),
    ('apply: "false"\n', "- apply: is no boolean; write true or false without quotes"),
    ("country: NO\n", '- country: is no text; write text in quotes, such as "NO"'),
    ("ticket: 12345\n", "- ticket: is no text"),
    ("apply: true\napply: false\n", "- apply: is given twice"),
    ("sudo_password: env:RUNBOOK_NO_SUCH\n", "sudo_password: env:RUNBOOK_NO_SUCH is empty or not set"),
    ("signer: local-ca\n", "- signer_options.ca_key: is missing"),
    ("certificate_file: page.html\n", "certificate_file: holds no certificate: it is an HTML page"),
    ("ca_file: nosuch.pem\n", "ca_file: cannot be read"),
    ("- a\n- b\n", "holds no names and values"),
    ("a: [\n", "is no YAML at line"),
]


@pytest.mark.parametrize(("more", "says"), UNUSABLE)
def test_unusable_parameters(more: str, says: str, tmp_path: Path) -> None:
    """Exit code 2, the field, what to write, no record, and never a secret."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "parameters").mkdir()
    (tmp_path / "page.html").write_text("<!DOCTYPE html><p>Please log in")
    file = tmp_path / "p.yaml"
    file.write_text(more if more[0] in "-a" and ":" not in more.split(maxsplit=1)[0] else GOOD + more)
    ended = runbook("plan", "-f", str(file), cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "outcome: unusable -\n")
    assert says in ended.stderr
    assert "hunter2" not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "records").exists()


def test_unusable_parameters_of_a_notebook(tmp_path: Path) -> None:
    """What only the kernel can see, such as a secret that is not there, is exit code 2 as well."""
    file = tmp_path / "p.yaml"
    file.write_text(f"{GOOD}sudo_password: env:RUNBOOK_NO_SUCH\nrecords_dir: {tmp_path}/records\n")
    ended = runbook("request", "-f", str(file))
    assert (ended.returncode, ended.stdout) == (2, "outcome: unusable -\n")
    assert "RUNBOOK_NO_SUCH is empty or not set" in ended.stderr
    assert not (tmp_path / "records").exists()


def test_parameters_from_everywhere(tmp_path: Path) -> None:
    """Files, then -y, then -p, the later one wins; -p converts as papermill does."""
    file, other = tmp_path / "p.yaml", tmp_path / "q.yaml"
    file.write_text("common_name: a.example.com\nhost: 'a b'\nuser: 1\n")
    other.write_text("host: 'c d'\n")
    ended = runbook(
        "plan",
        "-f",
        str(file),
        "-f",
        str(other),
        "-y",
        "ticket: 1",
        "-p",
        "ticket",
        "CHG-1",
        "-p",
        "apply",
        "false",
        "-p",
        "operator",
        "7",
    )
    assert ended.returncode == 2
    faults = [line.split(":")[0] for line in ended.stderr.splitlines() if line.startswith("- ")]
    assert sorted(faults) == ["- apply", "- host", "- operator", "- user"]
    missing = runbook("plan", "-f", str(tmp_path / "nosuch.yaml"))
    assert (missing.returncode, missing.stdout) == (2, "outcome: unusable -\n")
    assert "nosuch.yaml: cannot be read: No such file or directory" in missing.stderr


def test_records_that_are_not_there(tmp_path: Path) -> None:
    """An empty list is a list; an unknown record is named as such."""
    empty = runbook("records", "list", "--records-dir", str(tmp_path))
    assert (empty.returncode, empty.stdout.splitlines()[0]) == (0, "0 records")
    unknown = runbook("records", "show", "20261124T220000Z-1a2b3c", "--records-dir", str(tmp_path))
    assert (unknown.returncode, "`runbook records list` names them" in unknown.stderr) == (2, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_for_a_newcomer(command: str) -> None:
    """Every command says what it does and what its options mean; a run says how it can end."""
    ended = runbook(*command.split(), "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0] == f"Usage: runbook {command} " + lines[0].removeprefix(f"Usage: runbook {command} ")
    assert len(lines[2].split()) > 2
    options = re.findall(r"^  (?:-\w, )?--?\w[\w-]*.*?(?:  (\S.*))?$(?:\n {10,}(\S.*))?", ended.stdout, re.MULTILINE)
    assert all(first or second for first, second in options)
    if command in RUNS:
        for outcome in Outcome:
            words = {
                "failed": "failed unexpectedly",
                "unusable": "unusable parameters",
                "waiting": "waiting for the CA",
            }
            assert re.search(rf"^ +{outcome.exit_code}  .*{words.get(outcome, outcome)}", ended.stdout, re.MULTILINE), (
                outcome
            )


def test_the_first_help() -> None:
    """`runbook` alone names every command, where to begin, and the exit codes."""
    ended = runbook("--help")
    assert all(re.search(rf"^  {command.split()[0]} +\S", ended.stdout, re.MULTILINE) for command in COMMANDS)
    assert "runbook plan -f parameters/lab.yaml" in ended.stdout
    assert "6  unknown: a person must look" in ended.stdout
    assert runbook("--version").stdout.startswith("runbook, version ")
    assert runbook("nosuch").returncode == 2
