"""The seal of a record: a statement over its files and the first lines of its journal, signed by the operator's SSH key.

A statement is an in-toto Statement v1. It names what it covers by SHA-256: the journal's first N lines, everything in
`notebooks/` and `files/`, the report, and the seal before it. One subject stands on a line of its own, so that
`sed` and `sha256sum` can check them without any of this.
"""

import datetime as dt
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.files import read_regular, sha256_of, write_whole
from runbook_lib.record.archive import files_of
from runbook_lib.record.journal import LARGEST, NAME, whole

if TYPE_CHECKING:
    from runbook_lib.sshsig import SigningKey

NAMESPACE = "apstra-runbook-record"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:apstra-certificate-runbooks:record:v1"
FOLDER, REPORT = "seals", "report.html"
NUMBERED = re.compile(r"(\d{4})\.json")


@dataclass(frozen=True, slots=True)
class Seal:
    """A seal that was made.

    Attributes:
        name: Its path in the record, `seals/NNNN.json`.
        digest: SHA-256 of that file, lower-case hex: what goes into the ticket.
    """

    name: str
    digest: str


def sealed(folder: Path) -> tuple[Path, ...]:
    """The seals of a record, oldest first."""
    try:
        return tuple(sorted(each for each in (folder / FOLDER).iterdir() if NUMBERED.fullmatch(each.name)))
    except OSError:
        return ()


def next_name(folder: Path) -> str:
    """The path in the record that the next seal will have."""
    last = max((int(each.stem) for each in sealed(folder)), default=0)
    return f"{FOLDER}/{last + 1:04}.json"


def seal(folder: Path, *, operator: str, key: "SigningKey", version: str) -> Seal:
    """Signs the record as it lies there; the caller holds its journal.

    Args:
        folder: The record.
        operator: Whose key it is, the name under which `allowed_signers` lists it.
        key: The key.
        version: Of the runbooks.

    Raises:
        NotSigned: The key did not sign.
        OSError: The seal cannot be written.
    """
    name = next_name(folder)
    data = _statement(folder, operator=operator, key=key, version=version)
    signature = key.sign(data, NAMESPACE)
    (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    write_whole(folder / f"{name}.sig", signature)
    write_whole(folder / name, data)
    return Seal(name, hashlib.sha256(data).hexdigest())


def digests(folder: Path) -> tuple[str, ...]:
    """SHA-256 of each seal of a record, oldest first; empty for one that cannot be read."""
    return tuple(map(_digest_of, sealed(folder)))


def _digest_of(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""


def lines_sealed(folder: Path) -> int:
    """How many lines of the journal the newest seal speaks of, as it says itself; 0 where there is none that can be read."""
    try:
        return int(
            statement_in(read_regular(sealed(folder)[-1], LARGEST, follow=False))["predicate"]["journal"]["lines"]
        )
    except (IndexError, OSError, ValueError, KeyError, TypeError):
        return 0


def described(folder: Path) -> str:
    """The newest seal with its digest, or that what was written last has none."""
    seals = sealed(folder)
    try:
        journal = whole(folder)
    except OSError as error:
        return f"{NAME} cannot be read: {error.strerror}"
    try:
        data = read_regular(seals[-1], LARGEST, follow=False) if seals else b"{}"
        lines = statement_in(data)["predicate"]["journal"]["lines"] if seals else 0
    except (OSError, ValueError, KeyError, TypeError):
        return f"{FOLDER}/{seals[-1].name} cannot be read"
    if seals and lines == journal.count(b"\n"):
        return f"{FOLDER}/{seals[-1].name} sha256:{digest(data)}"
    return "none" if not seals else f"none over what was written after {FOLDER}/{seals[-1].name}"


def covered(folder: Path) -> Mapping[str, Path]:
    """The files that a seal covers whole, by their paths in the record."""
    return {
        name: path
        for name, path in files_of(folder).items()
        if name.startswith(("files/", "notebooks/")) or name == REPORT
    }


def _statement(folder: Path, *, operator: str, key: "SigningKey", version: str) -> bytes:
    journal = whole(folder)
    digests = {NAME: digest(journal)} | {name: sha256_of(path) for name, path in covered(folder).items()}
    before = sealed(folder)
    predicate = {
        "change_id": folder.name, "operator": operator, "key": key.fingerprint, "version": version,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "journal": {"lines": journal.count(b"\n"), "bytes": len(journal)},
        "before": {"name": f"{FOLDER}/{before[-1].name}", "digest": {"sha256": sha256_of(before[-1])}} if before else None,
    }  # fmt: skip
    subjects = ",\n".join(f"  {json.dumps({'name': n, 'digest': {'sha256': d}})}" for n, d in digests.items())
    return (
        f'{{\n "_type": "{STATEMENT}",\n "subject": [\n{subjects}\n ],\n'
        f' "predicateType": "{PREDICATE}",\n "predicate": {json.dumps(predicate)}\n}}\n'
    ).encode()


def digest(data: bytes) -> str:
    """SHA-256, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def statement_in(data: bytes) -> Mapping[str, Any]:
    """What a seal says.

    Raises:
        ValueError: It is no statement over a record.
    """
    try:
        said = json.loads(data)
    except RecursionError:  # brackets nested by the thousand
        said = None
    wrong = not isinstance(said, dict) or (said.get("_type"), said.get("predicateType")) != (STATEMENT, PREDICATE)
    if wrong:
        msg = "is no seal of a record"
        raise ValueError(msg)
    return dict(said)
