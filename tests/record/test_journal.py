"""The journal: a chain on the disk that survives kills and full disks, written by one process, from which the outcome follows."""

import hashlib
import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.models import Outcome
from runbook_lib.record.journal import (
    NAME,
    Event,
    Journal,
    JournalUnusable,
    check_chain,
    last_run,
    orphans,
    outcome_of,
    read,
)

SECRET = "s3cret of the server"


def redact(text: str) -> str:
    """As the registry of secrets does it."""
    return text.replace(SECRET, "[secret]")


def new_journal(folder: Path) -> Journal:
    """The journal of a record."""
    return Journal(folder, redact)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal with two events."""
    opened = new_journal(tmp_path)
    opened.write("run", notebook="request", host="apstra")
    opened.write("note", text="Käse")
    yield opened
    opened.close()


def lines_of(folder: Path) -> list[bytes]:
    """The lines as they lie on the disk."""
    return (folder / NAME).read_bytes().splitlines()


def test_each_line_carries_the_hash_of_the_one_before(journal: Journal, tmp_path: Path) -> None:
    """Numbered from 1, times in UTC that do not run backwards, the first without a predecessor, the head known."""
    head = journal.write("end", outcome="done")
    lines = lines_of(tmp_path)
    events = [json.loads(line) for line in lines]
    assert [event["n"] for event in events] == [1, 2, 3]
    assert [event["event"] for event in events] == ["run", "note", "end"]
    assert [event["prev"] for event in events] == ["", *(hashlib.sha256(line).hexdigest() for line in lines[:-1])]
    assert head == journal.head == hashlib.sha256(lines[-1]).hexdigest()
    times = [event["at"] for event in events]
    assert times == sorted(times)
    assert all(each.endswith("Z") for each in times)


def test_another_run_goes_on_with_the_chain(journal: Journal, tmp_path: Path) -> None:
    """What was written stays, and the next line follows from the last."""
    journal.close()
    before = (tmp_path / NAME).read_bytes()
    again = new_journal(tmp_path)
    assert again.head == journal.head
    again.write("run", notebook="install")
    again.close()
    assert (tmp_path / NAME).read_bytes().startswith(before)
    check_chain(lines_of(tmp_path), tmp_path)
    assert [event["n"] for event in read(tmp_path)] == [1, 2, 3]


def test_the_journal_is_closed_to_others(journal: Journal, tmp_path: Path) -> None:
    """Mode 0600, whatever the umask is."""
    assert journal.head
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


def test_a_journal_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """Whoever can put a link there does not choose what is written to."""
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalUnusable, match="cannot be written"):
        new_journal(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


SAID: dict[str, tuple[object, object]] = {
    "text": (SECRET, "[secret]"),
    "within text": (f"x {SECRET} y", "x [secret] y"),
    "in a list": ([1, [SECRET]], [1, ["[secret]"]]),
    "in a tuple": ((SECRET,), ["[secret]"]),
    "in a mapping": ({"a": {"b": SECRET}}, {"a": {"b": "[secret]"}}),
    "as a name": ({SECRET: 1}, {"[secret]": 1}),
    "in a path": (Path("/x") / SECRET, "/x/[secret]"),
    "in an exception": (ValueError(SECRET), "[secret]"),
    "a word of ours": (Outcome.ROLLED_BACK, "rolled-back"),
    "values that are no text": ([None, True, 1, 2.5], [None, True, 1, 2.5]),
    "line ends": ("a\nb\r\u2028c", "a\nb\r\u2028c"),
    "half a character": ("a\ud800b", "a\ud800b"),
}


@pytest.mark.parametrize("case", SAID.values(), ids=SAID)
def test_what_is_written_is_redacted_and_read_back(tmp_path: Path, case: tuple[object, object]) -> None:
    """Whatever it is wrapped in; any text makes one line, and the chain goes on after it."""
    given, wanted = case
    journal = new_journal(tmp_path)
    journal.write("note", text=given)
    journal.write("end")
    journal.close()
    assert read(tmp_path)[0]["text"] == wanted
    assert SECRET.encode() not in (tmp_path / NAME).read_bytes()
    assert len(lines_of(tmp_path)) == 2
    new_journal(tmp_path).close()


def test_a_line_is_on_the_disk_before_the_next_thing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is synced with the whole line in it before `write` returns, and the folder when the file was made."""
    synced: list[tuple[bool, int]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        fsync(descriptor)
        facts = os.fstat(descriptor)
        synced.append((stat.S_ISDIR(facts.st_mode), facts.st_size))

    monkeypatch.setattr("os.fsync", noted)
    journal = new_journal(tmp_path)
    assert [folder for folder, _ in synced] == [True]
    for n in range(3):
        journal.write("note", text=str(n))
        assert synced[-1] == (False, (tmp_path / NAME).stat().st_size)
    journal.close()


WRITER = f"""
import sys
from pathlib import Path
from runbook_lib.record.journal import Journal
journal = Journal(Path(sys.argv[1]), str)
for n in range(1, 100000):
    journal.write("note", text="x" * {5000})
    sys.stdout.write(f"{{n}}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("after", [1, 7, 30])
def test_what_was_written_survives_a_kill(tmp_path: Path, after: int) -> None:
    """SIGKILL in the middle of writing: every event that was acknowledged is there, and the next run goes on."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        acknowledged = [int(writer.stdout.readline()) for _ in range(after)][-1]
        with pytest.raises(JournalUnusable, match="another run writes"):
            new_journal(tmp_path)
        writer.send_signal(signal.SIGKILL)
    assert len(read(tmp_path)) >= acknowledged
    new_journal(tmp_path).close()
    check_chain(lines_of(tmp_path), tmp_path)


def test_a_second_writer_is_refused(journal: Journal, tmp_path: Path) -> None:
    """In this process too; nothing is written, and when the first has ended the second may."""
    before = (tmp_path / NAME).read_bytes()
    with pytest.raises(JournalUnusable, match="another run writes") as caught:
        new_journal(tmp_path)
    assert caught.value.outcome is Outcome.REFUSED
    assert "wait" in caught.value.todo
    assert (tmp_path / NAME).read_bytes() == before
    journal.close()
    new_journal(tmp_path).close()


def test_a_closed_journal_writes_nowhere(journal: Journal, tmp_path: Path) -> None:
    """Its descriptor's number may be another file's by now: that one gets no line, and is not closed by a second close."""
    journal.close()
    before = (tmp_path / NAME).read_bytes()
    with (tmp_path / "other").open("wb", buffering=0) as other:
        with pytest.raises(OSError, match="Bad file descriptor"):
            journal.write("note", text="late")
        journal.close()
        other.write(b"x")
    assert (tmp_path / "other").read_bytes() == b"x"
    assert (tmp_path / NAME).read_bytes() == before


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The bytes of a journal of three events, no longer open."""
    journal = new_journal(tmp_path)
    for n in range(3):
        journal.write("note", text=f"event {n} Käse")
    journal.close()
    return (tmp_path / NAME).read_bytes()


def test_a_line_cut_short_anywhere_is_told_and_gone_on_from(whole: bytes, tmp_path: Path) -> None:
    """Cut at each byte of the last line: what came before stays, the tear is an event, and the chain holds for all readers."""
    start = whole.rindex(b"\n", 0, -1) + 1
    for end in range(start + 1, len(whole)):
        (tmp_path / NAME).write_bytes(whole[:end])
        for event in ("note", "end"):  # opened twice: the tear is told once
            again = new_journal(tmp_path)
            again.write(event)
            again.close()
        events = [event["event"] for event in read(tmp_path)]
        complete = end == len(whole) - 1
        assert events == ["note", "note", *(["note"] if complete else []), "torn", "note", "end"]
        assert (tmp_path / NAME).read_bytes().startswith(whole[:end] + b"\n")


def test_a_tear_within_the_tear_is_gone_on_from(whole: bytes, tmp_path: Path) -> None:
    """A run that is killed while it tells of a tear leaves a journal that can be gone on with, whatever it had written of it."""
    torn = whole[:-5]
    (tmp_path / NAME).write_bytes(torn)
    new_journal(tmp_path).close()
    told = (tmp_path / NAME).read_bytes()
    written = len(told) - len(torn)
    assert written > 100
    for size in range(written + 1):
        (tmp_path / NAME).write_bytes(told[: len(torn) + size])
        new_journal(tmp_path).close()
        twice = size == written - 1  # it stands there whole, but for the line's end
        assert [event["event"] for event in read(tmp_path)] == ["note", "note", "torn", *["torn"] * twice]


def test_the_tear_is_told_in_one_write(whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No kill can come between the end of the torn line and the event that tells of it."""
    (tmp_path / NAME).write_bytes(whole[:-5])
    writes: list[bytes] = []
    write = os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: writes.append(bytes(data)) or write(descriptor, data))  # type: ignore[func-returns-value]
    new_journal(tmp_path).close()
    assert len(writes) == 1
    assert writes[0].startswith(b'\n{"n": 4,')


