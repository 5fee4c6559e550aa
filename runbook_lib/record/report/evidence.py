"""What lies in a record's folder beside the journal: its files, the certificates among them, what an audit read."""

import contextlib
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from runbook_lib.files import read_regular, sha256_of
from runbook_lib.models import Certificate, Check
from runbook_lib.pki.certificates import LARGEST, read_certificates
from runbook_lib.record.archive import files_of
from runbook_lib.record.journal import NAME, Event
from runbook_lib.record.seal import REPORT
from runbook_lib.tables import Table, fingerprint

STILL_WRITTEN = "in the seal: the journal is still written when this page is made"


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of a record.

    Attributes:
        path: Where it lies, relative to the record's folder.
        href: The same as a relative URL; empty where it is no regular file that could be read.
        size: Bytes.
        sha256: Of its content, lower-case hex; or why there is none.
    """

    path: str
    href: str
    size: int
    sha256: str


def kept(folder: Path) -> tuple[Kept, ...]:
    """Every file of a record but the report, which cannot hold its own digest; a link is not followed."""
    return tuple(_kept(path, Path(name)) for name, path in files_of(folder).items() if name != REPORT)


def _kept(path: Path, relative: Path) -> Kept:
    if str(relative) == NAME:
        return Kept(NAME, NAME, path.stat().st_size, STILL_WRITTEN)
    try:
        digest = sha256_of(path)
        return Kept(str(relative), urllib.parse.quote(os.fsencode(relative)), path.stat().st_size, digest)
    except OSError as error:
        none = path.is_symlink() or not path.is_file()
        return Kept(str(relative), "", 0, "no regular file" if none else f"cannot be read: {error.strerror}")


def certificates(folder: Path, run: Sequence[Event], earlier: Sequence[Event]) -> Table:
    """The certificates of a run side by side, a column each, a row a property, and last whether first and last of them differ.

    Args:
        folder: The record's folder.
        run: The run's events.
        earlier: The events of the runs before it, one of which may have staged what this one was to install.

    Returns:
        The table; without rows where the run noted no certificate.
    """
    chains = _chains(folder)
    columns = {
        event["role"]: _properties(event, *_file_of(event, chains)) for event in run if event["event"] == "certificate"
    }
    staged = [
        e["name"] for e in (*earlier, *run) if e["event"] == "file" and e["name"].startswith("certificate-staged")
    ]
    if "after" not in columns and staged and staged[-1] in chains:
        columns["staged"] = _properties({}, staged[-1], chains[staged[-1]])
    shown = list(columns.values())
    several = len(shown) > 1
    rows = (
        (name, *(each[name] for each in shown), *([_changed(name, shown[0], shown[-1])] * several))
        for name in (shown[0] if shown else ())
    )
    return Table("certificates side by side", ("", *columns, *(["changed?"] * several)), tuple(rows))


def _changed(name: str, first: Mapping[str, str], last: Mapping[str, str]) -> str:
    return "" if name == "file" else "changed" if first[name] != last[name] else "the same"


def _chains(folder: Path) -> dict[str, tuple[Certificate, ...]]:
    """The chains that the record keeps, by the file's name."""
    found = {}
    for path in sorted(folder.glob("files/certificate-*.pem")):
        with contextlib.suppress(OSError, ValueError):  # what cannot be read as one is among the files all the same
            found[path.name] = read_certificates(read_regular(path, LARGEST))
    return found


def _file_of(event: Event, chains: Mapping[str, tuple[Certificate, ...]]) -> tuple[str, tuple[Certificate, ...]]:
    """The file that holds the certificate of an event, and its chain."""
    return next(((name, chain) for name, chain in chains.items() if chain[0].sha256 == event["sha256"]), ("", ()))


def _properties(event: Event, file: str, chain: Sequence[Certificate]) -> dict[str, str]:
    """What is shown of a certificate: as its file says, or where there is none as the journal says."""
    leaf = {**event, **(asdict(chain[0]) if chain else {})}
    return {
        "common name": leaf["common_name"] or "none",
        "SAN": "\n".join(leaf.get("san", ())) or "none",
        "issuer": leaf.get("issuer") or "not noted",
        "subject": leaf.get("subject") or "not noted",
        "valid from": _moment(leaf.get("not_before")),
        "valid until": _moment(leaf["not_after"]),
        "key": leaf.get("key") or "not noted",
        "serial": leaf.get("serial") or "not noted",
        "SHA-256 fingerprint": fingerprint(leaf["sha256"]),
        "public key (SPKI), SHA-256": fingerprint(leaf.get("spki_sha256", "")),
        "file": f"{file}, {len(chain)} certificate{'s' * (len(chain) > 1)}" if chain else "not in the record",
    }


def _moment(at: object) -> str:
    """A time of a certificate: a datetime from its file, ISO 8601 text from the journal."""
    return f"{str(at)[:19].replace('T', ' ')} UTC" if at else "not noted"


@dataclass(frozen=True)
class Audited:
    """What an audit read: a row of values by their names a handshake, and the checks."""

    served: tuple[dict[str, object], ...] = ()
    checks: tuple[Check, ...] = ()


_AUDITED = TypeAdapter(Audited)


def audited(folder: Path) -> Audited:
    """What `files/audit.json` holds; nothing where it is not there or is another program's."""
    try:
        return _AUDITED.validate_json(read_regular(folder / "files" / "audit.json", LARGEST), strict=True)
    except (OSError, ValueError):
        return Audited()
