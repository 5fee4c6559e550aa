"""Plain asyncssh against a server under test, with none of the code under test in between."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncssh

from tests.realserver.host import SUDO_PASSWORD
from tests.servers import ServerUnderTest


@contextlib.asynccontextmanager
async def connected(
    server: ServerUnderTest, *, tunnel: asyncssh.SSHClientConnection | None = None
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """A connection with the operator's key."""
    given = server.parameters
    async with asyncssh.connect(
        given["host"],
        given["ssh_port"],
        username=given["user"],
        known_hosts=given["known_hosts"],
        client_keys=[given["client_key"]],
        agent_path=None,
        config=None,
        tunnel=tunnel or (),
    ) as connection:
        yield connection


@dataclass(frozen=True)
class Ended:
    """How a command ended; `status` is negative for a signal."""

    stdout: str
    stderr: str
    status: int | None


async def run(server: ServerUnderTest, command: str, stdin: str = "") -> Ended:
    """One command on a connection of its own, its standard input closed after `stdin`."""
    async with connected(server) as connection:
        process = await connection.create_process(command)
        with contextlib.suppress(BrokenPipeError):  # a command may end before it has been given anything
            process.stdin.write(stdin)
            process.stdin.write_eof()
        stdout, stderr = await process.communicate()
        return Ended(stdout or "", stderr or "", process.returncode)


async def run_as_root(server: ServerUnderTest, command: str) -> Ended:
    """One command through sudo, as an operator without a terminal gives it; stderr starts with sudo's lecture."""
    return await run(server, f"sudo -S -p '' -- {command}", f"{SUDO_PASSWORD}\n")
