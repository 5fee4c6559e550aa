"""The bind cell: the notebook's parameters become a run that is connected, recorded and ready for its checks."""

import asyncio
import datetime as dt
import getpass
from collections.abc import Callable

from runbook_lib.audit import Audit, audit
from runbook_lib.change import Change, new_change_id, open_change
from runbook_lib.change.apply import ticking
from runbook_lib.errors import Refused, RunbookError, UnusableParameters
from runbook_lib.jupyter.ending import Ending
from runbook_lib.jupyter.forms import Form
from runbook_lib.jupyter.headless import announce
from runbook_lib.jupyter.notebook import Ran
from runbook_lib.jupyter.progress import Progress
from runbook_lib.jupyter.recorder import Recorder
from runbook_lib.models import Outcome
from runbook_lib.record.archive import Record, open_record
from runbook_lib.secrets import REGISTRY
from runbook_lib.session import NOTEBOOKS, Prepared, prepare

_endings: list[Ending] = []
_recorders: list[Recorder] = []


async def bind(inputs: Form) -> Change | Audit:
    """Binds the notebook to its server: takes what the form holds, starts the recorder, connects and reads.

    Args:
        inputs: The notebook's form.

    Returns:
        The run whose methods the following cells call.

    Raises:
        UnusableParameters: With every fault; nothing was contacted.
        Refused: The server could not be reached or read; nothing was changed.
    """
    if changed := inputs.overtaken():
        raise Refused(
            f"the parameters cell was run again after the form: {', '.join(changed)}",
            step="bind", todo="run the form's cell again, look at it, then run this one",
        )  # fmt: skip
    inputs.take()
    try:
        return await _bound(inputs)
    except BaseException:
        inputs.let_go()
        raise


async def _bound(inputs: Form) -> Change | Audit:
    """The run that begins with what the form holds."""
    carried = await _close_earlier()
    kind, base, name = inputs.kind, inputs.base, NOTEBOOKS[inputs.kind]
    recorder = Recorder(inputs.shell, REGISTRY.redact, lambda: REGISTRY.longest, base / "notebooks" / f"{name}.ipynb")
    recorder.start(carried, {inputs.cell: inputs.table()})
    _recorders.append(recorder)
    ask = _ask if inputs.interactive else None
    try:
        prepared = prepare(kind, inputs.fit(), base, ask, handed_in=inputs.handed_in)
    except UnusableParameters:
        announce(None, Outcome.UNUSABLE)
        raise
    ending = Ending(recorder, prepared)
    _endings.append(ending)
    recorder.at_rest(ending)
    started = dt.datetime.now(dt.UTC)

    def recorded(change_id: str) -> Record:
        ending.record = record = open_record(prepared.records, change_id, REGISTRY.redact)
        if inputs.interactive:
            record.journal.heard = Progress()
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


def _ask(name: str) -> str:
    """Asks the person at the notebook for a secret."""
    return getpass.getpass(f"{name}: ")


async def _close_earlier() -> list[Ran]:
    """Ends what an earlier bind in this kernel left open, the notebook was started again; returns what the new record begins with."""
    carried: list[Ran] = []
    while _recorders:
        carried = _recorders.pop().close()
    while _endings:
        await _endings.pop().now()
    return carried


__all__ = ["bind"]
