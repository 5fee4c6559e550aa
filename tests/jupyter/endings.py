"""Ways in which a run ends that nobody planned, each at a chosen moment of a change on a practice server of its own."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runbook_lib.lab import PracticeServer
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import NOTEBOOKS, kernels_of, parameter_file, request, start, values
from tests.jupyter.kernels import LIMIT_S, Kernel
from tests.jupyter.serverlog import ServerLog
from tests.jupyter.test_bind import BIND, parameters_cell, shown
from tests.jupyter.test_headless import with_cell
from tests.jupyter.truth import witnessed

FILES = {"request": "200_request_certificate", "install": "300_install_certificate"}
CELLS = {
    "request": ("check", "plan", "back_up", "make_key"),
    "install": ("check", "plan", "compare", "install", "confirm"),
}
CELL_LIMIT_S = 15


@dataclass(frozen=True)
class Point:
    """A moment of a change.

    Attributes:
        kind: The notebook that runs then.
        holds: Which command the server holds there, and whether before it is begun or when it is done.
        after: The cell after which `sys.exit(0)` runs, where that is how the run ends.
    """

    kind: Literal["request", "install"]
    holds: tuple[Literal["before", "after"], str] | None = None
    after: str = ""


IN_CHECK = Point("request")
MAKING_KEY, KEY_MADE = (
    Point("request", ("before", "genpkey"), "make-key"),
    Point("request", ("after", "genpkey"), "make-key"),
)
ARMED, SWAPPED = Point("install", ("before", "guard.sh swap")), Point("install", ("after", "guard.sh swap"), "install")
CONFIRMED = Point("install", ("after", "guard.sh confirm"), "confirm")


class HoldingServer(PracticeServer):
    """One whose API keeps a check waiting until it is let go."""

    answers: threading.Event
    asked: threading.Event

    def _respond(self, path: str) -> tuple[str, str, bytes]:
        if not self.answers.is_set():
            self.asked.set()
            self.answers.wait(60)
        return super()._respond(path)


@dataclass
class Scene:
    """A change that is about to be interrupted at a point."""

    server: HoldingServer
    folder: Path
    point: Point
    host: EmbeddedHost = field(init=False)
    log: ServerLog = field(init=False)
    given: dict[str, Any] = field(init=False)
    old: str = field(init=False)
    ipython: Path = field(init=False)

    def begin(self) -> None:
        """Starts the server and brings the change to where the notebook begins."""
        self.server.answers, self.server.asked = threading.Event(), threading.Event()
        self.server.answers.set()
        self.server.start()
        self.host = EmbeddedHost(self.server)
        self.log, self.old = ServerLog(self.host), self.host.served()
        self.given, self.ipython = values(self.host, self.folder), witnessed(self.folder)
        if self.point.kind == "install":
            request(self.given)
        if self.point.holds:
            self.log.hold(*self.point.holds)
        else:
            self.server.answers.clear()

    def wait(self) -> None:
        """Waits until the run stands at the point."""
        if self.point.holds:
            self.log.wait()
        else:
            assert self.server.asked.wait(100)

    def let_go(self) -> None:
        """Lets the server go on."""
        self.server.answers.set()
        self.log.let_go()

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Starts a program with the parameters, the witness and a folder for temporary files."""
        file, cwd = parameter_file(self.folder, self.given), self.folder
        return start(
            *command, "-f", file, cwd=cwd, log=self.folder / "log", TMPDIR=str(cwd), IPYTHONDIR=str(self.ipython)
        )

    @property
    def record(self) -> Path:
        """The record."""
        (record,) = (self.folder / "records").iterdir()
        return record


Way = Callable[[Scene], None]
"""Begins the run of a scene, ends it at its point, and lets the server go on."""


def runbook(hits: Callable[[subprocess.Popen[bytes]], object]) -> Way:
    """A way of ending: `runbook` is hit at the point, and then the server goes on."""

    def end(scene: Scene) -> None:
        process = scene.start("runbook", scene.point.kind)
        scene.wait()
        hits(process)
        time.sleep(1)  # a signal that asks politely is heard, and heard once more
        scene.let_go()
        process.wait(timeout=60)

    return end


def sends(number: int) -> Callable[[subprocess.Popen[bytes]], object]:
    """A signal for the program that was started."""
    return lambda process: process.send_signal(number)


def kills_the_kernel(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the kernel alone."""
    (kernel,) = kernels_of(process.pid)
    os.kill(kernel, signal.SIGKILL)


def cell_timeout(scene: Scene) -> None:
    """Stock papermill gives the cell no more time."""
    notebook = str(NOTEBOOKS / f"{FILES[scene.point.kind]}.ipynb")
    process = scene.start("papermill", notebook, "out.ipynb", "--execution-timeout", str(CELL_LIMIT_S))
    scene.wait()
    process.wait(timeout=60)
    scene.let_go()


def exits(program: Literal["runbook", "papermill"]) -> Way:
    """A way of ending: a cell of the notebook says `sys.exit(0)`."""

    def end(scene: Scene) -> None:
        scene.let_go()
        folder, name = scene.folder / "notebooks", FILES[scene.point.kind]
        folder.mkdir()
        (scene.folder / "parameters").mkdir()
        for each in FILES.values():
            shutil.copy(NOTEBOOKS / f"{each}.ipynb", folder)
        notebook = with_cell(folder, NOTEBOOKS / f"{name}.ipynb", scene.point.after, "import sys\nsys.exit(0)")
        own = (scene.point.kind,) if program == "runbook" else (str(notebook), "out.ipynb")
        scene.start(program, *own).wait(timeout=100)

    return end


def front_end_closed(scene: Scene) -> None:
    """A person runs cell by cell and closes the browser in one; the kernel goes on, until the person has come back to end it."""

    class Page(Kernel):
        def leave(self) -> None:
            self._client.stop_channels()

        def come_back(self) -> None:
            self._client = self._manager.client()
            self._client.start_channels()
            self._client.wait_for_ready(timeout=LIMIT_S)

    page = Page(scene.folder)
    try:
        for code in (parameters_cell(scene.given), BIND.format(kind=scene.point.kind)):
            shown(page.run(code))
        for cell in CELLS[scene.point.kind]:
            request = page.begin(f"await change.{cell}()")
            if cell.replace("_", "-") == scene.point.after:
                break
            page.until_idle(request)
        scene.wait()
        page.leave()
        scene.let_go()
        page.come_back()
        shown(page.run("change.change_id"))
    finally:
        page.close()


SIGKILL, SIGTERM, SIGINT = (runbook(sends(number)) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
DEAD_KERNEL = runbook(kills_the_kernel)
