"""Notebooks run headless on the practice server: what they come to, what is shown, what is left behind."""

import contextlib
import gc
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.jupyter.headless import Event, Result, Runner
from runbook_lib.models import Outcome
from runbook_lib.record.journal import read
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import (
    NOTEBOOKS,
    HeldRestart,
    argv,
    executed_cells,
    is_gone,
    kernels_of,
    parameter_file,
    request,
    start,
    values,
)
from tests.servers import wait_until

REQUEST, INSTALL = NOTEBOOKS / "200_request_certificate.ipynb", NOTEBOOKS / "300_install_certificate.ipynb"


def with_cell(folder: Path, notebook: Path, after: str, code: str) -> Path:
    """A copy of a notebook with one more cell, after the one with this id."""
    content = json.loads(notebook.read_text())
    place = next(index for index, cell in enumerate(content["cells"]) if cell["id"] == after) + 1
    more: dict[str, Any] = {
        "cell_type": "code",
        "id": "more",
        "metadata": {},
        "source": code,
        "outputs": [],
        "execution_count": None,
    }
    content["cells"].insert(place, more)
    copy = folder / notebook.name
    copy.write_text(json.dumps(content))
    return copy


def run(notebook: Path, given: Mapping[str, object], on_event: Callable[[Event], None] = lambda _: None) -> Result:
    """Runs one notebook."""
    with Runner([notebook], on_event, lambda: None) as runner:
        return runner.run(given)


def left_behind() -> dict[str, object]:
    """What a run could leave in this process and its temporary folder."""
    gc.collect()
    descriptors = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return {
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "kernels": kernels_of(os.getpid()),
        "sockets and pipes": sum(each.startswith(("socket:", "pipe:", "anon_inode")) for each in descriptors),
        "folders": sorted(Path(tempfile.gettempdir()).glob("runbook-*")),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    }


def test_a_run_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread, kernel, socket, folder or signal handler: one process can run any number of notebooks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = left_behind()
    with Runner([REQUEST, INSTALL], lambda _: None, lambda: None) as runner:
        assert left_behind() != before
        assert runner.run({"host": "-"}).outcome is Outcome.UNUSABLE
    assert left_behind() == before


def test_a_replacement_through_both_notebooks(practice: EmbeddedHost, tmp_path: Path) -> None:
    """Both outcomes come from the journal, every event is heard once and in order, and no parameter is in an argv."""
    given, old = values(practice, tmp_path), practice.served()
    heard: list[Event] = []
    arguments: dict[int, bytes] = {}
    early: list[int] = []

    def hear(event: Event) -> None:
        heard.append(event)
        now = kernels_of(os.getpid())
        arguments.update({each: argv(each) for each in now})
        early.append(len(now))

    with Runner([REQUEST, INSTALL], hear, lambda: None) as runner:
        first = runner.run(given)
        requested = len(heard)
        second = runner.run(given | {"change_id": first.record.name if first.record else ""})
    assert (first.outcome, second.outcome) == (Outcome.DONE, Outcome.DONE)
    assert (first.error, second.error) == ("", "")
    assert second.record
    assert heard == list(read(second.record))
    assert [event["notebook"] for event in heard if event["event"] == "run"] == ["request", "install"]
    assert practice.served() != old
    assert practice.served() in (second.record / "files/certificate-after.pem").read_text()
    assert max(early[:requested]) == 2, "the kernel of the second notebook starts while the first one runs"
    assert max(early[requested:]) == 1
    said = b"".join(arguments.values())
    assert len(arguments) == 2
    for name in ("common_name", "sudo_password", "client_key"):
        assert given[name].encode() not in said
    assert kernels_of(os.getpid()) == []
    cells = executed_cells(second.record)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))


def test_unusable_parameters_contact_nothing(practice: EmbeddedHost, tmp_path: Path) -> None:
    """The bind cell refuses them; there is no record, and the error says what to write."""
    result = run(INSTALL, values(practice, tmp_path) | {"aply": True})
    assert (result.outcome, result.record) == (Outcome.UNUSABLE, None)
    assert "- aply: is no parameter" in result.error
    assert not (tmp_path / "records").exists()
    assert not practice.practice.connections


def test_a_refused_run_says_why(practice: EmbeddedHost, tmp_path: Path) -> None:
    """A server that has no open change is refused by a check, and the error is the one that the record carries."""
    result = run(INSTALL, values(practice, tmp_path))
    assert result.outcome is Outcome.REFUSED
    assert result.record
    (end,) = (event for event in read(result.record) if event["event"] == "end")
    assert end["what"] == result.error


