"""Records to look at: written by the journal itself, or by something else."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runbook_lib.record.archive import Record, open_record
from runbook_lib.record.journal import NAME

CHANGE = "20260601T120000Z-1a2b3c"
NOBODY = 65534


def opened(records: Path, change_id: str = CHANGE) -> Record:
    """A record, with nothing to redact."""
    return open_record(records, change_id, str)


def told(folder: Path) -> None:
    """A whole run, every kind of event in it."""
    folder.parent.mkdir(exist_ok=True, parents=True)
    made = opened(folder.parent, folder.name)
    write = made.journal.write
    write("run", notebook="request", host="apstra", operator="ada", ticket="", apply=False)
    write("end", outcome="planned", what="", todo="")
    write("run", notebook="install", host="apstra", operator="grace", ticket="CHG-1", apply=True)
    write(
        "checks",
        step="check",
        checks=[{"verdict": each, "question": "Is it so?", "found": each} for each in ("pass", "warn", "pass")],
    )
    write("plan", sha256="f" * 64, commands=[1, 2])
    write("intent", step="install", purpose="swap the pair")
    write("result", step="install", purpose="swap the pair", status=0, duration_s=0.0344)
    write("certificate", role="after", common_name="apstra", not_after="2027-06-01T12:00:00Z", sha256="ab")
    write("probe", outage_ms=None, samples=7)
    write("note", text="a note")
    made.add_file("nginx.csr", b"12345")
    write("end", outcome="rolled-back", what="the old pair is serving", todo="")
    made.journal.close()


def gone_on(folder: Path, *events: tuple[str, dict[str, object]]) -> None:
    """Writes more events into a record, each by its kind and its fields."""
    made = opened(folder.parent, folder.name)
    for kind, fields in events:
        made.journal.write(kind, **fields)
    made.journal.close()


def line(**event: object) -> bytes:
    """A line of a journal that something else wrote."""
    return json.dumps({"at": "2026-06-01T12:00:00Z", **event}).encode() + b"\n"


def chained(*lines: bytes) -> bytes:
    """The lines as a journal holds them, each with the hash of the one before."""
    whole, head = b"", ""
    for each in lines:
        one = json.dumps({**json.loads(each), "prev": head}).encode()
        whole, head = whole + one + b"\n", hashlib.sha256(one).hexdigest()
    return whole


RUN = line(event="run", notebook="install", host="apstra")
BROKEN: dict[str, bytes | None] = {
    "no journal": None,
    "an empty journal": b"",
    "no text": os.urandom(100) + b"\n",
    "no run": line(event="note", text="x"),
    "a run without a time": b'{"event": "run"}\n',
    "an outcome of no version": RUN + line(event="end", outcome="splendid"),
    "an end without an outcome": RUN + line(event="end"),
    "an intent without a step": RUN + line(event="intent"),
    "an intent of numbers": RUN + line(event="intent", step="install", purpose=5),
    "an event of lists": line(event=["run"]) + RUN + line(event=["end"]),
    "brackets without end": b"[" * 100_000 + b"\n",
}  # fmt: skip


@contextmanager
def readable(*change_ids: str) -> Iterator[Path]:
    """A folder of records that everyone can read, whoever runs the tests."""
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder)
        records.chmod(0o755)
        for each in change_ids:
            told(records / each)
            (records / each).chmod(0o755)
            (records / each / NAME).chmod(0o644)
        yield records


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user whom a closed folder keeps out; root gives itself up for a while."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
