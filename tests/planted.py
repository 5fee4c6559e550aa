"""Secrets that are planted, and the search for every trace of one."""

import base64
import html
import json
import os
import secrets
import sqlite3
import threading
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PIECE, STRIDE = 12, 4  # a secret that was cut somewhere is still told: every run of 15 bytes of one is found
SAMPLE_S = 0.02


@dataclass(frozen=True)
class Planted:
    """One secret of each kind, unlike anything else: none stands anywhere by chance."""

    ssh_password: str
    sudo_password: str
    ca_key_password: str
    api_token: str

    @classmethod
    def new(cls) -> Self:
        """Fresh ones, with characters that every encoding writes in its own way."""
        return cls(*(f"{secrets.token_hex(8)}ü+\"&%'<{secrets.token_urlsafe(9)}" for _ in range(4)))

    @property
    def values(self) -> tuple[str, ...]:
        """All of them."""
        return (self.ssh_password, self.sudo_password, self.ca_key_password, self.api_token)

    def plant(self, folder: Path) -> None:
        """Puts those that are referred to by file into files."""
        folder.mkdir(mode=0o700)
        for name in ("sudo_password", "ca_key_password"):
            (folder / name).write_text(getattr(self, name))
            (folder / name).chmod(0o600)

    def references(self, folder: Path) -> dict[str, Any]:
        """The parameters that refer to them; an unused bastion's password stands for the token of some API."""
        return {
            "ssh_password": "env:PLANTED_SSH_PASSWORD",
            "sudo_password": f"file:{folder}/sudo_password",
            "ca_key_password": f"file:{folder}/ca_key_password",
            "bastion_passwords": {"unused.example.net": "env:PLANTED_API_TOKEN"},
        }

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the others are in."""
        return {"PLANTED_SSH_PASSWORD": self.ssh_password, "PLANTED_API_TOKEN": self.api_token}


def forms(value: str) -> frozenset[bytes]:
    """A secret as it could be written, in bytes."""
    raw, quoted = value.encode(), json.dumps(value)[1:-1]
    texts = {value, quoted, json.dumps(value, ensure_ascii=False)[1:-1], json.dumps(quoted)[1:-1], repr(value)[1:-1]}
    texts |= {quote(value, safe=safe) for quote in (urllib.parse.quote, urllib.parse.quote_plus) for safe in ("", "/")}
    texts |= {html.escape(value), html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")}
    texts |= {raw.hex(), raw.hex().upper(), raw.hex(":"), raw.hex(" ")}
    for offset in range(3):
        stable = base64.b64encode(b"\0" * offset + raw)[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6].decode()
        texts |= {stable, stable.translate(str.maketrans("+/", "-_"))}
    return frozenset(text.encode() for text in texts)


def pieces(values: Iterable[str]) -> frozenset[bytes]:
    """Every piece of every form."""
    return frozenset(
        form[at : at + PIECE] for value in values for form in forms(value) for at in range(len(form) - PIECE + 1)
    )


def told(data: bytes, sought: frozenset[bytes]) -> bool:
    """Whether a piece stands in some bytes, also where a line was broken within it."""
    return any(
        text[at : at + PIECE] in sought
        for text in {data, b"".join(data.split())}
        for at in range(0, len(text) - PIECE + 1, STRIDE)
    )


def traces(folder: Path, sought: frozenset[bytes], *, but: Iterable[Path] = ()) -> list[str]:
    """The files and folders below one that tell of a secret, in their content or in their name.

    Args:
        folder: Where to look.
        sought: What for.
        but: Files and folders that are left out.
    """
    left_out = set(but)
    return sorted(
        str(each.relative_to(folder))
        for each in _below(folder, left_out)
        if told(str(each).encode(), sought) or (each.is_file() and told(content(each), sought))
    )


def content(file: Path) -> bytes:
    """What is in a file; of a database, whose pages cut a text, what its tables hold, too."""
    data = file.read_bytes()
    if not data.startswith(b"SQLite format 3"):
        return data
    with closing(sqlite3.connect(file)) as database:
        return data + "\n".join(database.iterdump()).encode()


def _below(folder: Path, but: set[Path]) -> Iterator[Path]:
    for each in folder.iterdir():
        if each not in but:
            yield each
            if each.is_dir() and not each.is_symlink():
                yield from _below(each, but)


class Arguments:
    """Looks at the arguments of every process that is begun, all the while. A context manager.

    Attributes:
        seen: Every command line.
    """

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._before = set(_processes())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_S):
            for each in _processes():
                if each not in self._before:
                    self.seen.add(_arguments(each))


def _processes() -> Iterator[str]:
    return (each for each in os.listdir("/proc") if each.isdigit())  # noqa: PTH208 - often, and the names alone


def _arguments(process: str) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
