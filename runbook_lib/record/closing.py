"""The end of a run in its record: the report is written, everything is searched for secrets, and it is sealed."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib.files import read_regular, sha256_of, write_whole
from runbook_lib.record.archive import Record
from runbook_lib.record.gate import MOST, Find, search
from runbook_lib.record.journal import NAME, NOT_OURS, read
from runbook_lib.record.report import render
from runbook_lib.record.seal import REPORT, Seal, digest, next_name, seal
from runbook_lib.record.verify import altered
from runbook_lib.secrets import Registry
from runbook_lib.sshsig import NotSigned, SigningKey

NO_KEY = "no signing_key was given"


@dataclass(frozen=True, slots=True)
class Closed:
    """How a record was left: with its seal, or with the reason why it has none."""

    seal: Seal | None
    why: str = ""

    def __str__(self) -> str:
        return f"{self.seal.name} sha256:{self.seal.digest}" if self.seal else f"none: {self.why}"


def close_record(record: Record, registry: Registry, *, operator: str, key: SigningKey | None, version: str) -> Closed:
    """Writes the report, searches the record and seals it; whatever goes wrong here changes nothing of the run's outcome.

    Args:
        record: The record, with its journal open.
        registry: The secrets that must not stand in it.
        operator: Who seals, as `allowed_signers` names them.
        key: The key that seals; None: the record stays unsealed.
        version: Of the runbooks.
    """
    try:
        why = _searched(record, registry, operator, key)
        made = seal(record.folder, operator=operator, key=key, version=version) if key and not why else None
    except Exception as error:  # noqa: BLE001 - the run has ended as it has
        why, made = str(error) if isinstance(error, NotSigned | OSError) else f"{type(error).__name__}: {error}", None
    if made is None:
        with suppress(Exception):
            record.journal.write("unsealed", text=f"not sealed: {why}")
            _report(record, registry, f"Not sealed: {why}.")
    return Closed(made, why)


def _searched(record: Record, registry: Registry, operator: str, key: SigningKey | None) -> str:
    """Writes the report as it will be sealed and searches everything; returns why it is not to be sealed, or nothing."""
    covered = (
        f"This page is to be covered by {next_name(record.folder)}, which {operator} signs with the key {key.fingerprint}."
        if key
        else ""
    )
    before = (
        "`runbook verify` tells whether it is. Before that, the whole record was searched for secrets and private keys."
    )
    _report(record, registry, f"{covered} {before}" if key else f"Not sealed: {NO_KEY}.")
    finds = search(record.folder, registry)
    found = [str(each) for each in finds]
    found += [f"{each}, as an earlier run found" for each in _standing(record.folder) if each not in found]
    record.journal.write(
        "gate", finds=[str(each) for each in finds], unsearched=sorted(registry.unmasked), held=list(_held(record.folder, finds)),
        text=f"secrets and private keys found in the record: {'; '.join(found) or 'none'}",
    )  # fmt: skip
    if found:
        return f"the record holds {'; '.join(found)}"
    if changed := altered(record.folder, repairs=False):
        return f"the record is not as it was sealed: {'; '.join(changed)}"
    return "" if key else NO_KEY


def _held(folder: Path, finds: Sequence[Find]) -> Iterator[tuple[str, str, str]]:
    """Each find, its file, and that file's digest; none for the journal, of which no line can change."""
    for each in finds:
        with suppress(OSError):  # what is no file of ours
            yield str(each), each.file, "" if each.file == NAME else sha256_of(folder / each.file)


def _standing(folder: Path) -> Sequence[str]:
    """What earlier runs found in files that are as they were then: this run need not know the secret that lies there."""
    found: list[str] = []
    for event in read(folder):
        if event["event"] == "gate":
            with suppress(*NOT_OURS):  # one that something else wrote
                found += [find for find, name, known in event.get("held", ()) if not known or _is(folder / name, known)]
    return list(dict.fromkeys(found))


def _is(path: Path, known: str) -> bool:
    try:
        return sha256_of(path) == known
    except OSError:
        return False


def mask_finds(record: Record, registry: Registry) -> tuple[str, ...]:
    """Masks the secrets in the notebooks and files of a record; the journal says where, and how the file was before.

    Returns:
        What was masked. A record in which it was sealed before is not proven any more: `verify` names the repair.

    Raises:
        OSError: A file cannot be written.
    """
    masked = []
    for name in dict.fromkeys(each.file for each in search(record.folder, registry)):
        path = record.folder / name
        if name.startswith(("notebooks/", "files/")):
            try:
                before = read_regular(path, MOST, follow=False)
            except OSError:  # the gate has named it, and goes on doing so
                continue
            after = _masked(path, before, registry)
            if after != before:
                record.journal.write(
                    "repair",
                    file=name,
                    before=digest(before),
                    after=digest(after),
                    text=f"secrets are masked in {name}",
                )
                write_whole(path, after)
                masked.append(name)
    return tuple(masked)


def _masked(path: Path, data: bytes, registry: Registry) -> bytes:
    text = data.decode(errors="surrogateescape")
    if path.suffix == ".ipynb":
        with suppress(ValueError, RecursionError):
            text = json.dumps(_redacted(json.loads(text), registry), indent=1, ensure_ascii=False)
    return registry.redact(text).encode(errors="surrogateescape")


def _redacted(value: Any, registry: Registry) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        return registry.redact(value)
    if isinstance(value, dict):
        return {registry.redact(name): _redacted(each, registry) for name, each in value.items()}
    return [_redacted(each, registry) for each in value] if isinstance(value, list) else value


def _report(record: Record, registry: Registry, sealing: str) -> None:
    text = registry.redact(render(record.folder, sealing))
    write_whole(record.folder / REPORT, text.encode(errors="backslashreplace"))
