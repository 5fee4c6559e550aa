"""The gate before a seal: it searches a whole record for secrets and private keys, and names where one lies."""

import base64
import errno
import json
import re
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_private_key

from runbook_lib.files import begins_with, read_regular
from runbook_lib.record.archive import files_of
from runbook_lib.secrets import Registry

MOST = 64 << 20  # bytes of one file; a larger one cannot be vouched for
_KEY = "a private key"
_UNSEARCHED = {errno.ELOOP: "a link", errno.EFBIG: f"more than {MOST >> 20} MiB"}
_ENCRYPTED = b"age-encryption.org/v1\n"
_SEQUENCE = re.compile(r"(?<![A-Za-z0-9+/_-])M[A-P][A-Za-z0-9+/_-]{2}")  # how the DER of a key begins in base64
_BREAKS = re.compile(r"(?:\\n|\s)+")
_LONG_FORM = 0x80
_URL_SAFE = str.maketrans("-_", "+/")
_HEAD = 12  # characters of base64, more than which tag and length do not take
_LARGEST_KEY = 12 << 10  # bytes


@dataclass(frozen=True, slots=True)
class Find:
    """A secret in a record.

    Attributes:
        file: Its path in the record.
        where: The cell or line, or empty.
        what: The parameter whose secret it is, or `a private key`; never the secret.
    """

    file: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.what} in {self.file}{', ' if self.where else ''}{self.where}"


def search(folder: Path, registry: Registry) -> tuple[Find, ...]:
    """Every secret in the files of a record and in their names.

    What is searched for: each registered value in all forms in which one could be written, and private keys as PEM,
    OpenSSH, age or DER in base64. What an encrypted backup holds cannot be seen.

    Args:
        folder: The record.
        registry: The values that were resolved in this process.
    """
    return tuple(dict.fromkeys(find for each in files_of(folder).items() for find in _in_file(*each, registry)))


def _in_file(name: str, file: Path, registry: Registry) -> Iterator[Find]:
    yield from (Find("a file's name", "", what) for what in _in_text(name, registry))
    try:
        if begins_with(file, _ENCRYPTED):
            return
        data = read_regular(file, MOST, follow=False)
    except OSError as error:
        yield Find(name, "", _UNSEARCHED.get(error.errno or 0, "something that cannot be read"))
        return
    found = False
    for where, text in _texts(file, data):
        for what in _in_text(text, registry):
            found = True
            yield Find(name, where, what)
    if not found:
        yield from (Find(name, "", what) for what in _in_text(data.decode(errors="replace"), registry))


def _texts(file: Path, data: bytes) -> Iterator[tuple[str, str]]:
    """The texts of a notebook by cell, of a journal by line; as they read, not as JSON writes them."""
    try:
        if file.suffix == ".ipynb":
            for number, cell in enumerate(json.loads(data)["cells"], 1):
                yield f"cell {number}", "\n".join(_strings(cell))
        elif file.suffix == ".jsonl":
            for number, line in enumerate(data.splitlines(), 1):
                yield f"line {number}", "\n".join(_strings(json.loads(line)))
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # the file is searched as it is


def _strings(value: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _in_text(text: str, registry: Registry) -> Iterator[str]:
    yield from registry.found_in(text)
    if _MARKED.found_in(text) or _holds_key(text):
        yield _KEY


def _holds_key(text: str) -> bool:
    """Whether a private key in DER (PKCS #8, PKCS #1, SEC 1) stands in a text as base64, in lines or in one.

    The time goes with the length of the text alone: it may begin like a key at every other word.
    """
    breaks = [each.span() for each in _BREAKS.finditer(text)]
    ends = [end for _, end in breaks]
    removed = [0, *accumulate(end - begin for begin, end in breaks)]
    joined = _BREAKS.sub("", text).translate(_URL_SAFE)
    begins = (each.start() for each in _SEQUENCE.finditer(text))
    return any(_is_key(joined, begin - removed[bisect(ends, begin)]) for begin in begins)


def _is_key(text: str, at: int) -> bool:
    """Whether a private key in DER begins there, as base64 without breaks."""
    size = _length(_decoded(text[at : at + _HEAD]))
    if size > _LARGEST_KEY:
        return False
    der = _decoded(text[at : at + 4 * size // 3 + 4])
    try:
        load_der_private_key(der[:size], None)
    except TypeError:
        return True  # one that is encrypted
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _decoded(text: str) -> bytes:
    """What the base64 stands for that a text begins with."""
    run = re.match(r"[A-Za-z0-9+/]*", text)
    encoded = run[0] if run else ""
    return base64.b64decode(encoded[: len(encoded) - (len(encoded) % 4 == 1)] + "==")


def _length(der: bytes) -> int:
    """How long the value that DER begins with says it is, with its head (X.690, 8.1.3)."""
    size = der[1] if len(der) > 1 else 0
    if size < _LONG_FORM:
        return 2 + size
    head = 2 + size - _LONG_FORM
    return head + int.from_bytes(der[2:head])


_MARKED = Registry()
for _mark in ("PRIVATE KEY-----", "AGE-SECRET-KEY-1", "openssh-key-v1\0"):
    _MARKED.add(_mark, name=_KEY)
