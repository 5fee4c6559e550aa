"""What a person waits for: the command at work, and the guard's deadline, from events and a clock that is handed in."""

from collections.abc import Mapping

import pytest

from runbook_lib.models import ARMING
from runbook_lib.record.waiting import Waiting

ARM = {"event": "intent", "step": "install", "purpose": f"{ARMING}: the old pair comes back in 300 s unless confirmed"}
ARMED = {"event": "result", "step": "install", "purpose": ARM["purpose"], "status": 0}


def told(*events: tuple[float, Mapping[str, object]]) -> Waiting:
    """What was heard, each at its time."""
    waiting = Waiting()
    for at, event in events:
        waiting.hear(event, at)
    return waiting


def test_a_command_is_told_when_it_takes_long() -> None:
    """Not in its first second, with its time from then on, and no more when it has ended."""
    made = {"step": "make-key", "purpose": "make the key"}
    waiting = told((10, {"event": "intent", **made}))
    assert waiting.at_work(10.9) == ""
    assert waiting.at_work(14.2) == "make the key: 4 s so far"
    waiting.hear({"event": "result", "status": 0, **made}, 15)
    assert waiting.at_work(20) == ""


def test_the_deadline_counts_down_from_before_it_was_armed() -> None:
    """Minutes and seconds that are left, rather too few than too many; past it the text says what happens."""
    waiting = told((10, ARM), (12, ARMED))
    assert waiting.guarded(12) == "guard: the old pair comes back in 4:58 unless this is confirmed"
    assert waiting.guarded(309) == "guard: the old pair comes back in 0:01 unless this is confirmed"
    assert "the time is over" in waiting.guarded(310)


@pytest.mark.parametrize(
    ("event", "settled"),
    [
        ({"event": "result", "step": "confirm", "status": 0}, "guard: confirmed: the new pair stays"),
        ({"event": "result", "step": "roll back", "status": 0}, "guard: the old pair is back"),
        ({"event": "end", "outcome": "done"}, "guard: confirmed: the new pair stays"),
        ({"event": "end", "outcome": "unknown"}, "guard: the run has ended, and the guard may still act"),
    ],
)
def test_what_settles_it_is_what_stays(event: Mapping[str, object], settled: str) -> None:
    """A confirm, a rollback, or the end of a run that lost the server; nothing that comes later changes it."""
    waiting = told((10, ARM), (12, ARMED), (20, event), (21, {"event": "end", "outcome": "done"}))
    assert waiting.settled.startswith(settled)
    assert waiting.guarded(25) == ""


@pytest.mark.parametrize("status", [3, 6, 7])
def test_a_confirm_or_rollback_that_failed_settles_nothing(status: int) -> None:
    """The guard waits on."""
    waiting = told((10, ARM), (12, ARMED), (20, {"event": "result", "step": "roll back", "status": status}))
    assert waiting.guarded(20)


def test_without_a_guard_there_is_nothing_to_count() -> None:
    """A run that ended before it was armed, and one that never came so far."""
    assert told((10, {"event": "end", "outcome": "refused"})).settled == ""
    assert told((10, ARM), (11, {"event": "end", "outcome": "refused"})).settled == ""
    assert told((10, ARM), (11, {**ARMED, "status": 1})).guarded(11) == ""
    assert told((10, ARM)).guarded(11) == ""  # not before it is armed
    assert told().guarded(5) == ""
