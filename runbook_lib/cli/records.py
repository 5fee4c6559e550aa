"""`runbook records …`: reads the records kept here, and changes nothing in them."""

import dataclasses
import datetime as dt
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runbook_lib import terminal
from runbook_lib.cli.given import all_records, base, record_folder
from runbook_lib.models import Outcome
from runbook_lib.record.archive import contents, story
from runbook_lib.record.diff import Row, Told, differences, tell
from runbook_lib.record.journal import NOT_OURS, read, telling_run
from runbook_lib.record.listing import UNTOLD, RecordSummary, Wanted
from runbook_lib.record.seal import REPORT
from runbook_lib.record.summary import fields
from runbook_lib.tables import fingerprint, summary_table, table

_SHA256 = re.compile("[0-9a-f]{64}")


@click.group()
def records() -> None:
    """Look into the records kept here."""


def _folder(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> Path:
    if value and not os.path.isdir(value):  # noqa: PTH112 - Path's raises where it may not look
        raise click.BadParameter(f"{value} is no folder that can be read")
    return value or base() / "records"


_records_dir = click.option(
    "--records-dir",
    type=click.Path(path_type=Path),
    default=None,
    callback=_folder,
    metavar="DIR",
    help="Where they are; default: records in the project.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of a table.")


def _moment(_context: click.Context, parameter: click.Parameter, text: str | None) -> str:
    """A moment as the journal writes it; a date alone is the whole day."""
    if text is None:
        return ""
    try:
        at = dt.datetime.fromisoformat(text)
        at = at.astimezone(dt.UTC) if at.tzinfo else at.replace(tzinfo=dt.UTC)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{text!r} is no date and no time; write a UTC date such as 2026-11-24, or a time such as 2026-11-24T22:00"
        ) from None
    if parameter.name == "until" and _is_date(text):
        at += dt.timedelta(days=1) - dt.timedelta.resolution
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


@records.command("list")
@_records_dir
@click.option("--server", default="", metavar="NAME", help="Only this server's: its whole name, as `host` says it.")
@click.option(
    "--outcome",
    "outcomes",
    type=click.Choice([*(each.value for each in Outcome), *UNTOLD]),
    multiple=True,
    help="Only these; may be repeated.",
)
@click.option("--ticket", default="", metavar="TEXT", help="Only those whose ticket holds this text.")
@click.option("--since", callback=_moment, metavar="UTC", help="Only what went on at this date or time, or later.")
@click.option("--until", callback=_moment, metavar="UTC", help="Only what went on at this date or time, or earlier.")
@_as_json
def list_(records_dir: Path, *, as_json: bool, **asked: Any) -> None:  # noqa: ANN401 - click's options
    """All records, or those asked for: change, server, when, outcome, ticket, whether sealed, by whom approved.

    What is sealed and approved is told as the record says it; `runbook verify` proves it. `damaged`: the journal's lines do not hang together.
    A record is listed where all that is asked for is true of it. Where nothing is found the list is empty, and the exit status 0.
    """
    wanted = Wanted(**asked)
    if wanted.until and wanted.since > wanted.until:
        raise click.BadParameter("it is later than --until; write the earlier of the two here", param_hint="--since")
    found = all_records(records_dir)
    taken = [each for each in found if wanted.takes(each)]
    click.echo(_json(taken) if as_json else _listed(taken, found))
    if number := sum(_may_be_meant(each, wanted) for each in found):
        click.echo(
            f"{number} that cannot be read or believed may belong here: see --outcome {' --outcome '.join(UNTOLD)}",
            err=True,
        )


def _json(rows: Sequence[RecordSummary | Row]) -> str:
    """In ASCII, so that a terminal obeys nothing in it."""
    return json.dumps([dataclasses.asdict(each) for each in rows], indent=1)


def _listed(taken: Sequence[RecordSummary], found: Sequence[RecordSummary]) -> str:
    columns = ("change", "server", "outcome", "ticket", "sealed", "approved", "last run", "started (UTC)", "operator")
    rows = (
        (
            each.change_id, each.server, each.outcome, each.ticket, each.sealed, each.approved or ("no" if each.sealed else ""),
            *(each.runs[-1:] or ("",)), each.started[:16].replace("T", " "), each.operator,
        )
        for each in taken
    )  # fmt: skip
    title = f"{len(found)} records" if len(taken) == len(found) else f"{len(taken)} of {len(found)} records"
    return repr(table(title, columns, rows, keep=("change", "server", "outcome", "started (UTC)")))


