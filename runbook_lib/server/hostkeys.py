"""Pinned host keys: which files hold them, what a server shows, and what to say when the two differ."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import asyncssh

from runbook_lib.errors import HostKeyChanged, HostKeyUnknown, Unreachable

SHOW_LIMIT_S = 15
_USERS_OWN = "~/.ssh/known_hosts"
_NOWHERE = {"none", "/dev/null"}  # what people write to switch the check off; it stays on


class PinnedKeys:
    """The host keys of one hop's files, looked up by the name that was asked for.

    asyncssh would also take a key that is pinned for the address a name resolves to: then whoever answers for the name
    server could send us to any server that we know. OpenSSH does not, and neither do we.

    Args:
        files: Files in the form of known_hosts; those that do not exist hold nothing.

    Raises:
        ValueError: A file is not in that form.
        OSError: A file cannot be read.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = tuple(files)
        self._known = asyncssh.read_known_hosts([each for each in files if Path(each).is_file()])

    def __call__(self, host: str, address: str, port: int) -> tuple[Sequence[object], ...]:
        """What asyncssh asks: the keys to trust, as OpenSSH also those pinned without a port."""
        del address
        return self._known.match(host, "", port)

    def of(self, name: str, port: int) -> tuple[Sequence[asyncssh.SSHKey], Sequence[asyncssh.SSHKey]]:
        """The keys pinned under exactly this name and port, and the revoked ones."""
        found = self._known.match(place(name, port), "", None)
        return found[0], found[2]


def place(name: str, port: int) -> str:
    """The name under which a host key is pinned."""
    return name if port == asyncssh.DEFAULT_PORT else f"[{name}]:{port}"


def pinned_files(options: asyncssh.SSHClientConnectionOptions, given: str) -> list[str]:
    """The files of pinned keys: the one given, else ssh_config's, else the user's own."""
    configured = cast("list[str]", options.config.get("UserKnownHostsFile", []))
    usable = [each for each in configured if each.lower() not in _NOWHERE]
    named = [given] if given else usable or [_USERS_OWN]
    return [str(Path(each).expanduser()) for each in named]


def describe(key: asyncssh.SSHKey) -> str:
    """A key as OpenSSH shows it to people."""
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


async def shown_key(
    options: asyncssh.SSHClientConnectionOptions,
    tunnel: asyncssh.SSHClientConnection | None,
    pinned: Sequence[asyncssh.SSHKey],
) -> asyncssh.SSHKey | None:
    """The key that a server shows, not verified; one of the kind that is pinned where it has one. None: no answer."""
    alike = [algorithm.decode() for key in pinned for algorithm in key.sig_algorithms]
    for algorithms in [alike, ()] if alike else [()]:
        try:
            async with asyncio.timeout(SHOW_LIMIT_S):
                return await asyncssh.get_server_host_key(
                    options.host,
                    options.port,
                    options=options,
                    config=None,
                    tunnel=tunnel,
                    server_host_key_algs=algorithms,
                )
        except (asyncssh.Error, OSError, TimeoutError):
            continue
    return None


async def host_key_error(
    options: asyncssh.SSHClientConnectionOptions,
    pinned: PinnedKeys,
    tunnel: asyncssh.SSHClientConnection | None,
    error: Exception,
    *,
    server: str,
) -> Unreachable | HostKeyUnknown | HostKeyChanged:
    """The error to raise when asyncssh did not take a hop's host key, or a hop hung up before there was one.

    Args:
        options: The hop's.
        pinned: Its pinned keys.
        tunnel: The connection that leads to it.
        error: What asyncssh raised.
        server: The run's server, for the error.
    """
    name, port = options.host_key_alias or options.host, options.port
    here = place(name, port)
    keys, revoked = pinned.of(name, port)
    key = await shown_key(options, tunnel, keys)
    if key is None or (key in keys and key not in revoked):
        differ = isinstance(error, asyncssh.KeyExchangeFailed)
        todo = "compare the algorithms of both sides" if differ and key else "check host and ssh_port, or try again"
        return Unreachable(f"no SSH session with {here}", server=server, why=str(error), todo=todo)
    if key in revoked:
        return revoked_key(here, key, pinned.files, server=server)
    if keys:
        return changed(here, key, keys, pinned.files[0], server=server)
    port_option = "" if port == asyncssh.DEFAULT_PORT else f" -p ssh_port {port}"
    file_option = "" if str(Path(_USERS_OWN).expanduser()) in pinned.files else f" -p known_hosts {pinned.files[0]}"
    return HostKeyUnknown(
        f"the host key of {here} was never pinned",
        server=server, why=f"shown {describe(key)}",
        todo="compare it with the server's own (`ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` at its console), "
             f"then run `runbook trust {name}{port_option}{file_option}`",
    )  # fmt: skip


def revoked_key(here: str, key: asyncssh.SSHKey, files: Sequence[str], *, server: str) -> HostKeyChanged:
    """The error for a server that shows a key which is marked as one not to be trusted."""
    return HostKeyChanged(
        f"the host key of {here} is revoked", server=server, why=f"shown {describe(key)}",
        todo=f"ask who manages the server; {' or '.join(files)} marks this key as one not to be trusted",
    )  # fmt: skip


def changed(
    here: str, key: asyncssh.SSHKey, pinned: Sequence[asyncssh.SSHKey], file: str, *, server: str
) -> HostKeyChanged:
    """The error for a server that shows another key than the pinned one."""
    return HostKeyChanged(
        f"the host key of {here} is not the pinned one",
        server=server, why=f"shown {describe(key)}, pinned {', '.join(map(describe, pinned))}",
        todo="ask who manages the server whether it was set up anew, as by an upgrade from VM to VM; if so, remove the old line first "
             f"(`ssh-keygen -R '{here}' -f {file}`), then run `runbook trust`",
    )  # fmt: skip
