"""The bind cell: the notebook's parameters become a run that is connected, recorded and ready for its checks."""

import asyncio
import datetime as dt
import getpass
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, overload

from IPython.core.getipython import get_ipython
from IPython.core.interactiveshell import InteractiveShell

from runbook_lib.audit import Audit, audit
from runbook_lib.change import Change, new_change_id, open_change
from runbook_lib.change.apply import ticking
from runbook_lib.errors import Refused, RunbookError, UnusableParameters
from runbook_lib.jupyter.ending import Ending
from runbook_lib.jupyter.headless import announce
from runbook_lib.jupyter.notebook import Ran
from runbook_lib.jupyter.recorder import Recorder
from runbook_lib.models import Outcome
from runbook_lib.parameters import Parameters, project_folder
from runbook_lib.record.archive import Record, open_record
from runbook_lib.secrets import REGISTRY
from runbook_lib.session import NOTEBOOKS, Kind, Prepared, prepare

_PLAIN = (str, int, float, list, dict, tuple, type(None))
_NOTHING = object()
_endings: list[Ending] = []
_recorders: list[Recorder] = []


@overload
async def bind(kind: Literal["audit"]) -> Audit: ...
@overload
async def bind(kind: Literal["request", "install", "restore"]) -> Change: ...
async def bind(kind: Kind) -> Change | Audit:
    """Binds the notebook to its server: takes the parameters cell, starts the recorder, connects and reads.

    Args:
        kind: Which notebook this is: `audit`, `request`, `install` or `restore`.

    Returns:
        The run whose methods the following cells call.

    Raises:
        UnusableParameters: With every fault; nothing was contacted.
        Refused: The server could not be reached or read; nothing was changed.
    """
    shell = get_ipython()
    if shell is None:
        raise Refused("bind is called outside a notebook", todo="run the notebooks, or `runbook`")
    carried = await _close_earlier()
    base = project_folder(Path.cwd())
    values = given_parameters(shell.user_ns, shell.user_ns_hidden)
    name = NOTEBOOKS[kind]
    recorder = Recorder(shell, REGISTRY.redact, lambda: REGISTRY.longest, base / "notebooks" / f"{name}.ipynb")
    recorder.start(carried)
    _recorders.append(recorder)
    try:
        prepared = prepare(kind, values, base, _asker(shell, values.get("mode", "auto")))
    except UnusableParameters:
        announce(None, Outcome.UNUSABLE)
        raise
    ending = Ending(recorder, prepared)
    _endings.append(ending)
    recorder.at_rest(ending)
    started = dt.datetime.now(dt.UTC)

    def recorded(change_id: str) -> Record:
        ending.record = record = open_record(prepared.records, change_id, REGISTRY.redact)
        announce(record.folder)
        recorder.attach(record.notebook_path(started, name))
        return record

    try:
        async with ticking():
            if kind == "audit":
                return await _audited(prepared, recorded)
            ending.change = await open_change(prepared, recorded)
    except (RunbookError, asyncio.CancelledError, KeyboardInterrupt) as error:
        ended = error if isinstance(error, RunbookError) else _stopped(prepared.parameters.host)
        if not recorder.attached:
            announce(None, ended.outcome)
        raise ended from None
    return ending.change


def given_parameters(namespace: Mapping[str, object], there_before: Mapping[str, object]) -> dict[str, object]:
    """The parameters as they stand in the notebook.

    Every name that holds plain data counts, so that a misspelt one, which papermill only logs, is refused and not ignored.

    Args:
        namespace: The names of the notebook.
        there_before: Names that stood there before the first cell ran: IPython's own, and those of start-up files.
    """
    return {
        name: value
        for name, value in namespace.items()
        if name in Parameters.model_fields
        or (isinstance(value, _PLAIN) and not name.startswith("_") and value is not there_before.get(name, _NOTHING))
    }


def _stopped(host: str) -> Refused:
    """What a Stop comes to before there is a run; without this the person would be shown a stack trace of asyncio."""
    return Refused(
        "stopped before anything was done", server=host, step="bind", todo="run the notebook again from its top"
    )


async def _audited(prepared: Prepared, recorded: Callable[[str], Record]) -> Audit:
    """An audit is no change, but its notebook is kept all the same."""
    record = recorded(new_change_id())
    given = prepared.parameters
    record.journal.write(
        "run",
        notebook="audit",
        host=given.host,
        operator=prepared.operator,
        ticket=given.ticket,
        reason=given.reason,
    )
    try:
        found = await audit(prepared)
    except (RunbookError, asyncio.CancelledError) as error:
        ended = error if isinstance(error, RunbookError) else _stopped(given.host)
        record.journal.write("end", outcome=ended.outcome, what=ended.diagnostics(), todo=ended.todo)
        raise ended from None
    record.add_file("audit.json", REGISTRY.redact(found.json()).encode())
    record.journal.write("end", outcome=Outcome.DONE, what="", todo="")
    return found


def _asker(shell: InteractiveShell, mode: object) -> Callable[[str], str] | None:
    """Asks the person at the notebook for a secret; None where nobody is there to answer."""
    answers = bool(getattr(getattr(shell, "kernel", None), "_allow_stdin", False))
    if mode == "headless" or (mode == "auto" and not answers):
        return None
    return lambda name: getpass.getpass(f"{name}: ")


async def _close_earlier() -> list[Ran]:
    """Ends what an earlier bind in this kernel left open, the notebook was started again; returns what the new record begins with."""
    carried: list[Ran] = []
    while _recorders:
        carried = _recorders.pop().close()
    while _endings:
        await _endings.pop().now()
    return carried


__all__ = ["bind", "given_parameters"]
