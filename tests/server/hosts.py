"""What the tests of the server's room share: logins made from a server's parameters, and root shells on it."""

import contextlib
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.server.connection import Login, connect
from runbook_lib.server.shell import RootShell, open_root_shell
from tests.embedded import EmbeddedHost
from tests.realserver.host import SUDO_PASSWORD, RealHost
from tests.servers import ServerUnderTest


def login(server: ServerUnderTest, **changes: Any) -> Login:  # noqa: ANN401 - handed on to a typed constructor
    """The operator's login: known host key, client key, no password."""
    given = server.parameters
    usual = {"host": given["host"], "port": given["ssh_port"]}
    return Login(**(usual | {name: given[name] for name in ("known_hosts", "client_key")} | changes))


@contextlib.asynccontextmanager
async def root_shell(server: ServerUnderTest, password: str | None = SUDO_PASSWORD) -> AsyncIterator[RootShell]:
    """A root shell on a connection of its own."""
    connection = await connect(login(server))
    try:
        shell = await open_root_shell(connection.ssh, host=server.parameters["host"], sudo_password=password)
        yield shell
        await shell.close()
    finally:
        await connection.close()


def host_key(server: ServerUnderTest) -> str:
    """The server's public host key: kind and base64."""
    return " ".join(Path(server.parameters["known_hosts"]).read_text().split()[1:3])


def sshd(host: RealHost, *settings: str) -> None:
    """Restarts a real server's OpenSSH with settings that come before its own, and waits for it."""
    lines = "\\n".join(settings)
    host.run(
        f"sed -i '1i {lines}' /etc/ssh/sshd_config; : >/run/lab/sshd.log; kill -HUP $(cut -d ' ' -f 3 /run/lab/keep); "
        "until grep -q listening /run/lab/sshd.log; do sleep 0.01; done"
    )


def sshd_log(host: RealHost) -> str:
    """What OpenSSH logged since its last restart."""
    return host.path("/run/lab/sshd.log").read_text()


def cut(server: ServerUnderTest) -> None:
    """Ends every SSH connection to the server at once, without a goodbye."""
    if isinstance(server, EmbeddedHost):
        loop = server.practice._loop  # noqa: SLF001 - its connections belong to the loop of its thread
        for connection in list(server.practice.connections):
            loop.call_soon_threadsafe(connection.abort)
    else:
        server.run("for each in $(pgrep -f '^sshd: admin'); do kill -KILL $each; done")


@dataclass(frozen=True)
class Agent:
    """A running ssh-agent."""

    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "agent"

    def add(self, key: Path) -> None:
        """Hands it a private key file, without a passphrase or with the one of `keypair`."""
        asks = self.folder / "askpass"
        asks.write_text("#!/bin/sh\necho passphrase\n")
        asks.chmod(0o755)
        environment = {
            "SSH_ASKPASS": str(asks),
            "SSH_ASKPASS_REQUIRE": "force",
            "SSH_AUTH_SOCK": str(self.socket),
        }
        subprocess.run(["ssh-add", "-q", str(key)], check=True, env=environment, stdin=subprocess.DEVNULL)


def keypair(file: Path, *, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A new key pair in `file` and `file`.pub."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(file)], check=True)
    return file
