"""The events that this version writes, by the fields that are read out of them.

A journal is evidence: a line that something else wrote, or that was cut short, is shown as it stands and nothing is derived
from it, so that whoever tells a record does not stumble over it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from runbook_lib.models import Check, Outcome, Said
from runbook_lib.record.journal import Event, event_of, whole

_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$"
_Whole = Annotated[int, Field(ge=0, le=10**12)]
_Measured = Annotated[float, Field(ge=0, le=1e15)]


@dataclass(frozen=True, kw_only=True)
class _Head:
    event: str
    at: Annotated[str, Field(pattern=_MOMENT)]


@dataclass(frozen=True, kw_only=True)
class _Run(_Head):
    notebook: str
    host: str
    operator: str
    ticket: str = ""
    reason: str = ""
    apply: bool = False
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class _Certificate(_Head):
    role: str
    common_name: str
    not_after: str
    sha256: str
    subject: str = ""
    issuer: str = ""
    san: tuple[str, ...] = ()
    not_before: str = ""
    key: str = ""
    serial: str = ""
    spki_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class _Container:
    name: str
    status: str


@dataclass(frozen=True, kw_only=True)
class _Facts(_Head):
    hostname: str
    state: str = ""
    host_key: str = ""
    os: str = ""
    apstra_version: str = ""
    container: _Container | None = None


@dataclass(frozen=True, kw_only=True)
class _Checks(_Head):
    step: str
    checks: tuple[Check, ...]


@dataclass(frozen=True, kw_only=True)
class _Compare(_Head):
    digests: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class _Command:
    step: str
    purpose: str
    script: str
    undo: str = ""
    stdin: str = ""


@dataclass(frozen=True, kw_only=True)
class _Plan(_Head):
    sha256: str
    way_back: str
    commands: tuple[_Command, ...]


@dataclass(frozen=True, kw_only=True)
class _Intent(_Head):
    n: int
    step: str
    purpose: str
    script: str = ""
    undo: str = ""


@dataclass(frozen=True, kw_only=True)
class _Result(_Head):
    step: str
    purpose: str
    status: int
    duration_s: _Measured
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, kw_only=True)
class _Probe(_Head):
    outage_ms: _Measured | None
    samples: int
    strip: tuple[tuple[_Whole, _Whole, Annotated[int, Field(ge=0, le=2)]], ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Browser(_Head):
    when: Literal["before", "after"]
    address: str
    said: Said
    url: str = ""
    error: str = ""
    chain: tuple[str, ...] = ()
    protocol: str = ""
    status: int | None = None
    title: str = ""
    screenshot: Annotated[str, Field(pattern=r"^(browser-(before|after)-[0-9]+(-[0-9]+)?\.png)?$")] = ""
    screenshot_sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class _Guard(_Head):
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _File(_Head):
    name: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class _Orphans(_Head):
    orphans: tuple[int, ...]
    text: str


@dataclass(frozen=True, kw_only=True)
class _End(_Head):
    outcome: Outcome
    what: str
    todo: str = ""


KINDS: Mapping[str, type[_Head]] = {
    "run": _Run, "certificate": _Certificate, "facts": _Facts, "checks": _Checks, "compare": _Compare, "plan": _Plan, "intent": _Intent,
    "result": _Result, "probe": _Probe, "browser": _Browser, "guard": _Guard, "file": _File, "unknown": _Orphans, "settled": _Orphans, "end": _End,
}  # fmt: skip
_ANY: TypeAdapter[_Head] = TypeAdapter(_Head)
_READERS: Mapping[str, TypeAdapter[_Head]] = {name: TypeAdapter(kind) for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a journal.

    Attributes:
        text: The line as it stands.
        event: The event in it, with the fields that are read out of such an event; empty where it is none of this version's.
            An event of a kind that is not known here counts as one.
        begins: Whether a run begins with it, even one of which nothing else can be read.
    """

    text: str
    event: Event
    begins: bool


def lines_of(folder: Path) -> tuple[Line, ...]:
    """Every line of a record's journal, oldest first, a last one that was cut short too."""
    try:
        lines = whole(folder).split(b"\n")
    except OSError:
        return ()
    return tuple(map(_line, lines if lines[-1] else lines[:-1]))


def ours(folder: Path) -> tuple[Event, ...]:
    """The events of a record that are as this version writes them, oldest first: what a run of ours may go on from."""
    return tuple(each.event for each in lines_of(folder) if each.event)


def _line(line: bytes) -> Line:
    event = event_of(line)
    name = event.get("event")
    kind = _READERS.get(name, _ANY) if isinstance(name, str) else _ANY
    try:
        kind.validate_json(line, strict=True)
    except ValidationError:
        return Line(line.decode(errors="replace"), {}, name == "run")
    return Line(line.decode(), event, name == "run")
