"""Applying a plan: the intent to the journal, the command, its result to the journal; and the way back."""

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from runbook_lib.errors import CommandFailed, RolledBack, RunbookError, Unsettled
from runbook_lib.models import Command, CommandResult
from runbook_lib.record.journal import Journal
from runbook_lib.server.shell import RootShell, ShellLost

TICK_S = 0.25
ROLL_BACK_LIMIT_S = 240
BACK, DECIDED = 0, 3  # what guard.sh ends with: the old pair is serving; the other side had decided first
T = TypeVar("T")


async def finish(work: Awaitable[T]) -> T:
    """Awaits work to its end even when the awaiting task is cancelled meanwhile; the cancellation is raised afterwards.

    A command that has begun on the server cannot be taken back by not listening to it, so its result is always heard.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:  # noqa: BLE001 - raised below by task.result()
            break
    result = task.result()
    if cancelled:
        raise cancelled
    return result


@asynccontextmanager
async def ticking() -> AsyncIterator[None]:
    """Wakes the event loop all the time: an idle one does not see a signal, such as JupyterLab's Stop."""

    async def tick() -> None:
        while True:  # noqa: ASYNC110 - there is no event to wait for: waking up is the purpose
            await asyncio.sleep(TICK_S)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()


class Applier:
    """Runs commands that change a server, each with its intent and its result in the journal."""

    def __init__(self, shell: RootShell, journal: Journal, host: str) -> None:
        self.shell, self._journal, self._host = shell, journal, host
        self._last: CommandResult | None = None

    async def run(self, step: str, commands: Sequence[Command]) -> tuple[CommandResult, ...]:
        """Runs the commands in order and stops at the first that fails.

        Raises:
            CommandFailed: A command ended with another status than 0.
            ShellLost: No answer came; what the command did is not known.
        """
        results = []
        for command in commands:
            result = await finish(self._heard(step, command, self._journal.write))
            results.append(result)
            if result.status:
                raise CommandFailed(result, server=self._host, step=step)
        return tuple(results)

    def note(self, event: str, **fields: object) -> None:
        """Writes an event that is worth having; a full disk here must not stand in the way back."""
        with suppress(OSError):
            self._journal.write(event, **fields)

    async def _heard(self, step: str, command: Command, write: Callable[..., object]) -> CommandResult:
        self._last = None
        write("intent", step=step, purpose=command.purpose, script=command.script, undo=command.undo)
        result = self._last = await self.shell.run(command)
        write(
            "result", step=step, purpose=command.purpose, status=result.status,
            duration_s=round(result.duration_s, 4), stderr=result.stderr[-2000:],
        )  # fmt: skip
        return result

    async def roll_back(self, folder: str, why: str, way_back: str, *, verb: str = "roll-back") -> RunbookError | None:
        """Lets the guard put the old pair back and says how that ended.

        Args:
            folder: The change's folder on the server.
            why: What went wrong, for the guard's log.
            way_back: The one line by which a person restores by hand.
            verb: `stand-in` where this run stands in for a timer that is gone.

        Returns:
            The error to raise: RolledBack, or Unsettled where a person must look; None when it was confirmed before.
        """
        script = f"sh {folder}/guard.sh {verb} {shlex.quote(why.splitlines()[0][:200])}"
        command = Command("roll back: the old pair comes back", script, time_limit_s=ROLL_BACK_LIMIT_S)
        lost = ""
        try:
            await finish(self._heard("roll back", command, self.note))
        except asyncio.CancelledError:
            pass  # the guard's answer was heard all the same
        except ShellLost as error:
            lost = error.why
        return self._settled(folder.rpartition("/")[2], why, way_back, lost)

    def _settled(self, change_id: str, why: str, way_back: str, lost: str) -> RunbookError | None:
        result = self._last
        if result is not None and result.status == DECIDED and "confirmed" in result.stdout:
            return None
        if result is not None and result.status == BACK:
            return RolledBack(
                "the old pair is serving again", server=self._host, why=why,
                todo=f"mend the cause, then run install with change_id={change_id}; by hand the old pair comes back with: {way_back}",
            )  # fmt: skip
        said = lost or (result.stdout.strip() or result.stderr.strip() if result else "")
        return Unsettled(
            "the rollback did not end well: look at the server now", server=self._host, why=f"{why}; {said}",
            todo=f"the guard on the server still acts by itself when its time is over; by hand: {way_back}",
        )  # fmt: skip
