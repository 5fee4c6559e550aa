"""Files on the operator's side: read without being kept waiting, written whole or not at all."""

import contextlib
import errno
import functools
import hashlib
import itertools
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

LARGEST = 1 << 30  # bytes of a file in a record; the largest that a run writes are encrypted copies, a third of that

_CHUNK = 1 << 16


def read_regular(path: Path, most: int, *, follow: bool = True) -> bytes:
    """A file, whole.

    Args:
        path: Where it is.
        most: The bytes that it may have.
        follow: Whether a link is followed; else it is no regular file.

    Raises:
        OSError: It cannot be read, has more bytes (EFBIG), or is no regular file: a pipe could keep us waiting, a device has no end.
    """
    with _opened(path, most, follow=follow) as file:
        chunks = itertools.islice(iter(functools.partial(file.read, _CHUNK), b""), most // _CHUNK + 1)
        data = b"".join(chunks)
    if len(data) > most:  # it was not when it was opened
        raise _too_large(path, most)
    return data


def begins_with(path: Path, sign: bytes) -> bool:
    """Whether a file begins with these bytes.

    Raises:
        OSError: It cannot be read, has more than LARGEST bytes (EFBIG), or is no regular file; a link is none.
    """
    with _opened(path, LARGEST, follow=False) as file:
        return file.read(len(sign)) == sign


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hex.

    Raises:
        OSError: It cannot be read, has more than LARGEST bytes (EFBIG), or is no regular file; a link is none.
    """
    with _opened(path, LARGEST, follow=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _opened(path: Path, most: int, *, follow: bool) -> Iterator[BufferedReader]:
    """A regular file of so many bytes at most, as it is when it is opened; one with holes may claim more than a disk holds."""
    if not follow and path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if facts.st_size > most:
            raise _too_large(path, most)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _too_large(path: Path, most: int) -> OSError:
    size = f"{most >> 20} MiB" if most >> 20 else f"{most} bytes"
    return OSError(errno.EFBIG, f"it is larger than {size}", str(path))


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """The whole file or the one before it: others may read it at any time.

    Raises:
        OSError: It cannot be written; nothing is left over.
    """
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        aside.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
