"""The archive: one folder a change, closed to others, and what is told of it."""

import datetime as dt
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import Refused
from runbook_lib.files import read_regular, write_whole
from runbook_lib.models import CHANGE_ID
from runbook_lib.record.journal import NOT_OURS, Event, Journal, read
from runbook_lib.tables import milliseconds

_MAY_BE_EMPTY = {".", "files", "notebooks", "seals"}


@dataclass(frozen=True, slots=True)
class Record:
    """The open record of a change."""

    folder: Path
    journal: Journal

    def add_file(self, name: str, data: bytes) -> Path:
        """Keeps a file, written once: other bytes under the same name get a number, the same bytes are kept as they are."""
        stem, suffix = Path(name).stem, Path(name).suffix
        for number in range(1, 1000):
            path = self.folder / "files" / (name if number == 1 else f"{stem}-{number}{suffix}")
            if not os.path.lexists(path):
                write_whole(path, data)
                self.journal.write("file", name=path.name, bytes=len(data))
                return path
            with suppress(OSError):  # what is no file of ours, or is another one
                if read_regular(path, len(data), follow=False) == data:
                    return path
        msg = f"a thousand files named {name}"
        raise FileExistsError(msg)

    def notebook_path(self, started: dt.datetime, name: str) -> Path:
        """Where the executed notebook of a run goes."""
        return self.folder / "notebooks" / f"{started:%Y%m%dT%H%M%SZ}-{name}.ipynb"


def open_record(records_dir: Path, change_id: str, redact: Callable[[str], str]) -> Record:
    """Opens the record of a change, a new one or one to go on with.

    Raises:
        Refused: The place cannot be written.
        JournalUnusable: Another run writes it, or it is broken.
    """
    if not CHANGE_ID.fullmatch(change_id):
        raise Refused(f"{change_id!r} is no change id", todo="an id looks like 20261124T220000Z-1a2b3c")
    folder = records_dir / change_id
    try:
        for each in (folder, folder / "notebooks", folder / "files"):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"no record can be kept in {records_dir}", why=str(error), todo="name another records_dir"
        ) from None
    return Record(folder, Journal(folder, redact))


def story(folder: Path) -> Iterator[tuple[str, str, str]]:
    """A record as a person reads it: when, what, and more about it, an event each."""
    for event in read(folder):
        try:
            row = str(event["at"])[:19].replace("T", " "), str(event["event"]), told(event)
        except NOT_OURS:
            row = "", "not understood", "no event as this version writes it"
        yield row


def told(event: Event) -> str:  # noqa: C901, PLR0911, PLR0912 - one line an event reads best
    """What a person is told of an event.

    Raises:
        NOT_OURS: It is no event as this version writes it.
    """
    match event["event"]:
        case "run":
            who = f"operator {event['operator']}, ticket {event.get('ticket') or 'none'}"
            return f"{event['notebook']} on {event['host']}, apply {event.get('apply', False)}, {who}"
        case "checks":
            odd = [
                f"{check['verdict']}: {check['question']} {check['found']}"
                for check in event["checks"]
                if check["verdict"] != "pass"
            ]
            return "; ".join(
                [f"{event['step']}: checks: {counted([check['verdict'] for check in event['checks']]) or 'none'}", *odd]
            )
        case "compare":
            keys = {digest for each in event["digests"] for digest in each[1:]}
            files = ", ".join(each[0] for each in event["digests"])
            return f"{len(keys)} public key{'' if len(keys) == 1 else 's'} in {files}: {', '.join(sorted(keys))}"
        case "plan":
            number = len(event["commands"])
            return f"plan of {number} command{'' if number == 1 else 's'}, sha256:{event['sha256']}"
        case "intent":
            return f"{event['step']}: {event['purpose']}"
        case "result":
            return f"{event['step']}: {event['purpose']}: exit status {event['status']}, {event['duration_s'] * 1000:.0f} ms"
        case "facts":
            return f"{event['hostname']} as found; state of the change: {event.get('state') or 'not noted'}"
        case "certificate":
            return f"{event['role']}: {event['common_name']}, until {event['not_after'][:10]}, sha256 {event['sha256']}"
        case "probe":
            return f"outage {milliseconds(event['outage_ms'])} in {event['samples']} probes"
        case "browser":
            told_of = (
                event["error"],
                event["protocol"],
                f"HTTP {event['status']}" * bool(event["status"]),
                event["title"],
            )
            return f"{event['when']}: {event['address']}: {', '.join(filter(None, (event['said'], *told_of)))}"
        case "guard":
            return "; ".join(event["lines"])
        case "file":
            return f"{event['name']}, {event['bytes']} bytes"
        case "end":
            return f"{event['outcome']}: {event['what']}" if event["what"] else str(event["outcome"])
        case _:
            return str(event["text"]) if "text" in event else _fields_of(event)


def _fields_of(event: Event) -> str:
    """An event of a kind that is not known here, field by field."""
    fields = {name: value for name, value in event.items() if name not in {"n", "at", "event", "prev"}}
    return "; ".join(
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in fields.items()
    )


def counted(words: Sequence[str]) -> str:
    """How often each word is there: `17 pass, 1 warn`."""
    return ", ".join(f"{words.count(each)} {each}" for each in dict.fromkeys(words))


def files_of(folder: Path) -> dict[str, Path]:
    """Every file of a record by its path in it, and whatever else is the last thing on its path.

    A link is one, wherever it leads, and is not followed; so is a folder in which nothing lies, but for those that a record
    begins with, and one that cannot be read: whoever reads all that is here must not pass over it.
    """
    found: list[Path] = []
    folders = [folder]
    while folders:
        here = folders.pop()
        within = folders_and_others(here)
        if within is None or not (any(within) or str(here.relative_to(folder)) in _MAY_BE_EMPTY):
            found.append(here)
        for each, more in zip(within or (), (folders, found), strict=False):
            more.extend(each)
    return {str(each.relative_to(folder)): each for each in sorted(found)}


def folders_and_others(folder: Path) -> tuple[list[Path], list[Path]] | None:
    """What lies in a folder: the folders, and everything else, links to folders among it; None where that cannot be read."""
    inside: tuple[list[Path], list[Path]] = [], []
    try:
        with os.scandir(folder) as entries:
            for each in entries:
                inside[not each.is_dir(follow_symlinks=False)].append(Path(each.path))
    except OSError:
        return None
    return inside


def contents(folder: Path) -> tuple[str, ...]:
    """The files of a record with their sizes."""
    return tuple(f"{name}  {_size(path)}" for name, path in files_of(folder).items())


def _size(path: Path) -> str:
    try:
        facts = path.lstat()
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    return "no regular file" if not stat.S_ISREG(facts.st_mode) else f"{facts.st_size} bytes"
