"""Containers as docker keeps them: state, restarts, and the back-off of one whose program does not start."""

import asyncio
import datetime as dt
import os
import secrets
from dataclasses import dataclass, field

from runbook_lib.lab.nginx import Nginx
from runbook_lib.lab.nginxconf import EmergencyError

STOP_AND_START_S = 0.1
PROGRAM_START_S = 0.03
FIRST_BACK_OFF_S = 0.1
LONGEST_BACK_OFF_S = 60.0


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass
class Container:
    """One container; times are UTC.

    Attributes:
        name: As `docker ps` shows it.
        command: The program and its arguments.
        mounts: Bind mounts as pairs of path on the server and path inside.
        nginx: What runs in it; None is a program that always runs and does nothing.
    """

    name: str
    command: tuple[str, ...]
    mounts: tuple[tuple[str, str], ...] = ()
    nginx: Nginx | None = None
    container_id: str = field(default_factory=lambda: secrets.token_hex(32))
    status: str = "created"
    restart_count: int = 0
    exit_code: int = 0
    created: dt.datetime = field(default_factory=_now)
    started_at: dt.datetime = field(default_factory=_now)
    _program: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process that runs it: this one, whose sockets are nginx's."""
        return os.getpid() if self.status == "running" else 0

    def boot(self) -> None:
        """Start it with the server: its program runs when this returns, if it can run at all."""
        self._mark_started()
        try:
            self._start_program()
        except EmergencyError:
            self._program = asyncio.create_task(self._run_program())

    async def restart(self) -> None:
        """Stop and start it. Returns when the container runs, which says nothing about the program in it."""
        self.stop()
        self.restart_count = 0
        await asyncio.sleep(STOP_AND_START_S)
        self._mark_started()
        self._program = asyncio.create_task(self._run_program())

    def stop(self) -> None:
        """Stop it for good."""
        if self._program:
            self._program.cancel()
            self._program = None
        if self.nginx:
            self.nginx.stop()
        self.status = "exited"

    def _mark_started(self) -> None:
        self.status, self.exit_code, self.started_at = "running", 0, _now()

    def _start_program(self) -> None:
        if self.nginx:
            self.nginx.start()

    async def _run_program(self) -> None:
        """Start the program; one that fails is tried again and again, ever more seldom, as docker does."""
        back_off = FIRST_BACK_OFF_S
        while True:
            await asyncio.sleep(PROGRAM_START_S)
            try:
                self._start_program()
            except EmergencyError:
                self.status, self.exit_code = "restarting", 1
                self.restart_count += 1
            else:
                return
            await asyncio.sleep(back_off)
            back_off = min(back_off * 2, LONGEST_BACK_OFF_S)
            self._mark_started()
