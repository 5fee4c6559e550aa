"""Planted secrets: a server that tells all of them, a failure at every step, and not a piece of one anywhere afterwards."""

import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from runbook_lib.models import Verdict
from runbook_lib.record.gate import search
from runbook_lib.record.journal import Event, read
from runbook_lib.record.verify import verify
from runbook_lib.secrets import MASK, REGISTRY, Registry
from runbook_lib.session import Kind, prepare
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import executed_cells, parameter_file, start, values
from tests.planted import Arguments, Planted, content, forms, pieces, told, traces
from tests.record.sealing import OPERATOR, allowing, signing_key
from tests.tries import FAILURES, Session, one_kernel, programs


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """All of it, done."""
    folder = tmp_path_factory.mktemp("planted")
    session = Session(folder, Planted.new())
    session.planted.plant(folder / "secrets")
    (folder / "allowed").write_text(allowing(signing_key(folder)))
    try:
        with Arguments() as arguments, ThreadPoolExecutor() as threads:
            for each in [threads.submit(one_kernel, session), threads.submit(programs, session)]:
                each.result()
        session.arguments = arguments.seen
        yield session
    finally:
        for server in session.servers:
            server.close()
            shutil.rmtree(server.root, ignore_errors=True)


@pytest.mark.parametrize("name", FAILURES)
def test_it_failed_where_it_was_to(session: Session, name: str) -> None:
    """Every step has had its own failure and no other, after all the steps before it had done their work."""
    assert session.failed[name] == (FAILURES[name].cell, FAILURES[name].error)


def test_the_programs_ended_as_they_had_to(session: Session) -> None:
    """One that failed, and three that did their work on a server that tells all it knows."""
    assert session.statuses == {"papermill": 1, "plan": 0, "replace": 0, "audit": 0}


def test_nothing_that_was_written_tells_a_secret(session: Session) -> None:
    """Records, papermill's notebook, what was printed, IPython's folder, homes, temporary files, and the server's own disk."""
    sought = pieces(session.planted.values)
    assert traces(session.folder, sought, but=[session.folder / "secrets"]) == []
    for server in session.servers:
        assert traces(server.root, sought, but=session.secret_files) == []


def test_no_front_end_was_shown_a_secret(session: Session) -> None:
    """Every message that left the kernel, also for what a person printed to find out more."""
    assert not [each for each in session.shown if told(str(each["content"]).encode(), pieces(session.planted.values))]


def test_no_process_had_a_secret_among_its_arguments(session: Session) -> None:
    """As `ps` shows them to everybody on the host, and on the server; there the names of files are arguments of sha256sum."""
    assert [each for each in session.arguments if b"papermill" in each]
    seen = [each for each in session.arguments if not each.startswith(b"sha256sum\0")]
    assert not [each for each in seen if told(each, pieces(session.planted.values))]


def test_every_record_is_proven(session: Session) -> None:
    """The gate found nothing either, so that each is sealed, however its last run ended."""
    assert len(session.records) > 1
    for record in session.records:
        assert unproven(record, session.folder / "allowed") == {}
        assert [event["finds"] for event in read(record) if event["event"] == "gate"][-1] == []


def unproven(record: Path, allowed: Path) -> dict[str, str]:
    """What of a record is not proven."""
    checks = verify(record, allowed_signers=allowed.read_text())
    return {each.question: each.found for each in checks if each.verdict is not Verdict.PASS}


def append(file: Path, text: str) -> None:
    """Into a text file."""
    with file.open("a") as written:
        written.write(f"\nbefore {text} after\n")


def into_notebook(file: Path, text: str) -> None:
    """As an output of a cell."""
    content = json.loads(file.read_text())
    cell = next(each for each in content["cells"] if each["cell_type"] == "code")
    cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": f"before {text} after"})
    file.write_text(json.dumps(content))


