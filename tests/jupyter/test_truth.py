"""The record tells the truth, whatever ends a run and wherever: held against the server's own log and a witness in the kernel.

Each way of ending is tried at some of the moments where it matters, on a practice server of its own, some at a time:
a guard that has to act takes its 30 seconds.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.models import Outcome
from runbook_lib.record.journal import Event, last_run, orphans, outcome_of, read, telling_run
from tests.conftest import PRACTICE_PREFIX
from tests.jupyter.changes import executed_cells, look_again
from tests.jupyter.endings import (
    ARMED,
    CONFIRMED,
    DEAD_KERNEL,
    IN_CHECK,
    KEY_MADE,
    MAKING_KEY,
    SIGINT,
    SIGKILL,
    SIGTERM,
    SWAPPED,
    HoldingServer,
    Point,
    Scene,
    Way,
    cell_timeout,
    exits,
    front_end_closed,
)
from tests.jupyter.truth import contradictions, marked, seen
from tests.realserver.host import SUDO_PASSWORD
from tests.servers import wait_until

AT_ONCE = 4


@dataclass(frozen=True)
class Case:
    """A way of ending at a point.

    Attributes:
        way: How the run ends.
        point: Where.
        outcome: What the record says of it.
        served: Which pair is served when all is over, `old` or `new`.
        heard: Whether the run lived to hear what became of its last command.
    """

    way: Way
    point: Point
    outcome: Outcome
    served: str = "old"
    heard: bool = False


# those first whose guard has to act
CASES: Mapping[str, Case] = {
    "cell timeout, swapped": Case(cell_timeout, SWAPPED, Outcome.UNKNOWN),
    "sys.exit, installed": Case(exits("papermill"), SWAPPED, Outcome.UNKNOWN, heard=True),
    "SIGKILL, armed": Case(SIGKILL, ARMED, Outcome.UNKNOWN),
    "SIGKILL, swapped": Case(SIGKILL, SWAPPED, Outcome.UNKNOWN),
    "dead kernel, swapped": Case(DEAD_KERNEL, SWAPPED, Outcome.UNKNOWN),
    "front end closed, swapped": Case(front_end_closed, SWAPPED, Outcome.UNKNOWN, heard=True),
    "cell timeout, key made": Case(cell_timeout, KEY_MADE, Outcome.UNKNOWN),
    "SIGKILL, confirmed": Case(SIGKILL, CONFIRMED, Outcome.UNKNOWN, "new"),
    "SIGKILL, in check": Case(SIGKILL, IN_CHECK, Outcome.FAILED, heard=True),
    "dead kernel, making the key": Case(DEAD_KERNEL, MAKING_KEY, Outcome.UNKNOWN),
    "dead kernel, confirmed": Case(DEAD_KERNEL, CONFIRMED, Outcome.UNKNOWN, "new"),
    "SIGTERM, in check": Case(SIGTERM, IN_CHECK, Outcome.REFUSED, heard=True),
    "SIGTERM, key made": Case(SIGTERM, KEY_MADE, Outcome.REFUSED, heard=True),
    "SIGTERM, swapped": Case(SIGTERM, SWAPPED, Outcome.ROLLED_BACK, heard=True),
    "SIGINT, armed": Case(SIGINT, ARMED, Outcome.ROLLED_BACK, heard=True),
    "SIGINT, confirmed": Case(SIGINT, CONFIRMED, Outcome.DONE, "new", heard=True),
    "sys.exit, key made": Case(exits("runbook"), KEY_MADE, Outcome.FAILED, heard=True),
    "sys.exit, confirmed": Case(exits("runbook"), CONFIRMED, Outcome.DONE, "new", heard=True),
    "front end closed, making the key": Case(front_end_closed, MAKING_KEY, Outcome.FAILED, heard=True),
}


@dataclass(frozen=True)
class Ended:
    """A run that was ended, what its record says, and what was so.

    Attributes:
        case: What was tried.
        scene: Where it was.
        cells: The cells of its notebook.
        told: The outcomes that the record gave, each with the certificate that was served then: `old` or `new`.
        before_look: The journal as the run left it.
        journal: The journal when the next run had looked.
    """

    case: Case
    scene: Scene
    cells: list[dict[str, Any]]
    told: list[tuple[Outcome, str]]
    before_look: tuple[Event, ...]
    journal: tuple[Event, ...]


def end(case: Case, server: HoldingServer, folder: Path) -> Scene:
    """Brings a change to the point of a case and ends the run there."""
    scene = Scene(server, folder, case.point)
    scene.begin()
    case.way(scene)
    return scene


def look(case: Case, scene: Scene) -> Ended:
    """Waits until the server is at rest after a run that was ended, and has the next run look."""
    record, cells = scene.record, executed_cells(scene.record)
    told = [_told(scene)]
    wait_until(lambda: scene.log.at_rest() and _decided(scene), timeout_s=60)
    told.append(_told(scene))
    before_look = read(record)
    if _folder(scene).exists():  # else nothing was begun that a run could go on with
        look_again(case.point.kind, scene.given | {"change_id": record.name, "apply": False})
    told.append(_told(scene))
    return Ended(case, scene, cells, told, before_look, read(record))


def _told(scene: Scene) -> tuple[Outcome, str]:
    wait_until(lambda: bool(scene.host.served()))
    return outcome_of(telling_run(read(scene.record))), "old" if scene.host.served() == scene.old else "new"


def _folder(scene: Scene) -> Path:
    """The change's folder on the server."""
    return scene.server.state_dir / "changes" / scene.record.name