@pytest.mark.parametrize(
    ("after", "code", "outcome"),
    [
        ("plan", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", Outcome.FAILED),
        ("install", "import sys\nsys.exit(0)", Outcome.UNKNOWN),
    ],
)
def test_a_notebook_that_ends_on_its_way_is_no_success(
    practice: EmbeddedHost, tmp_path: Path, after: str, code: str, outcome: Outcome
) -> None:
    """Papermill takes `sys.exit(0)` for a success; the journal has no end, and the outcome is read from it."""
    given = values(practice, tmp_path)
    record = request(given)
    result = run(with_cell(tmp_path, INSTALL, after, code), given)
    assert (result.outcome, result.record) == (outcome, record)
    assert [cell["id"] for cell in executed_cells(record) if cell["execution_count"]][-2] == after


def test_a_run_that_could_write_nothing_has_failed(practice: EmbeddedHost, tmp_path: Path) -> None:
    """The disk of the records is full when the install begins: what the request came to is not taken for its outcome."""
    given = values(practice, tmp_path)
    record = request(given)
    full = (
        "import errno\nfrom runbook_lib.record.journal import Journal\n"
        "def write(*_, **__): raise OSError(errno.ENOSPC, 'No space left on device')\nJournal.write = write"
    )
    served = practice.served()
    result = run(with_cell(tmp_path, INSTALL, "parameters", full), given)
    assert (result.outcome, result.record) == (Outcome.FAILED, record)
    assert "No space left on device" in result.error
    assert practice.served() == served


def test_runs_at_the_same_time_do_not_collide(practice_host: Callable[..., EmbeddedHost], tmp_path: Path) -> None:
    """Two runs in threads of one process, each with its own kernel, record and server; no signal handler is touched."""
    hosts = [practice_host() for _ in range(2)]
    folders = [tmp_path / str(number) for number in range(2)]
    for folder in folders:
        folder.mkdir()
    handler = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(2) as threads:
        given = [values(host, folder) for host, folder in zip(hosts, folders, strict=True)]
        results = list(threads.map(lambda each: run(REQUEST, each), given))
        assert signal.getsignal(signal.SIGTERM) is handler
    assert [(result.outcome, result.error) for result in results] == [(Outcome.DONE, "")] * 2
    for result, folder in zip(results, folders, strict=True):
        assert result.record
        assert [each.name for each in (folder / "records").iterdir()] == [result.record.name]


def test_a_second_run_of_the_same_change_is_refused(practice: EmbeddedHost, tmp_path: Path) -> None:
    """While one run writes the record, another one says that it must wait, and the first goes on."""
    given = values(practice, tmp_path)
    record = request(given)
    restart = HeldRestart(practice)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(run, INSTALL, given)
        restart.wait()
        second = run(INSTALL, given)
        restart.let_go()
    assert (first.result().outcome, first.result().record) == (Outcome.DONE, record)
    assert second.outcome is Outcome.REFUSED
    assert "another run" in second.error


def test_stopped_before_it_began(practice: EmbeddedHost, tmp_path: Path) -> None:
    """A signal between two notebooks is not lost: the next one is not begun."""
    before = signal.getsignal(signal.SIGTERM)
    with Runner([REQUEST], lambda _: None, lambda: None) as runner:
        os.kill(os.getpid(), signal.SIGTERM)
        result = runner.run(values(practice, tmp_path))
    assert (result.outcome, result.record) == (Outcome.REFUSED, None)
    assert not (tmp_path / "records").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_between_cells_takes_no_answer_away(tmp_path: Path) -> None:
    """Interrupted a thousand times a second a notebook of short cells still comes to its end: no request goes unanswered."""
    begun = tmp_path / "begun"
    sources = [f"open({str(begun)!r}, 'w').close()", *["number = 1"] * 40]
    cells: list[dict[str, Any]] = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": each, "outputs": [], "execution_count": None}
        for n, each in enumerate(sources)
    ]
    notebook = tmp_path / "short.ipynb"
    notebook.write_text(json.dumps({**json.loads(REQUEST.read_text()), "cells": cells}))
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run, notebook, {})
        wait_until(begun.exists, timeout_s=60)
        (kernel,) = kernels_of(os.getpid())
        until = time.monotonic() + 60
        while not running.done() and time.monotonic() < until:
            with contextlib.suppress(ProcessLookupError):
                os.kill(kernel, signal.SIGINT)
            time.sleep(0.001)
        if not running.done():
            os.kill(kernel, signal.SIGKILL)
            pytest.fail("papermill waits for an answer that never comes")
        assert running.result().error == ""


def test_an_ignored_signal_stays_ignored(practice: EmbeddedHost, tmp_path: Path) -> None:
    """Under nohup a closed terminal does not stop the run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Runner([REQUEST], lambda _: None, lambda: None) as runner:
            os.kill(os.getpid(), signal.SIGHUP)
            result = runner.run(values(practice, tmp_path, apply=False))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert result.outcome is Outcome.PLANNED


def test_stopped_while_it_connects(practice: EmbeddedHost, tmp_path: Path) -> None:
    """A server that accepts and says nothing: a signal ends the run at once, and nothing was done."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        given = values(practice, tmp_path, ssh_port=silent.getsockname()[1])
        process = start("runbook", "install", "-f", parameter_file(tmp_path, given), cwd=tmp_path, log=tmp_path / "log")
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            begun = time.monotonic()
            assert process.wait(timeout=30) == 3
            assert time.monotonic() - begun < 10
    said = (tmp_path / "log").read_text()
    assert "stopped before anything was done" in said
    assert said.splitlines()[-1].startswith("outcome: refused ")
    assert "Traceback" not in said


def test_sigkill_takes_the_kernels_with_it(practice: EmbeddedHost, tmp_path: Path) -> None:
    """Both kernels, the one that works and the one that waits for its notebook, end with `runbook`, and so does their folder."""
    given = values(practice, tmp_path)
    log = tmp_path / "log"
    process = start(
        "runbook", "replace", "-f", parameter_file(tmp_path, given), cwd=tmp_path, log=log, TMPDIR=str(tmp_path)
    )
    wait_until(lambda: len(kernels_of(process.pid)) == 2 and b"\n" in log.read_bytes(), timeout_s=60)
    kernels = kernels_of(process.pid)
    process.kill()
    process.wait()
    wait_until(lambda: all(map(is_gone, kernels)), timeout_s=10)
    assert list(tmp_path.glob("runbook-*")) == []
