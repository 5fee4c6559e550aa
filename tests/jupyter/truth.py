"""What a record says held against what others saw: the server's own log, and a witness in the kernel that knows no recorder."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from runbook_lib.record.journal import Event
from tests.jupyter.serverlog import Ran, bounded

_WITNESS = """\
def _witness():
    import json, os
    file = os.open(os.path.join(os.environ["IPYTHONDIR"], "witness"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def note(what, source=""):
        os.write(file, (json.dumps([what, source]) + "\\n").encode())
    events = get_ipython().events
    events.register("pre_run_cell", lambda info: note("begun", info.raw_cell))
    events.register("post_run_cell", lambda _: note("ended"))

_witness()
del _witness
"""
_LOCK = re.compile(r"\{ \[ -d \S+ \] \|\| \(exit 2\); \} && exec 9<\S+ && flock -w 2 9|exec 9<&-")
_NOTE = re.compile(r"\(\n(?:cd \S+ && echo [0-9a-f]{64} >journal-head|echo [0-9a-f]{64} >\S+/seal)\n\) </dev/null")
_HARMLESS = re.compile(r"\d?>/dev/null|>&2|2>&1")
_WRITES = re.compile(r">|\b(?:rm|mv|cp|ln|dd of|tee|touch|mkdir|install|chmod|chown|sync|kill|restart|reload|exec)\b")


def witnessed(folder: Path) -> Path:
    """Makes an IPython folder in which every kernel writes down, by itself, which cells it begins and ends."""
    startup = folder / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "witness.py").write_text(_WITNESS)
    return folder / "ipython"


@dataclass(frozen=True)
class Cell:
    """A cell that ran: its text, and whether it came to its end."""

    source: str
    ended: bool


def seen(ipython: Path) -> list[Cell]:
    """The cells that the witness saw, in the order in which they were begun."""
    lines = [json.loads(line) for line in (ipython / "witness").read_text().splitlines()]
    begun = [source for what, source in lines if what == "begun"]
    ended = sum(what == "ended" for what, _ in lines)
    return [Cell(source.strip(), ended=number < ended) for number, source in enumerate(begun)]


def marked(cells: Sequence[dict[str, Any]]) -> list[Cell]:
    """The code cells that a notebook marks as run; of those before the bind it cannot know when they ended."""
    ran = [cell for cell in cells if cell["execution_count"]]
    bind = next(number for number, cell in enumerate(ran) if "bind(" in cell["source"])
    return [
        Cell(cell["source"].strip(), ended=number < bind or bool(cell["metadata"]["runbook"]["ended"]))
        for number, cell in enumerate(ran)
    ]


def commands(journal: Sequence[Event]) -> list[tuple[Event, Event | None]]:
    """The commands that a journal tells of: each intent, with its result where one came."""
    told: list[tuple[Event, Event | None]] = []
    for event in journal:
        if event["event"] == "intent":
            told.append((event, None))
        elif event["event"] == "result":
            intent, before = told.pop()
            assert before is None, "two results of one intent"
            assert (intent["step"], intent["purpose"]) == (event["step"], event["purpose"])
            told.append((intent, event))
    return told


def contradictions(journal: Sequence[Event], ran: Sequence[Ran], sent: Sequence[str]) -> list[str]:
    """Where a journal and the server's own log do not agree.

    Args:
        journal: Every event of the record.
        ran: What the server began, oldest first.
        sent: Everything that its root shells were sent.
    """
    told = commands(journal)
    announced = {intent["script"] for intent, _ in told}
    harmless = {each.script for each in ran if each.changed is False}
    return [*_of_commands(told, ran), *_of_what_was_sent(announced, harmless, sent)]


def _of_commands(told: list[tuple[Event, Event | None]], ran: Sequence[Ran]) -> Iterator[str]:
    left = list(told)
    for each in ran:
        place = next((n for n, (intent, _) in enumerate(left) if intent["script"] == each.script), None)
        if place is None:
            if each.changed is not False:
                yield f"the server ran what the journal does not know: {each.script}"
            continue
        *passed_over, (intent, result) = left[: place + 1]
        del left[: place + 1]
        yield from _made_up(passed_over)
        if each.begun < _moment(intent):
            yield f"begun before its intent: {intent['purpose']}"
        if result and (each.status != result["status"] or each.ended is None or each.ended > _moment(result)):
            yield f"the result is not the server's: {intent['purpose']}"
    yield from _made_up(left)


def _made_up(told: Sequence[tuple[Event, Event | None]]) -> Iterator[str]:
    """An intent need not have reached the server; a result must come from there."""
    yield from (f"a result of what the server never ran: {intent['purpose']}" for intent, result in told if result)


def _of_what_was_sent(announced: set[str], harmless: set[str], sent: Sequence[str]) -> Iterator[str]:
    """What was sent and is neither announced nor known, from the server's own log, to have changed nothing."""
    for each in sent:
        script = bounded(each)
        if script is not None:
            if script not in announced | harmless:
                yield f"sent without an intent: {script}"
        elif not _LOCK.fullmatch(each) and not _NOTE.fullmatch(each) and _WRITES.search(_HARMLESS.sub("", each)):
            yield f"sent outside of any command, and it does not only read: {each}"


def _moment(event: Event) -> float:
    return datetime.fromisoformat(event["at"]).timestamp()
