"""Pinning a server's host key after a person has compared it."""

import os
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.server.connection import Login, read_host_key
from runbook_lib.server.hostkeys import changed, describe, place, revoked_key


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
        HostKeyChanged: Another key is pinned for this server, or this one is revoked.
        Unreachable: The server or a bastion did not answer.
    """
    key, name, port, known = await read_host_key(login)
    here, file = place(name, port), known.files[0]
    pinned, revoked = known.of(name, port)
    if key in revoked:
        raise revoked_key(here, key, known.files, server=login.host)
    if pinned and key not in pinned:
        raise changed(here, key, pinned, file, server=login.host)
    text = f"host key of {here}: {describe(key)}" + (f"\nit is pinned already in {file}" if pinned else "")
    return ShownKey(f"{here} {key.export_public_key().decode().strip()}\n", Path(file), text, bool(pinned))


def pin(key: ShownKey) -> None:
    """Writes the key as a line of its own into the file of pinned host keys, made for us alone when it is not there."""
    key.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(key.file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        unended = bool(size) and os.pread(descriptor, 1, size - 1) != b"\n"
        file.write(b"\n" * unended + key.line.encode())