def _may_be_meant(record: RecordSummary, wanted: Wanted) -> bool:
    """Whether a record is left out only because it cannot be read what it says."""
    asks_for_told = not wanted.outcomes or not set(wanted.outcomes) <= set(UNTOLD)
    in_time = Wanted(since=wanted.since, until=wanted.until).takes(record)
    return record.outcome in UNTOLD and asks_for_told and in_time and not wanted.takes(record)


@records.command()
@click.argument("record", type=click.Path(path_type=Path))
@_records_dir
@click.option("--pdf", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Print its report into this file, where Chromium is installed.")  # fmt: skip
def show(record: Path, records_dir: Path, pdf: Path | None) -> None:
    """One record, by its change id or its folder: every event with its time, the files, the notebooks."""
    from runbook_lib.record.verify import altered  # noqa: PLC0415 - asyncssh is not needed to say --help

    folder = record_folder(record, records_dir)
    if pdf:
        _print(folder, pdf)
    try:
        summary = {name: str(value) for name, value in fields(folder, telling_run(read(folder))).items()}
    except NOT_OURS:
        summary = {"outcome": "not known: there are events in it that this version does not know", "way back": ""}
    terminal.show(f"{summary_table(summary)!r}\n")
    if summary["way back"].startswith("ssh "):  # whole, to be copied
        terminal.show(f"by hand the old pair comes back with: {summary['way back']}\n")
    terminal.show(repr(table("every event of the record", ("when (UTC)", "event", "what"), story(folder))))
    terminal.show("\n" + "\n".join(contents(folder)))
    terminal.show(f"\n{terminal.sealing(folder)}")
    for each in altered(folder):
        terminal.say(f"not as it was written: {each}")


def _print(folder: Path, pdf: Path) -> None:
    """Prints the report as it was sealed; one that no seal speaks of is printed, and that is said.

    Raises:
        click.ClickException: The page is not as it was sealed, or there is none, or no browser.
    """
    from runbook_lib.record.report.paper import NotPrinted, print_report  # noqa: PLC0415 - nor what makes a page
    from runbook_lib.record.verify import altered_report  # noqa: PLC0415

    if (folder / REPORT).is_file() and (seal := altered_report(folder)):
        raise click.ClickException(
            f"{REPORT} is not as {seal} sealed it, and is not printed: keep the record as it is; runbook verify tells more"
        )
    try:
        print_report(folder / REPORT, pdf)
    except NotPrinted as error:
        raise click.ClickException(str(error)) from None
    if " sha256:" not in terminal.sealing(folder):
        terminal.say(f"printed all the same: {terminal.sealing(folder)}")


@records.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@_records_dir
@_as_json
def diff(a: Path, b: Path, records_dir: Path, *, as_json: bool) -> None:
    """Two records side by side, by their change ids or their folders: what differs comes first.

    Compared is what they say, not their bytes: outcome, certificates, plans, verdicts, how long each step took.
    """
    folders = record_folder(a, records_dir, "A"), record_folder(b, records_dir, "B")
    rows = differences(_told(folders[0], "A"), _told(folders[1], "B"))
    click.echo(_json(rows) if as_json else _side_by_side(folders, rows))


def _told(folder: Path, hint: str) -> Told:
    try:
        return tell(folder)
    except NOT_OURS:
        raise click.BadParameter(f"{folder} holds events that this version does not know", param_hint=hint) from None


def _side_by_side(folders: tuple[Path, Path], rows: Sequence[Row]) -> str:
    names = [each.name for each in folders]
    if names[0] == names[1]:  # two parts of one change, from two machines
        names = [str(each) for each in folders]
    ranked = sorted(rows, key=lambda each: each.same)
    title = f"{sum(not each.same for each in rows)} differences"
    cells = (("" if each.same else "≠", each.field, _readable(each.a), _readable(each.b)) for each in ranked)
    return repr(table(title, ("", "field", *names), cells))


def _readable(text: str) -> str:
    return fingerprint(text) if _SHA256.fullmatch(text) else text
