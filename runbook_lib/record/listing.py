"""The records of a folder, a line each, and which of them are asked for.

The folder may be written by many: what cannot be read, or is no journal, is a line of its own and keeps no other from being listed.
"""

import dataclasses
import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runbook_lib import models
from runbook_lib.files import read_regular
from runbook_lib.record import journal, seal
from runbook_lib.record.index import Index, identity

LARGEST = 1 << 24  # bytes of a journal; a run writes some 40,000, and what is read of them takes many times as much
BROKEN, UNREADABLE, TOO_LARGE, DAMAGED = "broken", "unreadable", "too-large", "damaged"
UNTOLD = (BROKEN, UNREADABLE, TOO_LARGE, DAMAGED)
_SECOND = len("20261124T220000Z")
_LONGEST = 200  # characters of a name or a ticket
_FAULTS = {errno.ENOENT: BROKEN, errno.ENOTDIR: BROKEN, errno.EINVAL: BROKEN, errno.EFBIG: TOO_LARGE}


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """One record in a list, with outcome, ticket and operator of the last run that made a difference to how the change stands.

    Attributes:
        change_id: The folder's name.
        server: `host` of that run.
        runs: The notebooks that were run, oldest first.
        started, last: When the first and the last event were written, UTC, ISO 8601; the id's time where no event is known.
        outcome: An outcome, or one of UNTOLD, where all that is known is the id: `broken` where there is no journal of ours,
            `unreadable` where this user may not read it, `too-large` where it has more than LARGEST bytes; `damaged` where its
            lines do not hang together, so that what else is told of it may not be what was written.
        ticket: Of that run, or of the last one before it that named one.
        operator: Of that run.
        sealed: `yes`, `no`, or `in part` where more was written after the newest seal, as that seal says; nothing is proven here.
        approved: Who approved its newest plan, as its journal says; nothing is proven here.
    """

    change_id: str
    server: str
    runs: tuple[str, ...]
    started: str
    last: str
    outcome: str
    ticket: str
    operator: str
    sealed: str = ""
    approved: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are asked for; what is empty asks for nothing.

    A name is one server's, so it is compared whole, in any case of its letters (RFC 4343). A ticket is free text and may name more than one:
    a part of it is enough. A change may wait days for its CA: it is taken when anything of it happened within the time.

    Attributes:
        server: The server's name, as `host` of the parameters.
        outcomes: Any of these.
        ticket: A part of the ticket, in any case of its letters.
        since, until: The first and the last moment, UTC, as the journal writes them.
    """

    server: str = ""
    outcomes: tuple[str, ...] = ()
    ticket: str = ""
    since: str = ""
    until: str = ""

    def takes(self, record: RecordSummary) -> bool:
        """Whether a record is one of them."""
        return (
            self.server.casefold() in {"", record.server.casefold()}
            and self.ticket.casefold() in record.ticket.casefold()
            and (not self.outcomes or record.outcome in self.outcomes)
            and self.since <= record.last
            and (not self.until or record.started <= self.until)
        )


def list_records(records_dir: Path) -> tuple[RecordSummary, ...]:
    """Every record, oldest first; a link is none, wherever it leads.

    Raises:
        OSError: The folder cannot be read.
    """
    if not records_dir.is_dir():
        return ()
    index = Index(records_dir, _made_by())
    with os.scandir(records_dir) as entries:
        folders = [
            each.path
            for each in entries
            if models.CHANGE_ID.fullmatch(each.name) and each.is_dir(follow_symlinks=False)
        ]
    found = [_summary(each, index) for each in folders]
    index.save()
    # an id tells the second; two changes that were begun within one are told apart by their first event
    return tuple(sorted(found, key=lambda each: (each.change_id[:_SECOND], each.started, each.change_id)))


def _made_by() -> bytes:
    """What decides what a journal says: this code."""
    files = (__file__, journal.__file__, models.__file__, seal.__file__)
    return hashlib.sha256(b"".join(Path(each).read_bytes() for each in files)).digest()


def _summary(folder: str, index: Index) -> RecordSummary:
    change_id, path = os.path.basename(folder), f"{folder}/{journal.NAME}"  # noqa: PTH119 - ten thousand Paths take a tenth of a second
    try:
        facts = os.lstat(path)
        if not stat.S_ISREG(facts.st_mode):
            return _untold(change_id, BROKEN)
        seen = identity(facts, _seals(folder))
        if derived := index.look_up(change_id, seen):
            return _kept(change_id, derived)
        data = read_regular(Path(path), LARGEST)
    except OSError as error:
        return _untold(change_id, _FAULTS.get(error.errno or 0, UNREADABLE))
    summary = _derived(change_id, journal.events_in(data))
    if summary.outcome != BROKEN:
        summary = replace(
            summary, sealed=_sealed(Path(folder), data), outcome=summary.outcome if _whole(data) else DAMAGED
        )
    index.note(change_id, seen, dataclasses.astuple(summary)[1:])
    return summary


def _seals(folder: str) -> os.stat_result | None:
    try:
        facts = os.lstat(f"{folder}/{seal.FOLDER}")
    except OSError:
        return None
    return facts if stat.S_ISDIR(facts.st_mode) else None


def _whole(data: bytes) -> bool:
    """Whether the lines of a journal hang together; what stands after the last line end was cut short by a kill."""
    try:
        journal.check_chain(data.split(b"\n")[:-1], Path(journal.NAME))
    except journal.JournalUnusable:
        return False
    return True


def _sealed(folder: Path, data: bytes) -> str:
    lines = seal.lines_sealed(folder) if _seals(str(folder)) else 0
    return "no" if not lines else "yes" if lines == data.count(b"\n") and data.endswith(b"\n") else "in part"


def _approved(events: Sequence[journal.Event]) -> str:
    """Who approved the newest plan that can be approved: by a signature in this record, or in another over the same plan."""
    plans = [number for number, each in enumerate(events) if each["event"] == "plan" and each.get("file")]
    if not plans:
        return ""
    plan, later = events[plans[-1]]["sha256"], events[plans[-1] :]
    signed = [each["approver"] for each in events if each["event"] == "approved" and each["plan"] == plan]
    seen = [name.partition(" ")[0] for each in later if each["event"] == "approval" for name in each.get("by", ())]
    return ", ".join(dict.fromkeys([*signed, *seen]))


def _derived(change_id: str, events: Sequence[journal.Event]) -> RecordSummary:
    try:
        runs = [run[0] for run in journal.runs_of(events)]
        told = journal.telling_run(events)
        begun = told[0]
        outcome = journal.outcome_of(told)
        return RecordSummary(
            change_id=change_id,
            server=_cut(begun.get("host")),
            runs=tuple(_cut(run.get("notebook")) for run in runs),
            started=_cut(events[0]["at"]),
            last=_cut(events[-1]["at"]),
            outcome=outcome.value,
            ticket=_cut(journal.ticket_of(events, told)),
            operator=_cut(begun.get("operator")),
            approved=_cut(_approved(events)),
        )
    except journal.NOT_OURS:
        return _untold(change_id, BROKEN)


def _cut(value: object) -> str:
    return str("" if value is None else value)[:_LONGEST]


def _untold(change_id: str, why: str) -> RecordSummary:
    date, time = change_id[:8], change_id[9:15]
    at = f"{date[:4]}-{date[4:6]}-{date[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}Z"
    return RecordSummary(change_id, "", (), at, at, why, "", "")


def _kept(change_id: str, derived: Sequence[Any]) -> RecordSummary:
    server, runs, *more = derived
    return RecordSummary(change_id, server, tuple(runs), *more)
