"""Ten thousand records, each as long as that of a real replacement, and the command that lists them."""

import asyncio
import datetime as dt
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conductor import replace

from runbook_lib.lab import PracticeServer

RECORDS = 10_000
FIRST, BETWEEN = dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.timedelta(minutes=50)
NAME = "apstra.lab.example"
SETTLED_S = 3  # a journal that was written just now is not kept in the index
LIMIT_S = 300


class Archive:
    """A folder of records, made of one replacement on a practice server: other ids, servers, tickets and outcomes in each copy.

    Args:
        folder: An empty folder; it takes some 700 MB.
    """

    def __init__(self, folder: Path) -> None:
        self._records, self._cache = folder / "records", folder / "cache"
        change_id, journal = _one_replacement(folder / "one")
        for number in range(RECORDS):
            other = f"{FIRST + number * BETWEEN:%Y%m%dT%H%M%SZ}-{number:06x}"
            made = self._records / other
            made.mkdir(parents=True, mode=0o700)
            (made / "journal.jsonl").write_bytes(_another(journal, change_id, other, number))
        time.sleep(SETTLED_S)
        if self._list(self._cache) != self._list(self._cache):
            raise RuntimeError("the list from the index is another than the list from the journals")

    def listed(self) -> None:
        """`runbook records list`, with the index that an earlier list has left."""
        self._list(self._cache)

    def all_read(self) -> None:
        """The same where no index can be kept: every journal is read."""
        self._list(Path("/dev/null"))

    def _list(self, cache: Path) -> str:
        command = [
            str(Path(sys.executable).with_name("runbook")),
            "records",
            "list",
            "--records-dir",
            str(self._records),
        ]
        result = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=LIMIT_S, env=os.environ | {"XDG_CACHE_HOME": str(cache)}
        )  # fmt: skip
        if not result.stdout.startswith(f"{RECORDS} records\n") or "damaged" in result.stdout:
            msg = f"not all records were listed: {result.stdout[:200]}"
            raise RuntimeError(msg)
        return result.stdout


def _one_replacement(folder: Path) -> tuple[str, bytes]:
    """The id and the journal of a change that was requested and installed."""
    with (
        tempfile.TemporaryDirectory(prefix="apstra-practice-", dir="/tmp") as root,
        PracticeServer(Path(root)) as server,
    ):
        values = (
            server.parameters
            | server.signing
            | {"common_name": NAME, "san": [f"DNS:{NAME}", "IP:127.0.0.1"], "apply": True}
        )
        asyncio.run(replace(values | {"records_dir": str(folder)}, folder.parent))
    (record,) = folder.iterdir()
    return record.name, (record / "journal.jsonl").read_bytes()


def _another(journal: bytes, change_id: str, other: str, number: int) -> bytes:
    changed = {
        change_id: other,
        '"host": "127.0.0.1"': f'"host": "apstra{number % 200}.example.com"',
        '"ticket": ""': f'"ticket": "CHG{number:07}"',
        '"outcome": "done"': f'"outcome": "{("done", "done", "done", "rolled-back", "waiting")[number % 5]}"',
    }
    for old, new in changed.items():
        journal = journal.replace(old.encode(), new.encode())
    lines, head = [], ""
    for line in journal.splitlines():
        before, _, _ = line.rpartition(b'"prev": ')
        lines.append(before + f'"prev": "{head}"}}'.encode())
        head = hashlib.sha256(lines[-1]).hexdigest()
    return b"".join(line + b"\n" for line in lines)
