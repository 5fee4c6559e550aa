"""An install that is interrupted while nginx restarts: whoever is stopped or killed, the old pair is served again.

All the scenarios run at the same time, each on a practice server of its own, because the guard takes its 30 seconds.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.lab import PracticeServer
from runbook_lib.models import Outcome
from runbook_lib.record.journal import last_run, outcome_of, read
from tests.conftest import PRACTICE_PREFIX
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import (
    NOTEBOOKS,
    HeldRestart,
    children,
    executed_cells,
    is_gone,
    kernels_of,
    look_again,
    parameter_file,
    request,
    start,
    values,
)
from tests.realserver.host import SUDO_PASSWORD
from tests.servers import wait_until

Interrupt = Callable[[subprocess.Popen[bytes]], object]
PAPERMILL = ("papermill", str(NOTEBOOKS / "300_install_certificate.ipynb"), "out.ipynb")
CELL_LIMIT_S = 15


def sends(number: int) -> Interrupt:
    """Sends the started program a signal."""
    return lambda process: process.send_signal(number)


def kills_its_kernel(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL for the kernel in which the notebook runs."""
    os.kill(children(process.pid)[0], signal.SIGKILL)


def waits(process: subprocess.Popen[bytes]) -> None:
    """Leaves the program to its own time limit."""
    process.wait(timeout=60)


POLITE: Mapping[str, tuple[tuple[str, ...], Interrupt]] = {
    "runbook, SIGINT": (("runbook", "install"), sends(signal.SIGINT)),
    "runbook, SIGTERM": (("runbook", "install"), sends(signal.SIGTERM)),
    "runbook, SIGHUP": (("runbook", "install"), sends(signal.SIGHUP)),
}
HARD: Mapping[str, tuple[tuple[str, ...], Interrupt]] = {
    "runbook, SIGKILL": (("runbook", "install"), sends(signal.SIGKILL)),
    "runbook, kernel killed": (("runbook", "install"), kills_its_kernel),
    "papermill, SIGINT": (PAPERMILL, sends(signal.SIGINT)),
    "papermill, SIGTERM": (PAPERMILL, sends(signal.SIGTERM)),
    "papermill, cell timeout": ((*PAPERMILL, "--execution-timeout", str(CELL_LIMIT_S)), waits),
}


@dataclass
class Interrupted:
    """An install that was interrupted, and what came of it."""

    host: EmbeddedHost
    given: dict[str, Any]
    old: str
    record: Path
    status: int
    said: str
    outcome: Outcome
    ended_s: float
    kernels: list[int]

    @property
    def guard_log(self) -> str:
        """What the guard on the server did."""
        return (self.host.practice.state_dir / f"changes/{self.record.name}/guard.log").read_text()


def interrupted(command: tuple[str, ...], interrupt: Interrupt, folder: Path, server: PracticeServer) -> Interrupted:
    """Installs, interrupts while nginx restarts, lets the restart go on, and waits for the program to end."""
    server.start()
    host = EmbeddedHost(server)
    given, old = values(host, folder), host.served()
    record = request(given)
    restart = HeldRestart(host)
    log = folder / "log"
    process = start(*command, "-f", parameter_file(folder, given), cwd=folder, log=log, TMPDIR=str(folder))
    restart.wait()
    kernels = kernels_of(process.pid)
    begun = time.monotonic()
    interrupt(process)
    time.sleep(1)  # two of the interrupts that `runbook` sends again and again come while the server is still busy
    restart.let_go()
    status = process.wait(timeout=60)
    ended_s = time.monotonic() - begun
    return Interrupted(host, given, old, record, status, log.read_text(), outcome_of(read(record)), ended_s, kernels)


@pytest.fixture(scope="module")
def all_interrupted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Interrupted]]:
    """Every scenario, done."""
    scenarios = {**POLITE, **HARD}
    servers = [
        PracticeServer(Path(tempfile.mkdtemp(prefix=PRACTICE_PREFIX, dir="/tmp")), password=SUDO_PASSWORD)
        for _ in scenarios
    ]
    with ThreadPoolExecutor(len(scenarios)) as threads:
        running = {
            name: threads.submit(interrupted, *scenario, tmp_path_factory.mktemp("interrupted"), server)
            for (name, scenario), server in zip(scenarios.items(), servers, strict=True)
        }
    yield {name: each.result() for name, each in running.items()}
    for server in servers:
        server.close()
        shutil.rmtree(server.root, ignore_errors=True)


