"""What goes on, in a notebook that a person reads: a command that takes long, with its time, and the guard's deadline."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from IPython.display import DisplayHandle

from runbook_lib.record.waiting import LONG_S, Waiting
from runbook_lib.secrets import redact
from runbook_lib.text import plain

EVERY_S = 1.0


class Progress:
    """Hears the events of a run's journal and shows below the cell what is waited for; what is left there is how it ended.

    A line is shown anew every second, also between two cells, until it is settled.
    """

    def __init__(self) -> None:
        self._waiting = Waiting()
        self._work: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Hears one event; it is called in the loop of the kernel."""
        armed_before = self._waiting.deadline is not None
        self._waiting.hear(event, time.monotonic())
        if event["event"] == "intent":
            self._work = asyncio.create_task(self._show_work())
        elif event["event"] in {"result", "end"} and self._work:
            self._work.cancel()
        if event["event"] == "result" and self._waiting.deadline is not None and self._guard is None and armed_before:
            self._guard = asyncio.create_task(self._show(self._waiting.guarded, lambda: self._waiting.settled))

    async def _show_work(self) -> None:
        began = time.monotonic()
        await asyncio.sleep(LONG_S)
        line = self._waiting.at_work(time.monotonic())
        purpose = line.rpartition(":")[0]
        await self._show(
            self._waiting.at_work, lambda: "", cancelled=lambda: f"{purpose}: {time.monotonic() - began:.1f} s"
        )

    @staticmethod
    async def _show(
        line: Callable[[float], str], settled: Callable[[], str], cancelled: Callable[[], str] = lambda: ""
    ) -> None:
        """Shows a line until it is settled, or until this task is cancelled."""
        shown = DisplayHandle()  # type: ignore[no-untyped-call]
        shown.display(_text(line(time.monotonic())), raw=True)  # type: ignore[no-untyped-call]
        try:
            while not settled():
                await asyncio.sleep(EVERY_S)
                shown.update(_text(settled() or line(time.monotonic())), raw=True)  # type: ignore[no-untyped-call]
        except asyncio.CancelledError:
            shown.update(_text(cancelled()), raw=True)  # type: ignore[no-untyped-call]


def _text(line: str) -> dict[str, str]:
    return {"text/plain": redact(plain(line))}