def flip(data: bytes) -> bytes:
    """Another word in the second line."""
    return data.replace(b"event 1", b"event 7")


TAMPERED: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "a word changed": (flip, 3),
    "a line taken out": (lambda data: b"".join(data.splitlines(keepends=True)[::2]), 2),
    "the first line taken out": (lambda data: data.split(b"\n", 1)[1], 1),
    "two lines exchanged": (lambda data: b"".join(data.splitlines(keepends=True)[each] for each in (1, 0, 2)), 1),
    "a line twice": (lambda data: data + data.splitlines(keepends=True)[-1], 4),
    "a line that is no JSON": (lambda data: data + b"x\n", 4),
    "a line that is no mapping": (lambda data: data + b"[]\n", 4),
    "a line without a hash": (lambda data: data + b'{"event": "note"}\n', 4),
    "an empty line": (lambda data: data.replace(b"\n", b"\n\n", 1), 2),
    "no JSON in the middle": (lambda data: b"x\n".join(data.splitlines(keepends=True)), 2),
}  # fmt: skip


@pytest.mark.parametrize("case", TAMPERED.values(), ids=TAMPERED)
def test_a_journal_that_was_changed_is_refused(
    whole: bytes, tmp_path: Path, case: tuple[Callable[[bytes], bytes], int]
) -> None:
    """The line is named, the file is left as it is, and asking again in the same process says the same."""
    change, line = case
    (tmp_path / NAME).write_bytes(change(whole))
    for _ in range(2):
        with pytest.raises(JournalUnusable, match=f"does not hang together at line {line}") as caught:
            new_journal(tmp_path)
    assert "keep it as it is" in caught.value.todo
    assert (tmp_path / NAME).read_bytes() == change(whole)


