"""The end of a notebook's run: its record is closed and sealed when the cell has ended in which the run did."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass

from runbook_lib import VERSION
from runbook_lib.change import Change
from runbook_lib.errors import RunbookError
from runbook_lib.jupyter.recorder import Recorder
from runbook_lib.record.archive import Record, open_record
from runbook_lib.record.closing import Closed, close_record
from runbook_lib.secrets import REGISTRY
from runbook_lib.session import Prepared
from runbook_lib.text import plain

LEAVE_S = 2  # the server may have gone, and papermill waits 4 s for the end of a cell


@dataclass
class Ending:
    """What is done once, when a run has ended; the recorder asks after every cell.

    Attributes:
        recorder: Writes the notebook, for the last time then.
        prepared: The run.
        record: Where it is recorded; None until that is known.
        change: The run of a change; None for an audit, and for a run that ended before its change was found.
        closed: How the record was left; None until then.
    """

    recorder: Recorder
    prepared: Prepared
    record: Record | None = None
    change: Change | None = None
    closed: Closed | None = None

    def __call__(self, failed: bool) -> tuple[str, Coroutine[None, None, None]] | None:  # noqa: FBT001 - as the recorder calls it
        """Closes the record where the run has ended: with its last cell, or with one that raised."""
        ended = self.change.outcome is not None if self.change else failed or self.recorder.complete
        if self.record is None or self.closed or not ended:
            return None
        closed = self._close(self.record)
        return plain(f"report: {self.record.folder}/report.html\nseal: {closed}\n"), self._leave(closed)

    async def now(self) -> None:
        """Closes the record of a run that nobody ended, and its connection."""
        if self.record and not self.closed:
            await self._leave(self._close(self.record))

    def _close(self, record: Record) -> Closed:
        self.recorder.finish()
        try:
            if record.journal.closed:
                record = open_record(self.prepared.records, record.folder.name, REGISTRY.redact)
            self.closed = close_record(
                record, REGISTRY, operator=self.prepared.operator, key=self.prepared.signing, version=VERSION
            )
        except RunbookError as error:  # another run has begun to write there
            self.closed = Closed(None, error.what)
        record.journal.close()
        return self.closed

    async def _leave(self, closed: Closed) -> None:
        if self.change:
            with suppress(RunbookError, TimeoutError):
                await asyncio.wait_for(self._let_go(self.change, closed), LEAVE_S)

    @staticmethod
    async def _let_go(change: Change, closed: Closed) -> None:
        await change.leave_seal(closed)
        await change.close()
