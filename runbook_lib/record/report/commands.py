"""The commands of a run as the journal holds them: what was begun, and what is known of how it ended."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook_lib.models import Verdict
from runbook_lib.record.journal import Event
from runbook_lib.tables import MARKS


@dataclass(frozen=True, slots=True)
class Ran:
    """One command.

    Attributes:
        step, purpose, script, undo: As it was planned, or as it was begun.
        stdin: The text that it is given on standard input, as planned.
        at: When it was begun, ISO 8601; of a result without an intent when that came; empty where it was not run.
        status: The exit status; None where none was heard.
        duration_s: How long it took, seconds; None where that was not heard.
        said: What it wrote to its streams.
        settled: What a later run saw of a command whose result was not heard.
    """

    step: str
    purpose: str
    script: str
    undo: str
    stdin: str
    at: str = ""
    status: int | None = None
    duration_s: float | None = None
    said: str = ""
    settled: str = ""

    @property
    def ended(self) -> str:
        """How it ended, in words; where no result was heard that is `unknown`."""
        if not self.at:
            return "not run"
        if self.status is None:
            return MARKS[Verdict.UNKNOWN]
        return f"{'✘' if self.status else '✔'} exit status {self.status}"

    @property
    def tone(self) -> str:
        """What colour goes with that: `good`, `calm` or `bad`."""
        return "good" if self.status == 0 else "bad" if self.at else "calm"


def commands_of(run: Sequence[Event], events: Sequence[Event]) -> tuple[Ran, ...]:
    """Every command of a run in the order it was begun, then what was planned and not run.

    Args:
        run: The run's events.
        events: All events of the record: a later run may have settled what this one did not hear.
    """
    plans = [event["commands"] for event in run if event["event"] == "plan"]
    planned = [dict(each) for each in plans[-1]] if plans else []
    settled = {n: event["text"] for event in events if event["event"] == "settled" for n in event["orphans"]}
    ran = tuple(_ran(intent, result, planned, settled) for intent, result in _pairs(run))
    left = (Ran(c["step"], c["purpose"], c["script"], c.get("undo", ""), c.get("stdin", "")) for c in planned)
    return (*ran, *left)


def _pairs(run: Sequence[Event]) -> Iterator[tuple[Event, Event]]:
    """Each intent with its result, which is the next event of the two kinds; where one of them is missing it is empty."""
    intent: Event = {}
    for event in run:
        if event["event"] == "intent":
            if intent:
                yield intent, {}
            intent = event
        elif event["event"] == "result":
            if intent and _names(intent) != _names(event):
                yield intent, {}
                intent = {}
            yield intent, event
            intent = {}
    if intent:
        yield intent, {}


def _names(event: Event) -> tuple[str, str]:
    return event["step"], event["purpose"]


def _ran(intent: Event, result: Event, planned: list[dict[str, Any]], settled: Mapping[int, str]) -> Ran:
    """One command out of its two events; it is taken out of what was planned."""
    begun = intent or result
    plan = next((each for each in planned if _names(each) == _names(begun)), {})
    if plan:
        planned.remove(plan)
    streams = (result.get("stdout", ""), result.get("stderr", ""))
    return Ran(
        *_names(begun), intent.get("script", ""), intent.get("undo", ""), plan.get("stdin", ""), begun["at"], result.get("status"),
        result.get("duration_s"), "\n".join(each.rstrip() for each in streams if each.strip()), settled.get(intent.get("n", 0), ""),
    )  # fmt: skip
