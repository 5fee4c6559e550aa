"""Records that are sealed, and the keys that seal them."""

import json
from pathlib import Path

import asyncssh

from runbook_lib.record.archive import Record, open_record
from runbook_lib.record.closing import Closed, close_record
from runbook_lib.secrets import Registry
from runbook_lib.sshsig import SigningKey, load_signing_key
from tests.record.test_summary import done

CHANGE = "20260601T120000Z-1a2b3c"
OPERATOR = "ada@example.net"
SECRET = "correct horse battery"


def signing_key(folder: Path, name: str = "key", kind: str = "ssh-ed25519") -> SigningKey:
    """A new key in a file of its own, its public half beside it."""
    key = asyncssh.generate_private_key(kind)
    path = folder / name
    path.write_bytes(key.export_private_key())
    path.chmod(0o600)
    path.with_name(f"{name}.pub").write_bytes(key.export_public_key())
    return load_signing_key(path)


def allowing(key: SigningKey, operator: str = OPERATOR) -> str:
    """Allowed signers that name this key alone."""
    return f"{operator} {key.public}\n"


def notebook(text: str) -> bytes:
    """An executed notebook of two cells, one of which wrote a text."""
    output = {"output_type": "stream", "name": "stdout", "text": text}
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# An executed notebook"},
        {"cell_type": "code", "id": "b", "metadata": {}, "source": "1", "execution_count": 1, "outputs": [output]},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1).encode()


def run(records: Path, number: int, said: str = "nothing odd") -> Record:
    """A record with one run more, its journal open."""
    record = open_record(records, CHANGE, str)
    done(record.journal)
    record.add_file(f"certificate-{number}.pem", f"certificate {number}\n".encode())
    path = record.folder / "notebooks" / f"2026060{number}T120000Z-300_install_certificate.ipynb"
    path.write_bytes(notebook(said))
    return record


def closed(record: Record, key: SigningKey | None, registry: Registry | None = None) -> Closed:
    """Closes a record as a run does."""
    ended = close_record(record, registry or Registry(), operator=OPERATOR, key=key, version="1")
    record.journal.close()
    return ended


def sealed_record(folder: Path, key: SigningKey, runs: int = 2) -> Path:
    """A record of some runs, each sealed at its end."""
    for number in range(1, runs + 1):
        record = run(folder / "records", number)
        assert closed(record, key).seal
    return folder / "records" / CHANGE
