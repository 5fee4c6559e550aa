"""A fact: a read-only command, and a pure function that makes a value of what it printed."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from runbook_lib.models import Command

# prints one line a value: a label, a blank, and what a command printed in base64, so that no text can be taken for another
SAY = 'say() { printf "%s " "$1"; shift; eval "$*" 2>/dev/null | base64 -w 0; echo; }'
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A read-only command, and what makes a value of its standard output."""

    command: Command
    process: Callable[[str], T]


def labelled(text: str) -> dict[str, bytes]:
    """What `SAY` printed: each value by its label."""
    rows = (line.partition(" ") for line in text.splitlines())
    return {label: base64.b64decode(value) for label, _, value in rows}
