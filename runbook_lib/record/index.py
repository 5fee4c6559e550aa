"""What was derived from journals, kept so that a list need not read each of them again.

It can be thrown away at any time, and is never believed over a journal: an entry counts for the very file it was derived from,
as it then was. It lies in the user's own cache folder, since the records folder may be written by many, and another could
forge it there. Where it cannot be kept, or cannot be believed, everything is read.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.files import write_whole

FOLDER = "apstra-runbook"
LARGEST = 1 << 26  # bytes; ten thousand records take 3 MB
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system in use
Identity = tuple[int, ...]


def identity(journal: os.stat_result, seals: os.stat_result | None) -> Identity:
    """What tells a record from another, and from itself before it was written, without reading it.

    Args:
        journal: Of its journal: place, size and times, of which its owner can set back all but the last.
        seals: Of the folder of its seals, whose times change when one is added or taken away; None where there is none. What
            is written into a seal that lies there already changes nothing of this: that is for `runbook verify` to find.
    """
    times = (seals.st_mtime_ns, seals.st_ctime_ns) if seals else (0, 0)
    return (journal.st_dev, journal.st_ino, journal.st_size, journal.st_mtime_ns, journal.st_ctime_ns, *times)


class Index:
    """The index of one records folder, as this user has it.

    Args:
        records_dir: The records folder.
        made_by: What derives the entries; an index that another version has made is not believed.
    """

    def __init__(self, records_dir: Path, made_by: bytes) -> None:
        self._made_by = made_by
        self._opened_ns = time.time_ns()
        self._path = _place(records_dir)
        self._before = self._read()
        self._now: dict[str, Sequence[Any]] = {}

    def look_up(self, name: str, journal: Identity) -> list[Any] | None:
        """What was derived from this journal when it was the same; None where that is not known."""
        entry = self._before.get(name)
        if entry is None or entry[0] != list(journal):
            return None
        self._now[name] = entry
        derived: list[Any] = entry[1]
        return derived

    def note(self, name: str, journal: Identity, derived: Sequence[object]) -> None:
        """Keeps what is derived from a journal.

        Args:
            name: The record's.
            journal: The journal as it was before it was read.
            derived: JSON values, at least one.
        """
        # Written just now it may be written again within one tick of its clock, and look the same (as in git's index).
        if max(journal[3:]) + _SETTLED_NS < self._opened_ns:
            self._now[name] = [list(journal), derived]

    def save(self) -> None:
        """Writes what was looked up or noted, and nothing else, where that is not what is written already."""
        if self._path is None or self._now == self._before:
            return
        body = json.dumps(self._now, separators=(",", ":")).encode()
        with contextlib.suppress(OSError):
            write_whole(self._path, self._digest(body) + b"\n" + body)

    def _read(self) -> dict[str, Sequence[Any]]:
        """What lies there, where it is whole and made by this version."""
        try:
            digest, _, body = _own_file(self._path).partition(b"\n") if self._path else (b"", b"", b"")
        except OSError:
            return {}
        return dict(json.loads(body)) if digest == self._digest(body) else {}

    def _digest(self, body: bytes) -> bytes:
        """What fits this body and this version alone: two that write at once could mix what they write."""
        return hashlib.sha256(self._made_by + body).hexdigest().encode()


def _place(records_dir: Path) -> Path | None:
    """The file of this records folder; None where this user has no folder that is theirs alone to write."""
    try:
        digest = hashlib.sha256(os.fsencode(records_dir.resolve())).hexdigest()
        return _folder() / f"records-{digest[:32]}.json"
    except OSError:
        return None


def _folder() -> Path:
    """Our folder in the user's cache folder (XDG Base Directory Specification), made where there is none.

    Raises:
        OSError: It cannot be had, or others could write in it.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the specification: such a value is to be ignored
        base = Path(os.path.expanduser("~/.cache"))  # noqa: PTH111 - Path's raises where there is no home
    for each in (base, base / FOLDER):
        if not each.exists():
            if each.parent.stat().st_uid != os.geteuid():  # sudo may leave another's HOME
                raise PermissionError(errno.EPERM, "it is another user's", str(each.parent))
            each.mkdir(mode=0o700)
    if not _is_closed(each.lstat(), stat.S_ISDIR):
        raise PermissionError(errno.EPERM, "others can write in it", str(each))
    return each


def _own_file(path: Path) -> bytes:
    """The file's bytes; none where another could have written them, or where they are too many."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        facts = os.fstat(descriptor)
        if not _is_closed(facts, stat.S_ISREG) or facts.st_size > LARGEST:
            return b""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(LARGEST)
    finally:
        os.close(descriptor)


def _is_closed(facts: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    return is_kind(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