@pytest.mark.parametrize("how", POLITE)
def test_a_stopped_runbook_puts_the_old_pair_back_at_once(all_interrupted: dict[str, Interrupted], how: str) -> None:
    """A signal that asks `runbook` to end takes the polite way back: rolled back, said so, exit status 5."""
    ended = all_interrupted[how]
    assert ended.host.served() == ended.old
    assert ended.ended_s < 20
    assert "no confirm within" not in ended.guard_log
    assert "rolled back: stopped" in ended.guard_log
    assert (ended.status, ended.outcome) == (5, Outcome.ROLLED_BACK)
    assert ended.said.splitlines()[-1] == f"outcome: rolled-back {ended.record}"


@pytest.mark.parametrize("how", POLITE)
def test_a_stopped_runbook_leaves_nothing_behind(all_interrupted: dict[str, Interrupted], how: str) -> None:
    """No kernel and no folder outlive it."""
    ended = all_interrupted[how]
    assert ended.kernels
    assert all(map(is_gone, ended.kernels))
    assert sorted(each.name for each in ended.record.parents[1].iterdir()) == ["log", "parameters.yaml", "records"]


@pytest.mark.parametrize("how", HARD)
def test_where_nobody_is_left_the_guard_puts_the_old_pair_back(
    all_interrupted: dict[str, Interrupted], how: str
) -> None:
    """With the kernel gone no code of ours runs: the guard on the server acts when its time is over."""
    ended = all_interrupted[how]
    wait_until(lambda: "rolled back: no confirm within 30 s" in ended.guard_log, timeout_s=60)
    assert ended.host.served() == ended.old
    live = ended.host.practice.conf_dir / "nginx.crt"
    assert ended.old in live.read_text()


@pytest.mark.parametrize("how", HARD)
def test_what_was_cut_off_is_unknown_until_a_run_looks(all_interrupted: dict[str, Interrupted], how: str) -> None:
    """The record of a killed install claims nothing; the next run finds that the change was rolled back."""
    ended = all_interrupted[how]
    assert ended.outcome is Outcome.UNKNOWN
    wait_until(lambda: "rolled back: no confirm within 30 s" in ended.guard_log, timeout_s=60)
    change = look_again("install", ended.given | {"change_id": ended.record.name, "apply": False})
    assert change.outcome is Outcome.PLANNED
    facts = [event for event in last_run(read(ended.record)) if event["event"] == "facts"]
    assert [each["state"] for each in facts] == ["rolled-back"]


def test_a_killed_kernel_is_an_unknown_outcome_for_runbook(all_interrupted: dict[str, Interrupted]) -> None:
    """`runbook` outlives its kernel and says what it knows: exit status 6, and the way back by hand."""
    ended = all_interrupted["runbook, kernel killed"]
    assert ended.status == 6
    assert ended.said.splitlines()[-1] == f"outcome: unknown {ended.record}"
    assert f"{ended.record.name}/restore.sh" in ended.said


def test_kernels_of_a_killed_runbook_end_by_themselves(all_interrupted: dict[str, Interrupted]) -> None:
    """Nobody is left to end the kernel and to remove its sockets: it does both by itself."""
    ended = all_interrupted["runbook, SIGKILL"]
    assert ended.status == -signal.SIGKILL
    assert ended.kernels
    wait_until(lambda: all(map(is_gone, ended.kernels)), timeout_s=10)
    assert sorted(each.name for each in ended.record.parents[1].iterdir()) == ["log", "parameters.yaml", "records"]


@pytest.mark.parametrize("how", [*POLITE, *HARD])
def test_the_notebook_says_where_it_was_cut_off(all_interrupted: dict[str, Interrupted], how: str) -> None:
    """In every case the executed notebook stops at the install cell, and no later cell claims to have run."""
    ended = all_interrupted[how]
    cells = executed_cells(ended.record)
    ran = [cell["id"] for cell in cells if cell["execution_count"] and not cell["id"].startswith("ran-")]
    assert ran == ["parameters", "form", "bind", "check", "plan", "compare", "browse-before", "install"]
    install = next(cell for cell in cells if cell["id"] == "install")
    assert bool(install["metadata"]["runbook"]["ended"]) == (how in POLITE)
    errors = [output["ename"] for output in install["outputs"] if output["output_type"] == "error"]
    assert errors == (["RolledBack"] if how in POLITE else [])