def _decided(scene: Scene) -> bool:
    """Whether no guard is at work any more: none was armed, or its last word is written down."""
    folder = _folder(scene)
    if not (folder / "armed").exists():
        return True
    return any(word in (folder / "guard.log").read_text() for word in (" confirmed: ", " rolled back: "))


@pytest.fixture(scope="module")
def all_ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Ended]]]:
    """Every scenario, under way."""
    servers = {
        name: HoldingServer(Path(tempfile.mkdtemp(prefix=PRACTICE_PREFIX, dir="/tmp")), password=SUDO_PASSWORD)
        for name in CASES
    }

    def looked(case: Case, ended: Future[Scene]) -> Ended:
        return look(case, ended.result())

    with ThreadPoolExecutor(AT_ONCE) as busy, ThreadPoolExecutor(len(CASES)) as waiting:
        ended = {
            name: busy.submit(end, case, servers[name], tmp_path_factory.mktemp("truth"))
            for name, case in CASES.items()
        }
        yield {name: waiting.submit(looked, case, ended[name]) for name, case in CASES.items()}
    for server in servers.values():
        server.close()
        shutil.rmtree(server.root, ignore_errors=True)


@pytest.fixture(params=CASES)
def run(all_ended: Mapping[str, Future[Ended]], request: pytest.FixtureRequest) -> Ended:
    """Each scenario in turn, done."""
    return all_ended[request.param].result()


def test_the_server_ran_nothing_that_the_journal_does_not_know(run: Ended) -> None:
    """Whatever changed a file there had its intent first, and every result is the server's own."""
    assert contradictions(run.journal, run.scene.log.ran(), run.scene.log.sent()) == []
    assert any(each.changed for each in run.scene.log.ran()) == (run.case.point is not IN_CHECK)


def test_what_nobody_heard_of_is_unknown_until_a_run_has_looked(run: Ended) -> None:
    """The next run names every command without a result, and says what it sees; it names none where all were heard."""
    lost = [event["n"] for event in orphans(run.before_look)]
    assert bool(lost) != run.case.heard
    looked = [event for event in last_run(run.journal) if event["event"] in {"unknown", "settled"}]
    assert [(event["event"], event["orphans"]) for event in looked] == (
        [("unknown", lost), ("settled", lost)] if lost else []
    )
    assert orphans(run.journal) == ()


def test_the_notebook_marks_the_cells_that_ran_and_no_other(run: Ended) -> None:
    """As a witness in the kernel saw them begin and end; a cell that was cut off has no end."""
    assert marked(run.cells) == seen(run.scene.ipython)


def test_the_outcome_is_never_another_than_what_is_served(run: Ended) -> None:
    """At once, when the guard has decided, and when the next run has looked."""
    assert {outcome for outcome, _ in run.told[:2]} == {run.case.outcome}
    assert run.told[-1][1] == run.case.served
    for outcome, served in run.told:
        assert outcome is not Outcome.DONE or served == "new"
        assert outcome not in {Outcome.ROLLED_BACK, Outcome.REFUSED, Outcome.FAILED} or served == "old"


TAMPERED: Mapping[str, Callable[[list[dict[str, Any]]], object]] = {
    "the server ran what the journal does not know": lambda told: _forget(told, "swap the pair"),
    "sent without an intent": lambda told: _forget(told, "swap the pair"),
    "begun before its intent": lambda told: _of(told, "intent", "swap the pair").update(at="2999-01-01T00:00:00Z"),
    "a result of what the server never ran": lambda told: _of(told, "intent", "swap the pair").update(script="true"),
    "the result is not the server's": lambda told: _of(told, "result", "swap the pair").update(status=1),
}


def _forget(told: list[dict[str, Any]], purpose: str) -> None:
    told[:] = [each for each in told if each.get("purpose") != purpose]


def _of(told: Sequence[dict[str, Any]], event: str, purpose: str) -> dict[str, Any]:
    return next(each for each in told if each["event"] == event and each["purpose"] == purpose)


@pytest.mark.parametrize("what", TAMPERED)
def test_the_comparison_notices_what_is_not_so(all_ended: Mapping[str, Future[Ended]], what: str) -> None:
    """A journal that is not the one that was written contradicts the server's log."""
    run = all_ended["SIGINT, confirmed"].result()
    told = [dict(event) for event in run.journal]
    TAMPERED[what](told)
    assert [each for each in contradictions(told, run.scene.log.ran(), run.scene.log.sent()) if each.startswith(what)]


def test_what_was_sent_outside_of_any_command_is_noticed() -> None:
    """Where it writes; what only reads is no contradiction."""
    found = contradictions((), (), ["rm -rf /etc/aos", "cat /etc/aos/aos.conf 2>/dev/null"])
    assert found == ["sent outside of any command, and it does not only read: rm -rf /etc/aos"]
