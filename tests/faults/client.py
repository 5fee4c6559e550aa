"""One run of a change as a process of its own, which stops at a point until it is told to go on.

A point is before or after one command of one step: after its intent is in the journal and before it is sent, or after the
server has answered and before the result is in the journal. It reads an `Order` as one line of JSON from standard input,
prints `at <point>` and waits there for a line; it prints `ended <outcome>` last.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from runbook_lib.change import Change, open_change
from runbook_lib.errors import RunbookError
from runbook_lib.models import Outcome
from runbook_lib.record.archive import Record, open_record
from runbook_lib.record.journal import Journal
from runbook_lib.secrets import redact
from runbook_lib.session import Kind, prepare

STEPS: Mapping[str, tuple[str, ...]] = {
    "request": ("check", "plan", "back_up", "make_key", "make_csr", "sign"),
    "install": ("check", "plan", "compare", "install", "confirm"),
    "restore": ("check", "plan", "compare", "install", "confirm"),
}


@dataclass(frozen=True)
class Order:
    """What the process does.

    Attributes:
        kinds: Which notebooks' work, in order.
        values: Parameters.
        base: Folder against which relative paths are resolved; `records` goes there.
        window_s: Seconds until the guard acts, shorter than a parameter file may say.
        point: Where it stops, `<step>:<number>:<before|after>`; empty: nowhere.
    """

    kinds: tuple[Kind, ...]
    values: Mapping[str, Any]
    base: str
    window_s: int
    point: str = ""

    def line(self) -> str:
        """For the standard input of the process."""
        return json.dumps(asdict(self)) + "\n"


class StoppingJournal(Journal):
    """The journal as it is, with a stop at one point of it."""

    def __init__(self, folder: Path, point: str) -> None:
        super().__init__(folder, redact)
        self._point, self._counts = point, dict[str, int]()

    def write(self, event: str, **fields: object) -> str:
        """As the journal's own; stops after the intent or before the result."""
        step = str(fields.get("step", ""))
        if event == "result":
            self._reached(step, "after")
        head = super().write(event, **fields)
        if event == "intent":
            self._counts[step] = self._counts.get(step, 0) + 1
            self._reached(step, "before")
        return head

    def _reached(self, step: str, when: str) -> None:
        point = f"{step}:{self._counts[step]}:{when}"
        stops = point == self._point
        print(("at " if stops else "passed ") + point, flush=True)  # noqa: T201 - the other process reads it
        if stops:
            sys.stdin.readline()


async def conduct(order: Order) -> Outcome:
    """Does the work of the notebooks, cell by cell."""
    outcome = Outcome.FAILED
    values = dict(order.values)
    for kind in order.kinds:
        prepared = prepare(kind, values, Path(order.base), None)
        shorter = prepared.parameters.model_copy(update={"rollback_after_s": order.window_s})

        def opened(change_id: str) -> Record:
            record = open_record(Path(order.base) / "records", change_id, redact)
            record.journal.close()
            return Record(record.folder, StoppingJournal(record.folder, order.point))

        change = await open_change(replace(prepared, parameters=shorter), opened)
        try:
            outcome = await _through(change, kind)
        finally:
            await change.close()
        if outcome is not Outcome.DONE:
            break
        values["change_id"] = change.change_id
    return outcome


async def _through(change: Change, kind: Kind) -> Outcome:
    for step in STEPS[kind]:
        work: Callable[[], Awaitable[object]] = getattr(change, step)
        await work()
    change.summary()
    return change.outcome or Outcome.FAILED


def main() -> None:
    """Reads the order, does it, says how it ended."""
    given = json.loads(sys.stdin.readline())
    try:
        outcome = asyncio.run(conduct(Order(**given)))
    except RunbookError as error:
        print(error.diagnostics(), file=sys.stderr)  # noqa: T201
        outcome = error.outcome
    print(f"ended {outcome}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
