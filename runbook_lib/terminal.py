"""What a person at a terminal is told while a run goes on and when it has ended."""

import contextlib
import shutil
import sys
from pathlib import Path

import click

from runbook_lib.files import read_regular
from runbook_lib.models import Command, Outcome, Plan, PlannedCommand, Verdict
from runbook_lib.record.archive import told
from runbook_lib.record.events import ours
from runbook_lib.record.journal import Event, last_run, read
from runbook_lib.record.seal import REPORT, described
from runbook_lib.record.summary import fields
from runbook_lib.record.waiting import Waiting, now
from runbook_lib.secrets import redact
from runbook_lib.tables import Table, plan_table, summary_table
from runbook_lib.text import plain

_LARGEST_CSR = 1 << 20
_ANEW = "\r\x1b[K"  # the line from its beginning, empty
_SHOWN = {"run", "intent", "result", "checks", "plan", "compare", "probe"}


def show(text: str) -> None:
    """A result, on standard output."""
    _write(text, err=False, end=True)


def say(text: str, *, end: bool = True, anew: bool = False) -> None:
    """What goes on or went wrong, on standard error; `end`: with a line end; `anew`: in place of what stands in the line."""
    _write(text, err=True, end=end, anew=anew)


def _write(text: str, *, err: bool, end: bool, anew: bool = False) -> None:
    """Text that may come from elsewhere; where it cannot be written the run and its outcome are the same."""
    with contextlib.suppress(OSError):  # closed, or a full disk: the exit status and the record say it all the same
        click.echo(_ANEW * anew + redact(plain(redact(text))), err=err, nl=end)


def tell_what_now(outcome: Outcome, record: Path, said: str) -> None:
    """What a person needs next: the plan, the CSR for the CA, or the way back."""
    events = ours(record)
    planned = next((each for each in reversed(last_run(events)) if each["event"] == "plan"), None)
    if outcome is Outcome.PLANNED and planned:
        show(f"{planned_table(planned)!r}\n")
    summary = fields(record)
    show(f"{summary_table(summary)!r}")
    if outcome is Outcome.PLANNED:
        show("nothing was changed: add `-p apply True` to do it")
    if outcome is Outcome.WAITING:
        names = [each["name"] for each in events if each["event"] == "file" and each["name"].endswith(".csr")]
        csr = record / "files" / Path(names[-1] if names else "nginx.csr").name
        with contextlib.suppress(OSError):
            show(read_regular(csr, _LARGEST_CSR).decode(errors="replace"))
        show(f"The CA is to sign this CSR, {csr}.")
        show("Then: runbook install with the same parameters, apply, and as certificate_file what the CA handed back.")
    show(f"report: {record / REPORT}\n{sealing(record)}")
    begun = last_run(events)[0]
    if outcome is Outcome.DONE and begun.get("notebook") == "request":
        show(f"The certificate is staged. Next: runbook install with the same parameters, for change {record.name}.")
    way_back = str(planned["way_back"]) if planned and planned["name"] != "request" else ""
    if summary["way back"] == way_back and way_back not in said:
        (show if outcome is Outcome.DONE else say)(f"by hand the old pair comes back with: {way_back}")


def sealing(record: Path) -> str:
    """The newest seal with its digest, for the ticket; or why what was written last has none."""
    unsealed = [str(each.get("text", "")) for each in last_run(read(record)) if each["event"] == "unsealed"]
    found = described(record)
    return f"seal: {found}" if " sha256:" in found or not unsealed else unsealed[-1]


def planned_table(event: Event) -> Table:
    """A plan as the journal tells it."""
    commands = (
        PlannedCommand(each["step"], Command(**{k: v for k, v in each.items() if k != "step"}))
        for each in event["commands"]
    )
    return plan_table(Plan(event["name"], tuple(commands), event["sha256"], event["way_back"]))


class Progress:
    """What goes on, on standard error: a line a command, begun when it begins, and each check that did not pass.

    At a terminal the line of a command that takes long is written anew with its time, and with what the guard still leaves.
    """

    def __init__(self) -> None:
        self._open, self._told = "", 0.0
        self._waiting = Waiting()

    def __call__(self, event: Event) -> None:
        """Shows an event that a person waits for."""
        self._waiting.hear(event, now())
        if event["event"] not in _SHOWN or (event["event"] == "compare" and not event["digests"]):
            return
        text = told(event)
        if event["event"] == "run":
            text = f"{text}, change {event['change_id']}"
        if self._open and event["event"] == "result" and text.startswith(self._open):
            again = bool(self._told)
            say("  " + text if again else text.removeprefix(self._open), anew=again)
        else:
            say(
                ("\n" if self._open else "") + ("" if event["event"] == "run" else "  ") + text,
                end=event["event"] != "intent",
            )
        self._open, self._told = text if event["event"] == "intent" else "", 0.0
        for check in event.get("checks", ()):
            if check["verdict"] != Verdict.PASS:
                say(f"    {check['verdict']}: {check['question']} {check['found']}")

    def wait(self) -> None:
        """Called again and again while nothing happens."""
        at = now()
        if self._open and at - self._told >= 1 and sys.stderr.isatty() and (work := self._waiting.at_work(at)):
            more = self._waiting.guarded(at)
            room = shutil.get_terminal_size().columns - 1
            say(f"  {work}{'; ' if more else ''}{more}"[:room], end=False, anew=True)
            self._told = at
