"""Changes on the practice server, brought to where a test begins, and what is true of them afterwards."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import yaml

from runbook_lib.change import Change, Request, open_change
from runbook_lib.record.archive import open_record
from runbook_lib.secrets import REGISTRY
from runbook_lib.session import prepare
from tests.embedded import EmbeddedHost
from tests.servers import wait_until

PROJECT = Path(__file__).parents[2]
NOTEBOOKS = PROJECT / "notebooks"
SCRIPTS = Path(sys.executable).parent


def values(host: EmbeddedHost, folder: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any parameters
    """The parameters of a run that replaces the certificate of this server and keeps its record in `folder`."""
    return {
        **host.parameters,
        **host.signing,
        "common_name": "apstra.lab.example",
        "san": ["DNS:apstra.lab.example", "IP:127.0.0.1"],
        "key_type": "ec-p256",
        "rollback_after_s": 30,
        "records_dir": str(folder / "records"),
        "apply": True,
        **more,
    }


def parameter_file(folder: Path, given: dict[str, Any]) -> Path:
    """The parameters as a YAML file."""
    file = folder / "parameters.yaml"
    file.write_text(yaml.safe_dump(given))
    return file


def request(given: dict[str, Any]) -> Path:
    """Brings a change to its staged certificate, by the library alone; returns its record."""
    return asyncio.run(_request(given))


def look_again(kind: Literal["request", "install", "restore"], given: dict[str, Any]) -> Change:
    """A run up to its plan, by the library alone; returns it, closed."""
    return asyncio.run(_look_again(kind, given))


async def _look_again(kind: Literal["request", "install", "restore"], given: dict[str, Any]) -> Change:
    prepared = prepare(kind, given, PROJECT, None)
    change = await open_change(prepared, lambda each: open_record(prepared.records, each, REGISTRY.redact))
    try:
        await change.check()
        await change.plan()
        change.summary()
    finally:
        await change.close()
    return change


def executed_cells(record: Path) -> list[dict[str, Any]]:
    """The code cells of the notebook that a record's last run left."""
    file = max((record / "notebooks").glob("*.ipynb"))
    return [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]


async def _request(given: dict[str, Any]) -> Path:
    prepared = prepare("request", given, PROJECT, None)
    change = await open_change(prepared, lambda each: open_record(prepared.records, each, REGISTRY.redact))
    assert isinstance(change, Request)
    try:
        for step in (change.check, change.plan, change.back_up, change.make_key, change.make_csr, change.sign):
            await step()
        change.summary()
        return change.record.folder
    finally:
        await change.close()


class HeldRestart:
    """Makes `docker restart` of a practice server wait until it is let go: time to interrupt an install at its riskiest."""

    def __init__(self, host: EmbeddedHost) -> None:
        self._hold, self._held = host.practice.root / "hold", host.practice.root / "held"
        docker = host.practice.root / "bin/docker"
        original = docker.rename(docker.with_name("docker-at-once"))
        docker.write_text(
            f'#!/bin/sh\n[ "$1" != restart ] || while [ -e "{self._hold}" ]; do touch "{self._held}"; sleep 0.02; done\n'
            f'exec "{original}" "$@"\n'
        )
        docker.chmod(0o755)
        self._hold.touch()

    def wait(self) -> None:
        """Waits until a restart is being held: the new pair is in place, and nginx has not loaded it."""
        wait_until(self._held.exists, timeout_s=60)

    def let_go(self) -> None:
        """Lets every restart go on."""
        self._hold.unlink()


def start(*command: str | Path, cwd: Path, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Starts a program of the virtual environment; all it says goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [SCRIPTS / command[0], *command[1:]],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"} | environment,
        )


def children(process: int) -> list[int]:
    """The processes that a process has started and that have not ended."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return found


def kernels_of(process: int) -> list[int]:
    """The kernels that a process has started and that have not ended."""
    return [each for each in children(process) if b"runbook_lib.jupyter.kernel" in argv(each)]


def argv(process: int) -> bytes:
    """A process's arguments; none for one that has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def is_gone(process: int) -> bool:
    """Whether a process has ended; one that waits to be reaped has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
