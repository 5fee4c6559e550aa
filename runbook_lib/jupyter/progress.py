"""What goes on, in a notebook that a person reads: a command that takes long, with its time, and the guard's deadline."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from IPython.display import DisplayHandle

from runbook_lib.record.waiting import LONG_S, Waiting, now
from runbook_lib.secrets import redact
from runbook_lib.text import plain

EVERY_S = 1.0


class Progress:
    """Hears the events of a run's journal and shows below the cell what is waited for; what is left there is how it ended.

    A line is shown anew every second, also between two cells, until it is settled.
    """

    def __init__(self) -> None:
        self._waiting, self._purpose, self._began = Waiting(), "", 0.0
        self._work: _Line | None = None
        self._guard: _Line | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Hears one event; it is called in the loop of the kernel, by whoever writes the journal."""
        with suppress(Exception):  # a line that cannot be shown must not end a run, and roll a good change back
            self._hear(event)

    def _hear(self, event: Mapping[str, Any]) -> None:
        at, waiting = now(), self._waiting
        waiting.hear(event, at)
        if event["event"] in {"result", "end"} and self._work:
            self._work.settle(f"{self._purpose}: {at - self._began:.1f} s")
            self._work = None
        if event["event"] == "intent":
            self._purpose, self._began = str(event["purpose"]), at
            self._work = _Line(waiting.at_work, LONG_S)
        if event["event"] == "result" and waiting.guarded(at) and self._guard is None:
            self._guard = _Line(waiting.guarded, 0)
        if self._guard and waiting.settled:
            self._guard.settle(waiting.settled)


class _Line:
    """One line, shown after a while and then anew every second.

    Args:
        text: What it says at a time.
        after_s: From when on it is worth showing.
    """

    def __init__(self, text: Callable[[float], str], after_s: float) -> None:
        self._text, self._after_s = text, after_s
        self._shown = DisplayHandle()  # type: ignore[no-untyped-call]
        self._begun = False
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    async def _go_on(self) -> None:
        await asyncio.sleep(self._after_s)
        self._begun = True
        self._shown.display(_plain(self._text(now())), raw=True)  # type: ignore[no-untyped-call]
        while True:
            await asyncio.sleep(EVERY_S)
            self._shown.update(_plain(self._text(now())), raw=True)  # type: ignore[no-untyped-call]

    def settle(self, text: str) -> None:
        """Shows it for the last time."""
        if not self._task.done():
            self._task.cancel()
            if self._begun:
                self._shown.update(_plain(text), raw=True)  # type: ignore[no-untyped-call]


def _plain(line: str) -> dict[str, str]:
    return {"text/plain": redact(plain(line))}
