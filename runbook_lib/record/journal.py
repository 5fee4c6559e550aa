"""The journal: what happens to a change, an event a line, written before and after it happens.

Each line carries the hash of the line before, and is on the disk before the next thing is done. What the record says of a
change is derived from these lines and stored nowhere else.
"""

import datetime as dt
import fcntl
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.errors import Refused
from runbook_lib.files import read_regular
from runbook_lib.models import ARMING, Outcome

NAME = "journal.jsonl"
_BEGINS = b'{"n": '
LARGEST = 64 << 20  # bytes; a run writes some 40,000
Event = Mapping[str, Any]
# What reading an event raises that was written by something else.
NOT_OURS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_LEAVES_AS_IT_IS = {Outcome.NOTHING_TO_DO, Outcome.REFUSED, Outcome.PLANNED, Outcome.UNUSABLE}


class JournalUnusable(Refused):
    """The journal on this side is in use, broken or not writable."""


class Journal:
    """The journal of one change, open for writing by this process alone.

    Args:
        folder: The record's folder.
        redact: Takes secrets out of a text.

    Attributes:
        heard: Called with every event when it is on the disk.

    Raises:
        JournalUnusable: Another process writes it, or its lines do not hang together.
    """

    def __init__(self, folder: Path, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self.heard: Callable[[Event], object] = _nobody
        path = folder / NAME
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalUnusable(
                f"another run writes {path}",
                todo="wait until it has ended, or end it: in JupyterLab, shut its kernel down",
            ) from None
        except OSError as error:
            raise JournalUnusable(f"{path} cannot be written", why=str(error), todo="check records_dir") from None
        self._before = b""
        try:
            _sync_folder(folder)
            self._go_on(path)
        except BaseException:
            self.close()
            raise

    def _go_on(self, path: Path) -> None:
        """Takes up number and hash of the last line; a line that a crash cut short is ended, and told as such."""
        data = path.read_bytes()
        lines = data.splitlines()
        if len(lines) > 1 and _cut_short(lines[-1]) and _cut_short(lines[-2]):
            lines.pop()  # the telling of the tear was itself cut short; it is told anew, and nothing is lost with it
        torn = bool(lines) and _cut_short(lines[-1])
        check_chain(lines[:-1] if torn else lines, path)
        self._count, self.head = len(lines), _digest(lines[-1]) if lines else ""
        if torn:
            os.ftruncate(self._file, len(b"\n".join(lines)))
        if torn or (data and not data.endswith(b"\n")):
            self._before = b"\n"  # goes out with the event in one write, so that no crash comes between them
            self.write(
                "torn", text="the line before was cut short: the process that wrote it was killed or the disk was full"
            )

    def write(self, event: str, **fields: object) -> str:
        """Writes one event and brings it to the disk.

        Args:
            event: What happened, one word.
            fields: More about it: text, numbers, lists, mappings.

        Returns:
            The hash of the line, lower-case hex SHA-256.

        Raises:
            OSError: It could not be written as a whole; then nothing of it stands in the journal.
        """
        at = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        content = {"n": self._count + 1, "at": at, "event": event, **self._clean(fields), "prev": self.head}
        line = json.dumps(content, ensure_ascii=False).encode(errors="backslashreplace")
        self._append(self._before + line + b"\n")
        self._count, self.head, self._before = self._count + 1, _digest(line), b""
        self.heard(content)
        return self.head

    def _append(self, data: bytes) -> None:
        size = os.fstat(self._file).st_size
        try:
            while data:  # a full disk takes a part first and says so at the next write
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, size)
            raise

    def _clean(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, str):
            return self._redact(value)
        if isinstance(value, Mapping):
            return {self._redact(str(name)): self._clean(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        return value if value is None or isinstance(value, int | float) else self._redact(str(value))

    @property
    def closed(self) -> bool:
        """Whether another process may write."""
        return self._file < 0

    def close(self) -> None:
        """Lets another process write; closed once more, it does nothing."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1  # the number may soon be another file's


def _nobody(_event: Event) -> None:
    """Hears an event that nobody waits for."""


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_chain(lines: Sequence[bytes], path: Path) -> None:
    """Whether each line carries the hash of the one before.

    Raises:
        JournalUnusable: It does not; the text names the line.
    """
    head = ""
    for number, line in enumerate(lines, 1):
        try:
            previous = json.loads(line)["prev"]
        except (ValueError, KeyError, TypeError, RecursionError):
            previous = None
            if number < len(lines) and _is_torn(lines[number], _digest(line)):
                previous = head
        if previous != head:
            raise JournalUnusable(
                f"{path} does not hang together at line {number}", todo="keep it as it is and use another records_dir"
            )
        head = _digest(line)


def _cut_short(line: bytes) -> bool:
    """Whether a line begins as an event does and is none."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return line[: len(_BEGINS)] == _BEGINS[: len(line)]
    return False


def _is_torn(following: bytes, digest: str) -> bool:
    """Whether the next line tells that this one was cut short."""
    try:
        event = json.loads(following)
    except (ValueError, RecursionError):
        return False
    return isinstance(event, dict) and event.get("event") == "torn" and event.get("prev") == digest


def read(folder: Path, offset: int = 0) -> tuple[Event, ...]:
    """The events of a record, oldest first, from a byte of the journal on; a line that is no event is left out."""
    try:
        return events_in(whole(folder)[offset:])
    except OSError:
        return ()


def whole(folder: Path) -> bytes:
    """The journal of a record as it lies there.

    Raises:
        OSError: It cannot be read, or is no journal of ours: a link, a pipe, more than LARGEST bytes.
    """
    return read_regular(folder / NAME, LARGEST, follow=False)


def events_in(data: bytes) -> tuple[Event, ...]:
    """The events among the lines of a journal, oldest first; a line that is no event is left out."""
    lines = (line for line in data.split(b"\n")[:-1] if line[:1] == b"{")  # passes over millions of bare line ends
    return tuple(event for event in map(event_of, lines) if event)


def event_of(line: bytes) -> Event:
    """The event in a line; empty where there is none."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):  # the second where brackets are nested by the thousand
        return {}
    return event if isinstance(event, dict) and {"event", "at"} <= event.keys() else {}


def runs_of(events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """The runs, each with its own events."""
    starts = [index for index, event in enumerate(events) if event["event"] == "run"]
    for begin, end in itertools.pairwise([*starts, len(events)]):
        yield events[begin:end]


def last_run(events: Sequence[Event]) -> Sequence[Event]:
    """The events of the last run alone."""
    starts = [index for index, event in enumerate(events) if event["event"] == "run"]
    return events[starts[-1] :] if starts else events


def telling_run(events: Sequence[Event]) -> Sequence[Event]:
    """The last run that made a difference to how the change stands; the last one where none did.

    A run that found nothing to do, was refused or only planned has left it as it was.
    """
    runs = list(runs_of(events))
    return next((run for run in reversed(runs) if outcome_of(run) not in _LEAVES_AS_IT_IS), runs[-1] if runs else ())


def ticket_of(events: Sequence[Event], run: Sequence[Event]) -> str:
    """The ticket of a run, or the last one before it: a run that goes on with a change need not say it again; empty where there is none."""
    until = events.index(run[0]) + 1 if run and run[0] in events else len(events)
    return next(
        (str(each["ticket"]) for each in reversed(events[:until]) if each["event"] == "run" and each.get("ticket")), ""
    )


def outcome_of(events: Sequence[Event]) -> Outcome:
    """How the last run ended, derived from its events.

    Its `end` says so. Without one the run was killed or goes on: a confirm that came back well decides for good; where a
    command was begun and no result came, or the guard was armed, what is served is not known from here; else nothing had
    been begun that touches the live pair.
    """
    run = last_run(events)
    end = next((event for event in reversed(run) if event["event"] == "end"), None)
    if end:
        return Outcome(end["outcome"])
    begun = [event for event in run if event["event"] in {"intent", "result"}]
    armed = any(map(arms, begun))
    last = begun[-1] if begun else {}
    if last.get("event") == "result" and last["step"] == "confirm" and last["status"] == 0:
        return Outcome.DONE
    return Outcome.UNKNOWN if armed or last.get("event") == "intent" else Outcome.FAILED


def orphans(events: Sequence[Event]) -> tuple[Event, ...]:
    """The intents of which no result ever came, and that no later run has closed as unknown yet."""
    left: dict[int, Event] = {}
    for event in events:
        match event["event"]:
            case "intent":
                left[event["n"]] = event
            case "result" if left:
                left.popitem()
            case "unknown":
                left = {n: each for n, each in left.items() if n not in event["orphans"]}
    return tuple(left.values())


def arms(event: Event) -> bool:
    """Whether an event begins the arming of the guard, from where on the live pair may be touched."""
    return event["event"] == "intent" and event["step"] == "install" and bool(event["purpose"].startswith(ARMING))


def puts_back(event: Event) -> bool:
    """Whether an event begins the way back, by which the old pair becomes the live pair again."""
    return bool(event["event"] == "intent" and event["step"] == "roll back")
