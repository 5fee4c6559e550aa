"""The SSH side of the practice server: logins, commands in a real shell, and forwarding to loopback."""

import asyncio
import contextlib
import ipaddress
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

if TYPE_CHECKING:
    from runbook_lib.lab.server import PracticeServer

USER = "admin"
_BANNER = "Authorized users only. All activity may be monitored and reported.\n"
_NOISE_ON_STDOUT = b"Welcome to the practice server, it is {fine} today\n"
_NOISE_ON_STDERR = b"stty: standard input: not a tty\n"
_EXPIRED = b"WARNING: Your password has expired.\nPassword change required but no TTY available.\n"
_NO_SHELL = b"The practice server runs commands only; a real one would open its console menu here.\n"


class Login(asyncssh.SSHServer):
    """One client's connection: who may log in, and where it may be forwarded to."""

    def __init__(self, practice: "PracticeServer") -> None:
        self._practice = practice
        self._key = asyncssh.read_public_key(practice.root / "id_ed25519.pub")

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Remember the connection, for the banner and for the server's end."""
        self._connection = conn
        self._practice.connections.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        self._practice.connections.discard(self._connection)

    def begin_auth(self, username: str) -> bool:
        """Everybody has to authenticate."""
        del username
        self._connection.send_auth_banner(_BANNER)
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are taken."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """The operator's key alone."""
        return username == USER and key == self._key

    def password_auth_supported(self) -> bool:
        """Passwords are taken."""
        return True

    def validate_password(self, username: str, password: str) -> bool:
        """The password of sudo is the user's own, as on Linux; attempts are counted."""
        self._practice.password_attempts += 1
        return username == USER and password == self._practice.password

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """Forwarding reaches loopback addresses and nothing else."""
        del dest_port, orig_host, orig_port
        return self._practice.tcp_forwarding and _is_loopback(dest_host)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def environment(root: Path) -> dict[str, str]:
    """What a command of `admin` finds in its environment."""
    return {
        "PATH": f"{root}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": f"{root}/home/{USER}",
        "USER": USER,
        "LOGNAME": USER,
        "SHELL": "/bin/bash",
        "APSTRA_PRACTICE_SERVER": str(root),
    }


def end_processes(root: Path) -> None:
    """Kill every process that the server of this folder started, the detached ones too."""
    mark = f"APSTRA_PRACTICE_SERVER={root}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(process.name) != os.getpid() and mark in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), 9)


async def run_command(practice: "PracticeServer", process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run a channel's command as sshd does without a terminal.

    The command has three pipes. When the channel goes away they are closed, and nothing is killed: what has
    detached itself lives on.
    """
    if practice.expired_password or process.command is None:
        process.stderr.write(_EXPIRED if practice.expired_password else _NO_SHELL)
        process.exit(1)
        return
    if practice.noise:
        process.stdout.write(_NOISE_ON_STDOUT)
        process.stderr.write(_NOISE_ON_STDERR)
    client, port, _ = [*process.get_extra_info("peername"), 0][:3]
    shell = subprocess.Popen(  # noqa: ASYNC220 - forks in a millisecond, and its pipes are handed to asyncssh
        [shutil.which("bash") or "/bin/sh", "-c", process.command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment(practice.root) | {"SSH_CLIENT": f"{client} {port} {practice.ssh_port}"},
        cwd=practice.root / "home" / USER,
        start_new_session=True,
    )
    try:
        with contextlib.suppress(OSError, asyncssh.Error):
            # the end of one stream must not close the other
            await process.redirect(shell.stdin, shell.stdout, shell.stderr, send_eof=False)
            await _said_all(process)
        status = await _ended(shell)
        with contextlib.suppress(OSError, asyncssh.Error):
            if status < 0:
                process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
            else:
                process.exit(status)
    finally:
        await process.wait_closed()


async def _said_all(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Waits until both streams have ended, or the channel has gone away and nobody hears them."""

    async def heard() -> None:
        await process.stdout.drain()
        await process.stderr.drain()
        process.channel.write_eof()

    tasks = {asyncio.create_task(heard()), asyncio.create_task(process.wait_closed())}
    done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for each in left:
        each.cancel()
    for each in done:
        each.result()


async def _ended(shell: subprocess.Popen[bytes]) -> int:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(shell.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return shell.wait()
