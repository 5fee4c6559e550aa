"""A change's backup, taken off the server: in memory alone, and proven."""

import base64
import hashlib
import io
import shlex
import tarfile
from collections.abc import Mapping

from runbook_lib.errors import Refused
from runbook_lib.models import Command
from runbook_lib.server.shell import RootShell

CHUNK = 1 << 19  # bytes; in base64 they are less than a command may print
LARGEST = 256 << 20


async def read_files(shell: RootShell, folder: str, sums: Mapping[str, str], host: str) -> dict[str, bytes]:
    """Files of a change by their names.

    Args:
        shell: The root shell.
        folder: Where they lie on the server.
        sums: SHA-256 by file name, as they were proven.
        host: The server, for errors.

    Raises:
        Refused: A file is not as it was proven, or larger than anybody wants in memory.
    """
    return {name: await _read(shell, f"{folder}/{name}", digest, host) for name, digest in sums.items()}


async def _read(shell: RootShell, path: str, digest: str, host: str) -> bytes:
    data = bytearray()
    while len(data) <= LARGEST:
        script = f"dd if={shlex.quote(path)} bs={CHUNK} skip={len(data) // CHUNK} count=1 2>/dev/null | base64 -w 0"
        (result,) = await shell.run_all([Command("read the backup", script)], bounded=False)
        part = base64.b64decode(result.stdout)
        data += part
        if len(part) < CHUNK:
            break
    if hashlib.sha256(data).hexdigest() != digest:
        raise Refused(
            "the backup did not arrive as it was proven",
            server=host,
            why=path,
            todo="run again; look at the server's disk",
        )
    return bytes(data)


def pack(files: Mapping[str, bytes]) -> bytes:
    """A tar of files, each readable by its owner alone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def unpack(data: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    """The named files of such a tar.

    Raises:
        ValueError: It is no tar, or one of them is missing.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            found = {
                each.name: reader.read()
                for each in tar
                if each.name in names and each.size <= LARGEST and (reader := tar.extractfile(each))
            }
    except tarfile.TarError:
        found = {}
    if missing := [name for name in names if name not in found]:
        msg = f"holds no {' and no '.join(missing)}"
        raise ValueError(msg)
    return found