def test_a_torn_line_in_the_middle_must_be_told_of(whole: bytes, tmp_path: Path) -> None:
    """A damaged line is forgiven only before a `torn` event that carries its hash."""
    (tmp_path / NAME).write_bytes(whole[:-5])
    new_journal(tmp_path).close()
    damaged = (tmp_path / NAME).read_bytes().replace(b"event 2", b"event 7")
    (tmp_path / NAME).write_bytes(damaged)
    with pytest.raises(JournalUnusable, match="at line 3"):
        new_journal(tmp_path)


def test_a_full_disk_leaves_no_half_line(journal: Journal, tmp_path: Path) -> None:
    """What cannot be written as a whole is an error at once, so that nothing is done without its intent; room made, it goes on."""
    size, limits = (tmp_path / NAME).stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    head = journal.head
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.write("intent", purpose="swap the pair")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / NAME).stat().st_size == size
    assert journal.head == head
    journal.write("note", text="room again")
    assert [event["event"] for event in read(tmp_path)] == ["run", "note", "note"]
    check_chain(lines_of(tmp_path), tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """With the reason, and what to look at."""
    with pytest.raises(JournalUnusable, match="cannot be written") as caught:
        new_journal(tmp_path / "absent")
    assert "records_dir" in caught.value.todo
    assert "No such file" in caught.value.why


READ: dict[str, tuple[bytes, list[str]]] = {
    "nothing": (b"", []),
    "no JSON": (b"x\n", []),
    "JSON that is no event": (b'[]\n1\n"a"\nnull\n{}\n{"event": "a"}\n{"at": "b"}\n', []),
    "an event among them": (b'x\n{"event": "a", "at": "b"}\n[]\n', ["a"]),
    "an event without its line end": (b'{"event": "a", "at": "b"}\n{"event": "c", "at": "d"}', ["a"]),
    "bytes that are no text": (b'\xff\xfe\n{"event": "a", "at": "b"}\n', ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("case", READ.values(), ids=READ)
def test_reading_takes_what_is_an_event(tmp_path: Path, case: tuple[bytes, list[str]]) -> None:
    """And changes nothing: a reader is no writer."""
    data, events = case
    (tmp_path / NAME).write_bytes(data)
    assert [event["event"] for event in read(tmp_path)] == events
    assert (tmp_path / NAME).read_bytes() == data


def test_reading_what_is_not_there_gives_nothing(tmp_path: Path) -> None:
    """Neither an absent folder nor a folder in the journal's place is an error."""
    assert read(tmp_path / "absent") == ()
    (tmp_path / NAME).mkdir()
    assert read(tmp_path) == ()
    shutil.rmtree(tmp_path / NAME)


def event(kind: str, **fields: Any) -> Event:  # noqa: ANN401 - any JSON value
    """One event."""
    return {"event": kind, "at": "2026-06-01T12:00:00Z", **fields}


RUN = event("run", notebook="install")
MAKE = {"step": "make key", "purpose": "make a new rsa-2048 key"}
ARM = {"step": "install", "purpose": "arm the guard: the old pair comes back in 300 s unless confirmed"}
CONFIRM = {"step": "confirm", "purpose": "keep the new pair, disarm the guard"}
SWAP = {"step": "install", "purpose": "swap the pair"}


def done(command: dict[str, str]) -> tuple[Event, Event]:
    """A command with its result."""
    return event("intent", **command), event("result", **command, status=0)


OUTCOMES: dict[str, tuple[tuple[Event, ...], Outcome]] = {
    **{f"ended {word}": ((RUN, event("end", outcome=word)), word) for word in Outcome},
    "killed before anything": ((RUN,), Outcome.FAILED),
    "killed during the checks": ((RUN, event("checks"), event("plan")), Outcome.FAILED),
    "killed between commands of a request": ((RUN, *done(MAKE)), Outcome.FAILED),
    "killed in a command of a request": ((RUN, *done(MAKE), event("intent", **MAKE)), Outcome.UNKNOWN),
    "killed in a command, with a note after it": ((RUN, event("intent", **MAKE), event("note", text="x")), Outcome.UNKNOWN),
    "killed while the guard is armed": ((RUN, event("intent", **ARM)), Outcome.UNKNOWN),
    "killed after the guard was armed": ((RUN, *done(ARM)), Outcome.UNKNOWN),
    "killed after the swap": ((RUN, *done(ARM), *done(SWAP)), Outcome.UNKNOWN),
    "killed in the swap": ((RUN, *done(ARM), event("intent", **SWAP)), Outcome.UNKNOWN),
    "ended after the guard was armed": ((RUN, *done(ARM), *done(SWAP), event("end", outcome="done")), Outcome.DONE),
    "confirmed, and no summary": ((RUN, *done(ARM), *done(SWAP), *done(CONFIRM)), Outcome.DONE),
    "killed in the confirm": ((RUN, *done(ARM), event("intent", **CONFIRM)), Outcome.UNKNOWN),
    "a confirm that failed": ((RUN, *done(ARM), event("intent", **CONFIRM), event("result", **CONFIRM, status=3)), Outcome.UNKNOWN),
    "an earlier run ended, the last was killed": ((RUN, event("end", outcome="done"), RUN), Outcome.FAILED),
    "an earlier run was killed when armed, the last ended": ((RUN, *done(ARM), RUN, event("end", outcome="rolled-back")), Outcome.ROLLED_BACK),
    "an earlier run was killed when armed, the last before anything": ((RUN, *done(ARM), RUN), Outcome.FAILED),
    "ended, then ended otherwise": ((RUN, event("end", outcome="failed"), event("end", outcome="unknown")), Outcome.UNKNOWN),
    "nothing": ((), Outcome.FAILED),
}  # fmt: skip


@pytest.mark.parametrize("case", OUTCOMES.values(), ids=OUTCOMES)
def test_the_outcome_follows_from_the_events(case: tuple[tuple[Event, ...], Outcome]) -> None:
    """A run without an end is unknown where a command had begun whose result nobody heard, or the guard was armed."""
    events, outcome = case
    assert outcome_of(events) is outcome


def numbered(*events: Event) -> tuple[Event, ...]:
    """Events with their numbers."""
    return tuple({**each, "n": n} for n, each in enumerate(events, 1))


def test_what_nobody_heard_of_is_closed_once() -> None:
    """An intent without a result is an orphan until a later run has closed it as unknown."""
    killed = (RUN, *done(MAKE), event("intent", **MAKE))
    assert [each["n"] for each in orphans(numbered(*killed))] == [4]
    assert [each["n"] for each in orphans(numbered(*killed, RUN, *done(SWAP), event("intent", **ARM)))] == [4, 8]
    assert orphans(numbered(*killed, RUN, event("unknown", orphans=[4]), *done(SWAP))) == ()
    assert orphans(numbered(RUN, *done(MAKE), event("end", outcome="done"))) == ()


def test_the_last_run_is_what_follows_its_beginning() -> None:
    """Events before any run belong to none but are not lost."""
    first, second = event("run", n=1), event("run", n=2)
    assert last_run([first, event("note"), second, event("end")]) == [second, event("end")]
    assert last_run([event("note")]) == [event("note")]
    assert last_run([]) == []
