"""The runs of a change that its page does not tell in full: a line each, what of their checks did not pass, and what they ran."""

from collections.abc import Iterator, Sequence

from runbook_lib.models import Verdict
from runbook_lib.record.archive import counted
from runbook_lib.record.journal import Event, arms, puts_back
from runbook_lib.record.report.commands import Ran, commands_of
from runbook_lib.record.report.headline import headline
from runbook_lib.tables import MARKS, Table

SHORT = 300  # characters of a reason, or of what a check found
# What a run that is not told in full need not repeat line by line: the journal holds it, and the tables here what came of it.
QUIET = frozenset({
    "certificate", "checks", "compare", "facts", "file", "gate", "guard", "intent", "plan", "probe", "result",
})  # fmt: skip
_WORST_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN)
Run = Sequence[Event]


def attempts(runs: Sequence[Run], number: int) -> Table:
    """Every run of a change, a row each.

    Args:
        runs: All of them, oldest first.
        number: Which of them the page tells in full.
    """
    everything = [event for run in runs for event in run]
    several = len({run[0].get("ticket") for run in runs}) > 1  # where it is one, it stands at the top of the page
    rows = [
        (
            f"{index + 1}{', told above' * (index == number)}", moment(run[0])[:19], run[0]["notebook"], run[0]["operator"],
            (run[0].get("ticket") or "none") * several, headline(run).outcome, _why(run),
            counted([c["verdict"] for e in run if e["event"] == "checks" for c in e["checks"]]) or "none",
            _ran(commands_of(run, everything)),
        )
        for index, run in enumerate(runs)
    ]  # fmt: skip
    columns = ("attempt", "began (UTC)", "what", "operator", "ticket", "outcome", "why", "checks", "commands")
    return filled("every run of this change, oldest first", columns, rows)


def _why(run: Run) -> str:
    """Why it ended so, in one line."""
    said = next((str(event["what"]) for event in run if event["event"] == "end" and event.get("what")), "")
    return said.strip().partition("\n")[0][:SHORT]


def _ran(commands: Sequence[Ran]) -> str:
    """How many commands a run began, and those by name that did not end well."""
    begun = [each for each in commands if each.at]
    odd = [f"{each.purpose}: {each.ended}" for each in begun if each.status != 0]
    return "; ".join([str(len(begun)) if begun else f"none of {len(commands)}" if commands else "none", *odd])


def odd_checks(runs: Sequence[Run], number: int) -> Table:
    """The checks that did not pass in the other runs, the worst first; what several runs found alike stands once."""
    found: dict[tuple[Verdict, str, str, str], list[str]] = {}
    for index, run in enumerate(runs):
        for step, each in ((e["step"], c) for e in run if e["event"] == "checks" for c in e["checks"]):
            verdict = Verdict(each["verdict"])
            if index != number and verdict is not Verdict.PASS:
                attempt = found.setdefault((verdict, step, each["question"], each["found"][:SHORT]), [])
                attempt += [str(index + 1)] * (str(index + 1) not in attempt)
    ranked = sorted(found.items(), key=lambda each: _WORST_FIRST.index(each[0][0]))
    rows = [(MARKS[verdict], ", ".join(attempt), *more) for (verdict, *more), attempt in ranked]
    columns = ("verdict", "attempt", "step", "question", "found")
    return filled("checks of the other attempts that did not pass", columns, rows)


def touched(runs: Sequence[Run], number: int) -> Iterator[tuple[Event, Table]]:
    """The commands of the other runs that changed the live pair or put it back: the first event of each, and a row a command."""
    everything = [event for run in runs for event in run]
    columns = ("step", "command", "began", "ended", "took")
    for index, run in enumerate(runs):
        if index != number and any(arms(event) or puts_back(event) for event in run):
            rows = [
                (each.step, each.purpose, each.at[11:23].rstrip("Z"), each.ended, "" if each.duration_s is None else f"{each.duration_s * 1000:,.0f} ms")
                for each in commands_of(run, everything)
            ]  # fmt: skip
            yield run[0], filled("the commands of that attempt", columns, rows)


def moment(event: Event) -> str:
    """When an event was written, UTC to the millisecond."""
    return str(event["at"][:23].rstrip("Z").replace("T", " "))


def filled(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table without the columns in which nothing stands."""
    kept = [n for n in range(len(columns)) if any(row[n] is not None and row[n] != "" for row in rows)]
    cells = tuple(tuple(str(row[n]) for n in kept) for row in rows)
    return Table(title, tuple(columns[n] for n in kept), cells)
