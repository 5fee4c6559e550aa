"""A fact: a read-only command, and a pure function that makes a value of what it printed."""

import base64
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from runbook_lib.models import Command

DOCKER = "timeout -k 5 30 docker"  # facts are read without a time limit of their own, and only its daemon can keep us waiting
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A read-only command, and what makes a value of its standard output."""

    command: Command
    process: Callable[[str], T]


def in_parts(
    purpose: str, begin: str, lines: Sequence[str], process: Callable[[dict[str, bytes]], T], absent: T | None = None
) -> Fact[T]:
    """A fact that is read by several programs; every byte arrives as it was, and no text can be taken for another part.

    Args:
        purpose: What is read, a few words.
        begin: Shell text that comes before the parts; where it exits, there are none.
        lines: Shell text; `part NAME` begins the part of that name. What goes to standard error is dropped.
        process: Makes the value of the parts by their names.
        absent: The value where there are none.
    """
    mark = secrets.token_hex(16)
    say = f"part() {{ printf '\\n{mark} %s\\n' \"$1\"; }}"
    script = "\n".join((begin, say, "{", *lines, "} 2>/dev/null | base64 -w 0"))
    divider = re.compile(rf"\n{mark} (.*)\n".encode())

    def read(text: str) -> T:
        _, *found = divider.split(base64.b64decode(text))
        if absent is not None and not found:
            return absent
        return process({name.decode(): part for name, part in zip(found[::2], found[1::2], strict=True)})

    return Fact(Command(purpose, script), read)