def into_journal(file: Path, text: str) -> None:
    """As the text of an event."""
    with file.open("a") as written:
        written.write(f"{json.dumps({'event': 'note', 'text': text})}\n")


def into_history(file: Path, text: str) -> None:
    """As a cell that was run."""
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("INSERT INTO history VALUES (99, 99, ?, ?)", (text, text))


def as_name(folder: Path, text: str) -> None:
    """As the name of a file."""
    (folder / text.replace("/", "_")).touch()


PLACES: Mapping[str, tuple[str, Callable[[Path, str], None]]] = {
    "the journal": ("kernel/records/*/journal.jsonl", into_journal),
    "a notebook": ("kernel/records/*/notebooks/*.ipynb", into_notebook),
    "a file": ("kernel/records/*/files/*.pem", append),
    "the report": ("kernel/records/*/report.html", append),
    "the name of a file": ("kernel/records/*/files", as_name),
    "papermill's notebook": ("programs/out.ipynb", into_notebook),
    "what papermill printed": ("programs/papermill.log", append),
    "what runbook printed": ("programs/replace.log", append),
    "IPython's history": ("kernel/ipython/profile_default/history.sqlite", into_history),
    "a temporary file": ("programs/temporary", lambda folder, text: append(folder / "left", text)),
    "a home folder": ("kernel/home", lambda folder, text: append(folder / ".cache", text)),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_search_finds_a_secret_wherever_it_is_put(session: Session, tmp_path: Path, place: str) -> None:
    """In every form; and where it is in a record, the gate finds it too."""
    pattern, put = PLACES[place]
    for name, value in vars(session.planted).items():
        registry = Registry()
        registry.add(value, name=name)
        for number, form in enumerate(sorted(forms(value))):
            copy = tmp_path / f"{name}-{number}"
            target = min(session.folder.glob(pattern))
            inside = copy / target.relative_to(session.folder)
            inside.parent.mkdir(parents=True)
            (shutil.copytree if target.is_dir() else shutil.copy)(target, inside)
            assert traces(copy, pieces([value])) == []
            put(inside, form.decode())
            assert traces(copy, pieces([value])), form
            if "records" in pattern and place != "the name of a file":
                record = inside.parents[len(Path(pattern).parts) - 4]
                assert [each.what for each in search(record, registry)] == [name], form


def test_the_search_finds_a_secret_among_arguments_and_messages(session: Session) -> None:
    """As a program's argument for a fraction of a second, and within what a front end is sent."""
    sought = pieces(session.planted.values)
    with Arguments() as arguments:
        subprocess.run(["sh", "-c", "sleep 0.3", session.planted.api_token], check=True)
    assert [each for each in arguments.seen if told(each, sought)]
    assert told(str({"text": f"the password is {session.planted.sudo_password!r}"}).encode(), sought)


def test_what_was_searched_is_what_was_there(session: Session) -> None:
    """IPython has its history, papermill its notebook, and each program its log: an empty place would prove nothing."""
    assert b"CREATE TABLE history" in content(session.folder / "kernel/ipython/profile_default/history.sqlite")
    for each in ("out.ipynb", "papermill.log", "plan.log", "replace.log", "audit.log", "audit.html"):
        assert (session.folder / "programs" / each).stat().st_size > len("outcome: done")
    assert [each for each in session.records if MASK in (each / "journal.jsonl").read_text()]


def test_the_signers_secret_is_known_to_every_run(session: Session, tmp_path: Path) -> None:
    """An install asks the signer for nothing, but the record may hold its passphrase from the request; where it is not to be had, all is well."""
    references = session.planted.references(session.folder / "secrets")
    given = {"host": "192.0.2.1", "signer": "local-ca"}
    options = {"ca_certificate": "ca.pem", "ca_key": "ca-key.pem"}
    kinds: tuple[Kind, ...] = ("install", "restore", "audit")
    for kind in kinds:
        for reference, known in ((references["ca_key_password"], True), ("file:nowhere", False), ("prompt", False)):
            REGISTRY.clear()
            prepare(kind, given | {"signer_options": options | {"ca_key_password": reference}}, tmp_path, None)
            assert bool(REGISTRY.found_in(session.planted.ca_key_password)) == known
    REGISTRY.clear()


def replaced(host: EmbeddedHost, folder: Path) -> Path:
    """Replaces a certificate by `runbook`, with the server's one password for SSH and sudo; returns the record."""
    (folder / "home").mkdir(parents=True)
    (folder / "password").write_text(host.practice.password)
    (folder / "password").chmod(0o600)
    (folder / "allowed").write_text(allowing(signing_key(folder)))
    password = dict.fromkeys(("ssh_password", "sudo_password"), f"file:{folder}/password")
    sealing = {"signing_key": str(folder / "key"), "allowed_signers": str(folder / "allowed"), "operator": OPERATOR}
    given = parameter_file(folder, values(host, folder, client_key="", **password, **sealing))
    command = ("runbook", "replace", "-f", str(given))
    assert (
        start(*command, cwd=folder, log=folder / "log", HOME=str(folder / "home"), SSH_AUTH_SOCK="").wait(timeout=100)
        == 0
    )
    (record,) = (folder / "records").iterdir()
    return record


def shape(record: Path, host: EmbeddedHost) -> list[list[object]]:
    """All that a journal tells which two changes of the same kind have in common."""
    told = (record / "journal.jsonl").read_text()
    for own, name in ((record.name, "CHANGE"), (str(host.practice.root), "ROOT"), (str(record.parents[1]), "FOLDER")):
        told = told.replace(own, name)
    events = [json.loads(line) for line in told.splitlines()]
    common = ("event", "step", "purpose", "status", "notebook", "operator", "role", "outcome", "what", "finds", "text")
    return [
        [sorted(event), *(event.get(each) for each in common if event["event"] != "unsealed"), judgements(event)]
        for event in events
        if event["event"] not in {"file", "guard"}
    ]


def judgements(event: Event) -> list[tuple[str, str]]:
    """Every question of an event's checks with its verdict."""
    return [(check["question"], check["verdict"]) for check in event.get("checks", ())]


def test_admin_for_the_user_admin(practice_host: Callable[..., EmbeddedHost], tmp_path: Path) -> None:
    """A password that cannot be masked by its text is kept out by where it can flow.

    With one that could be found anywhere nothing of it is in the record, and nothing had to be masked. With `admin`, by the
    same ways, the record is the same, word for word readable, but for the note that warns; it is sealed and proven.
    """
    passwords = {"unique": Planted.new().ssh_password, "admin": "admin"}
    hosts = {name: practice_host(password=password) for name, password in passwords.items()}
    with ThreadPoolExecutor() as threads:
        records = dict(
            zip(hosts, threads.map(replaced, hosts.values(), (tmp_path / each for each in hosts)), strict=True)
        )
    assert traces(tmp_path / "unique", pieces([passwords["unique"]]), but=[tmp_path / "unique/password"]) == []
    for name, record in records.items():
        assert unproven(record, tmp_path / name / "allowed") == {}
        assert not [each for each in record.rglob("*") if each.is_file() and MASK in each.read_text()]
        assert [cell for cell in executed_cells(record) if 'user = "admin"' in cell["source"]]
    unique, admin = (shape(records[name], hosts[name]) for name in passwords)
    warned = "warn: too short or too common to be masked by its text, kept out by where it can flow: ssh_password, sudo_password"
    notes = [each for each in read(records["admin"]) if each.get("text") == warned]
    assert [each["event"] for each in notes] == ["note", "note"]
    assert [each for each in admin if warned not in each] == unique
    assert [each["unsearched"] for each in read(records["admin"]) if each["event"] == "gate"][-1] == [
        "ssh_password",
        "sudo_password",
    ]
