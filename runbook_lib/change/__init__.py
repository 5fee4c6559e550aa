"""The conductor of one change."""

import datetime as dt
import secrets
from collections.abc import Callable
from dataclasses import replace

from runbook_lib.change.base import Change, connection_lost
from runbook_lib.change.install import Install
from runbook_lib.change.noting import begin
from runbook_lib.change.request import Request
from runbook_lib.change.restore import Restore
from runbook_lib.errors import RunbookError
from runbook_lib.models import ChangeFolder, Facts
from runbook_lib.record.archive import Record
from runbook_lib.record.journal import JournalUnusable
from runbook_lib.server.shell import ShellLost
from runbook_lib.server.survey import read_change, read_facts
from runbook_lib.session import Prepared, Session, open_session
from runbook_lib.state import Choice, choose_change

__all__ = ["Change", "Install", "Request", "Restore", "go_on", "new_change_id", "open_change", "open_next"]
KINDS: dict[str, type[Change]] = {"request": Request, "install": Install, "restore": Restore}


def new_change_id() -> str:
    """An id for a change: UTC to the second and six random hex digits."""
    return f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


async def open_change(prepared: Prepared, open_record: Callable[[str], Record]) -> Change:
    """Connects, reads the server, and finds the change this run goes on with or opens.

    Args:
        prepared: A run that is ready to contact its server.
        open_record: Opens the local record of a change id.

    Raises:
        Refused: The server could not be reached or read, or the change cannot be gone on with.
        UnusableParameters: Several changes are open and none was named.
    """
    asked = prepared.parameters.change_id
    named = asked if asked not in {"", "new"} and prepared.kind != "restore" else ""
    session, record = None, None
    try:
        session = await open_session(prepared)
        facts, choice = await _read(prepared, session)
        goes_on = "" if prepared.kind == "restore" else choice.change_id
        change_id = goes_on or (choice.last if prepared.kind == "install" else "") or new_change_id()
        record = open_record(change_id)
        begin(record, prepared, facts.change(change_id))
    except BaseException as error:
        if session is not None:
            await session.close()
        if isinstance(error, OSError) and record is not None:
            record.journal.close()  # to be tried again in the same kernel, when there is room
            raise JournalUnusable(
                "no record can be kept", why=str(error), todo="make room, or name another records_dir"
            ) from None
        if not isinstance(error, RunbookError):
            raise
        ended = connection_lost(error, "read") if isinstance(error, ShellLost) else error
        _ended_early(open_record, prepared, "" if isinstance(error, JournalUnusable) else named, ended)
        raise ended from None
    if choice.supersedes:
        would = "supersedes" if prepared.parameters.apply else "would supersede"
        record.journal.write("note", text=f"{would} {', '.join(choice.supersedes)}")
    return KINDS[prepared.kind](prepared, session, record, facts, choice, change_id)


async def _read(prepared: Prepared, session: Session) -> tuple[Facts, Choice]:
    given = prepared.parameters
    wanted = [given.change_id] if given.change_id not in {"", "new"} else []
    facts = await read_facts(session.shell, given, session.connection.host_key, wanted)
    choice = _choose(prepared, facts)
    if choice.change_id and choice.change_id not in {each.change_id for each in facts.changes}:
        facts = facts.with_change(await read_change(session.shell, given, ChangeFolder(choice.change_id)))
    return facts, choice


def _ended_early(open_record: Callable[[str], Record], prepared: Prepared, change_id: str, error: RunbookError) -> None:
    """The record of a run that ended before its change was found: of the change that was named, else of its own."""
    change_id = change_id or new_change_id()
    record = open_record(change_id)
    begin(record, prepared, ChangeFolder(change_id))
    record.journal.write("end", outcome=error.outcome, what=error.diagnostics(), todo=error.todo)
    record.journal.close()


async def open_next(prepared: Prepared, open_record: Callable[[str], Record]) -> Change:
    """The run that would come next for this server: the install when a certificate is there for it, else the request."""
    change = await open_change(prepared, open_record)
    ready = change.own.staged.chain or (prepared.handed_in and change.own.csr)
    if prepared.kind != "request" or not ready:
        return change
    return _installing(change)


def go_on(request: Change) -> Install:
    """The install of what a request staged, a run of its own in the same record, over the same connection and facts."""
    install = _installing(request)
    begin(install.record, install.prepared, install.own)
    return install


def _installing(change: Change) -> Install:
    prepared = replace(change.prepared, kind="install")
    return Install(prepared, change.session, change.record, change.facts, change.choice, change.change_id)


def _choose(prepared: Prepared, facts: Facts) -> Choice:
    given = prepared.parameters
    if prepared.kind != "restore":
        return choose_change(given.change_id, facts.listed, host=given.host)
    choice = choose_change("new", facts.listed, host=given.host)
    # not the last restore: run twice, it would bring back what was just taken away
    replaced = [name for name, kind, decided in facts.listed if kind == "replace" and decided == "confirmed"]
    return replace(choice, change_id=given.change_id or (replaced[-1] if replaced else ""), supersedes=())
