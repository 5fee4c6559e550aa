"""A fact: a read-only command, and a pure function that makes a value of what it printed."""

import base64
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from runbook_lib.models import Command, CommandResult

DOCKER = "timeout -k 5 30 docker"  # its daemon may hang, and the other facts are worth having all the same
DOCKER_LIMIT_S = 75  # two such commands, and then some
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A read-only command, what makes a value of its standard output, and whether it is `slow`, as all that asks docker."""

    command: Command
    process: Callable[[str], T]
    slow: bool = False


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


def all_at_once(facts: Sequence[Fact[Any]]) -> tuple[Command, Callable[[CommandResult], list[CommandResult]]]:
    """One command that reads all facts, the slow ones while the others are read; and what tells their answers apart.

    Standard error is that of all of them.
    """
    mark = secrets.token_hex(16)
    order = sorted(range(len(facts)), key=lambda index: facts[index].slow)
    each = [f"(\n{facts[index].command.script}\n) </dev/null; printf '\\n{mark} %s\\n' $?\n" for index in order]
    quick = sum(not fact.slow for fact in facts)
    script = f"{{\n{''.join(each[quick:])}}} | {{\n{''.join(each[:quick])}cat\n}}" if each[quick:] else "".join(each)
    limit = max(fact.command.time_limit_s for fact in facts)
    divider = re.compile(rf"\n{mark} (\d+)\n")

    def apart(result: CommandResult) -> list[CommandResult]:
        found = divider.split(result.stdout)
        said = dict(zip(order, zip(found[::2], found[1::2], strict=False), strict=True))
        return [
            CommandResult(fact.command, int(said[index][1]), said[index][0], result.stderr, result.duration_s)
            for index, fact in enumerate(facts)
        ]

    return Command("; ".join(fact.command.purpose for fact in facts), script, time_limit_s=limit), apart
