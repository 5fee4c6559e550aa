"""What a browser said of the service addresses, and its pictures, as far as they may stand in the page."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from runbook_lib.files import read_regular
from runbook_lib.record.journal import Event
from runbook_lib.record.report.drawings import inline
from runbook_lib.tables import Table, fingerprint

ROOM = 144 << 10  # bytes of pictures, a third more as base64, with which a page is still a small one
LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Picture:
    """A screenshot: what it shows, its file relative to the record, and its data: URI, empty where there is no room for it."""

    words: str
    href: str
    source: str


def visits(run: Sequence[Event]) -> Table:
    """A row a visit, those before the change first; without rows where no browser was asked."""
    rows = tuple(
        (
            each["when"], each["address"], "\n".join(filter(None, (each["said"], each.get("error"), each.get("protocol")))),
            *((fingerprint(each["chain"][0]), str(len(each["chain"]))) if each.get("chain") else ("none", "0")),
            "\n".join(filter(None, (f"HTTP {each['status']}" if each.get("status") else "", each.get("title")))),
        )
        for each in _said(run)
    )  # fmt: skip
    columns = ("when", "address", "the browser said", "leaf it saw, SHA-256", "chain", "page")
    return Table("what a browser said", columns, rows, columns[3:4])


def pictures(folder: Path, run: Sequence[Event]) -> tuple[Picture, ...]:
    """The screenshots that are there and are what the journal says that they are."""
    found, room = [], ROOM
    for each in _said(run):
        data = _kept(folder, each)
        if data:
            words = f"{each['when']}: {each['address']}, {each['said']}"
            picture = Picture(words, f"files/{each['screenshot']}", "")
            if len(data) <= room:
                room -= len(data)
                picture = replace(picture, source=inline("png", data))
            found.append(picture)
    return tuple(found)


def _said(run: Sequence[Event]) -> Iterator[Event]:
    return (event for event in run if event["event"] == "browser")


def _kept(folder: Path, event: Event) -> bytes:
    """The picture of a visit, empty where it is none, too large, or another one."""
    with suppress(OSError):
        data = read_regular(folder / "files" / event["screenshot"], LARGEST) if event.get("screenshot") else b""
        if hashlib.sha256(data).hexdigest() == event.get("screenshot_sha256"):
            return data
    return b""
