"""What a person waits for while a run goes on, from the events of its journal: the command at work, and the guard's deadline."""

import re
import time
from collections.abc import Mapping
from typing import Any

from runbook_lib.record.journal import arms

LONG_S = 1.0  # what ends sooner need not be told while it lasts
_SECONDS = re.compile(r"in (\d+) s ")
_DECIDED = {"confirm", "roll back"}
_CONFIRMED = "confirmed: the new pair stays"


class Waiting:
    """The command that is at work, and until when the change must be confirmed. Times are seconds since boot, asleep or not, as the guard counts them."""

    def __init__(self) -> None:
        self._purpose, self._since, self._arming = "", 0.0, False
        self.deadline: float | None = None
        self.settled = ""

    def hear(self, event: Mapping[str, Any], now: float) -> None:
        """Takes note of an event of the journal, in order."""
        kind = event["event"]
        if kind == "intent":
            self._purpose, self._since = str(event["purpose"]), now
            self._arming = arms(event)
        elif kind == "result":
            if self._arming and not event["status"] and (found := _SECONDS.search(self._purpose)):
                self.deadline = self._since + int(found[1])  # from before it was armed: rather too early
            self._purpose, self._arming = "", False
            if event["step"] in _DECIDED and not event["status"]:
                self._settle(_CONFIRMED if event["step"] == "confirm" else "the old pair is back")
        elif kind == "end":
            self._purpose = ""
            open_ = "the run has ended, and the guard may still act: run the notebook again from its top"
            self._settle(_CONFIRMED if event["outcome"] == "done" else open_)

    def at_work(self, now: float) -> str:
        """The command at work and how long it has been, where that is long; else nothing."""
        took = now - self._since
        return f"{self._purpose}: {took:.0f} s so far" if self._purpose and took >= LONG_S else ""

    def guarded(self, now: float) -> str:
        """How long the guard still waits for the confirm; nothing where none is armed."""
        if self.deadline is None or self.settled:
            return ""
        left = self.deadline - now
        if left <= 0:
            return "guard: the time is over, the old pair comes back by itself; run the notebook again from its top"
        return f"guard: the old pair comes back in {int(left) // 60}:{int(left) % 60:02} unless this is confirmed"

    def _settle(self, how: str) -> None:
        if self.deadline is not None and not self.settled:
            self.settled = f"guard: {how}"


def now() -> float:
    """Seconds since boot; a laptop that sleeps does not stop them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
