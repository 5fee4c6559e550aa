"""Pinning a server's host key after a person has compared it."""

import os
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from runbook_lib.errors import HostKeyChanged
from runbook_lib.server.connection import Login, read_host_key


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A host key as a server showed it.

    Attributes:
        line: What would be written into the file of pinned host keys.
        file: That file.
        text: The key as a person compares it.
        pinned: Whether exactly this key is pinned already.
    """

    line: str
    file: Path
    text: str
    pinned: bool


async def show_key(login: Login) -> ShownKey:
    """The host key of a server, unverified, for a person to judge.

    Raises:
        HostKeyChanged: Another key is pinned for this server.
        Unreachable: The server or a bastion did not answer.
    """
    key, name, port, file = await read_host_key(login)
    place = name if port == asyncssh.DEFAULT_PORT else f"[{name}]:{port}"
    shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
    known = asyncssh.read_known_hosts([file]) if Path(file).is_file() else asyncssh.import_known_hosts("")
    pinned = known.match(name, "", port)[0]
    if pinned and key not in pinned:
        raise HostKeyChanged(
            f"another host key is pinned for {place}", server=login.host, why=f"shown {shown}",
            todo=f"ask who manages the server whether it was set up anew; if so, remove the old line first: ssh-keygen -R '{place}' -f {file}",
        )  # fmt: skip
    text = f"host key of {place}: {shown}" + (f"\nit is pinned already in {file}" if pinned else "")
    return ShownKey(f"{place} {key.export_public_key().decode().strip()}\n", Path(file), text, bool(pinned))


def pin(key: ShownKey) -> None:
    """Writes the key into the file of pinned host keys, made for us alone when it is not there."""
    key.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(key.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "a") as file:
        file.write(key.line)
