"""Running notebooks headless with papermill, in this process, with kernels that were started early.

What a run came to is read from its journal, never from papermill: papermill marks cells as completed that never ran.
A SIGINT, SIGTERM or SIGHUP becomes a kernel interrupt, so that the notebook's own way back is taken before the kernel ends.
"""

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

from runbook_lib.models import Outcome
from runbook_lib.record.journal import NAME, outcome_of, read

if TYPE_CHECKING:
    from runbook_lib.jupyter.manager import Kernel

HANDOFF = "RUNBOOK_HANDOFF"
POLL_S = 0.05
INTERRUPT_EVERY_S = 0.5
CLOSING_S = 90  # a token waits for a finger when the record is sealed, between a cell's reply and its end
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What a headless run came to; `error` is what a failed cell said, redacted by the kernel."""

    outcome: Outcome
    record: Path | None
    error: str


def announce(record: Path | None, outcome: Outcome | None = None) -> None:
    """Tells the conductor, if there is one, where the record of this run is."""
    handoff = os.environ.get(HANDOFF)
    if handoff:
        journal = record / NAME if record else None
        told = {
            "record": str(record) if record else None,
            "outcome": outcome,
            "offset": journal.stat().st_size if journal else 0,
        }
        aside = Path(f"{handoff}.new")
        aside.write_text(json.dumps(told))
        aside.rename(handoff)


class Runner:
    """Runs notebooks one after the other, each in a kernel of its own. A context manager.

    Args:
        notebooks: The files to be run, in order; the kernel of each is started while the one before it runs.
        on_event: Hears every event of the journal as it happens.
        on_wait: Called again and again meanwhile.
    """

    def __init__(
        self, notebooks: Sequence[Path], on_event: Callable[[Event], None], on_wait: Callable[[], None]
    ) -> None:
        self._notebooks, self._on_event, self._on_wait = list(notebooks), on_event, on_wait
        self._stopping = False
        self._signals = _Signals(self._stop)

    def __enter__(self) -> Self:
        self._signals.catch()
        self._folder = tempfile.TemporaryDirectory(prefix="runbook-")
        self._threads = ThreadPoolExecutor(max_workers=2)
        self._kernel: Future[Kernel] | None = self._early_kernel()
        return self

    def __exit__(self, *error: object) -> None:
        if self._kernel and not self._kernel.exception():
            self._kernel.result().end()
        self._threads.shutdown()
        self._folder.cleanup()
        self._signals.let_go()

    def run(self, values: Mapping[str, object]) -> Result:
        """Runs the next notebook to its end and says what it came to."""
        if self._stopping:
            return Result(Outcome.REFUSED, None, "stopped before the notebook was begun")
        kernel, handoff = (self._kernel or self._early_kernel()).result(), self._handoff(len(self._notebooks))
        notebook = self._notebooks.pop(0)
        self._kernel = self._early_kernel() if self._notebooks else None
        running = self._threads.submit(_execute, notebook, dict(values), kernel)
        told = self._follow(running, kernel, handoff)
        record = Path(told["record"]) if told.get("record") else None
        if not record and not told.get("outcome") and self._stopping:
            return Result(Outcome.REFUSED, None, "stopped before anything was done")
        # what stood in the journal before belongs to other runs: one that could write nothing has failed
        outcome = outcome_of(read(record, told["offset"])) if record else Outcome(told.get("outcome") or Outcome.FAILED)
        return Result(outcome, record, running.result())

    def _stop(self) -> None:
        self._stopping = True

    def _follow(self, running: "Future[str]", kernel: "Kernel", handoff: Path) -> dict[str, Any]:
        told: dict[str, Any] = {}
        interrupted, heard = 0.0, -1
        while True:
            ended = running.done()
            told = told or _read_json(handoff)
            if told.get("record"):
                heard = self._tell(Path(told["record"]) / NAME, told["offset"] if heard < 0 else heard)
            if ended:
                return told
            if self._stopping and time.monotonic() - interrupted > INTERRUPT_EVERY_S:
                # again and again: an interrupt that comes between two cells is lost, one that comes twice in a cell is not heard
                interrupted = time.monotonic()
                kernel.interrupt()
            self._on_wait()
            time.sleep(POLL_S)

    def _tell(self, journal: Path, offset: int) -> int:
        with journal.open("rb") as file:
            file.seek(offset)
            *lines, _ = file.read().split(b"\n")
        for line in lines:
            self._on_event(json.loads(line))
        return offset + sum(len(line) + 1 for line in lines)

    def _early_kernel(self) -> "Future[Kernel]":
        return self._threads.submit(self._start_kernel, len(self._notebooks))

    def _start_kernel(self, number: int) -> "Kernel":
        from runbook_lib.jupyter.manager import Kernel  # noqa: PLC0415 - in a thread, while the rest is loading

        return Kernel(Path(self._folder.name) / f"kernel-{number}", {HANDOFF: str(self._handoff(number))})

    def _handoff(self, number: int) -> Path:
        return Path(self._folder.name) / f"handoff-{number}"


def _execute(notebook: Path, values: dict[str, object], kernel: "Kernel") -> str:
    """Runs one notebook; returns what a failed cell said."""
    import papermill  # noqa: PLC0415 - a second that only these commands should pay
    from papermill.exceptions import PapermillExecutionError  # noqa: PLC0415

    try:
        papermill.execute_notebook(
            str(notebook), None, parameters=values, progress_bar=False, autosave_cell_every=0, km=kernel,
            iopub_timeout=CLOSING_S, interrupt_on_timeout=True, shutdown_kernel="immediate", store_widget_state=False, log_output=False,
        )  # fmt: skip
    except PapermillExecutionError as error:
        return str(error.evalue)
    except Exception as error:  # noqa: BLE001 - a dead kernel, above all; the journal says how far it came
        return f"{type(error).__name__}: {error}"
    finally:
        kernel.end()
    return ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class _Signals:
    """From `catch` to `let_go` a signal that would end this process calls `stop` instead."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """Begins; a signal that is ignored, as SIGHUP under nohup, stays ignored."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._heard)

    def let_go(self) -> None:
        """Puts back what was there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, _number: int, _frame: FrameType | None) -> None:
        self._stop()
