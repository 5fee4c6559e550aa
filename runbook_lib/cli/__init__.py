"""The command line: `runbook …`. It reads the parameters, runs the notebooks headless and ends with the outcome's exit code."""

import asyncio
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook_lib import VERSION
from runbook_lib.cli.ending import Commands, end, heard, unwritable
from runbook_lib.cli.given import ask, base, parameters, values_of
from runbook_lib.cli.records import records
from runbook_lib.cli.signatures import approve, seal, verify
from runbook_lib.errors import RunbookError
from runbook_lib.files import write_whole
from runbook_lib.models import Outcome
from runbook_lib.parameters import as_shipped
from runbook_lib.record.seal import REPORT
from runbook_lib.secrets import redact
from runbook_lib.terminal import Progress, say, sealing, show, tell_what_now

if TYPE_CHECKING:
    from runbook_lib.change import Change
    from runbook_lib.session import Kind

_EXIT_STATUS = "\n".join(("\b", "Exit status:", *(f"  {each.exit_code}  {each.meaning}" for each in Outcome)))
_NOT_FOR_TRUST = {"ssh_password", "sudo_password"}  # nobody is asked for what is not used


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EXIT_STATUS,
)
@click.version_option(package_name="apstra-certificate-runbooks", prog_name="runbook")
def main() -> None:
    """Replace the HTTPS certificate of a Juniper Apstra server, one checked step at a time.

    Begin with `runbook plan -f parameters/lab.yaml`: it changes nothing. A run changes a server only with
    `apply: true`. Its last line is `outcome:`, how it ended, and where its record is.
    """
    for stream in (
        "stdin",
        "stdout",
        "stderr",
    ):  # closed by who started this: the next file opened would take its place
        if getattr(sys, stream) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is the one that was closed
            os.set_inheritable(number, True)  # noqa: FBT003 - the kernels are to have it, too
            setattr(sys, stream, os.fdopen(number, "r" if stream == "stdin" else "w"))
    for written in (sys.stdout, sys.stderr):
        if isinstance(written, io.TextIOWrapper):  # a terminal that has no ✔ shows another sign, and ends no run
            written.reconfigure(errors="backslashreplace")


@main.command(epilog=_EXIT_STATUS)
@parameters
def plan(**given: Any) -> None:  # noqa: ANN401 - click's options
    """Read the server, judge it, and show what would be done. Changes nothing."""
    end(*heard(lambda: asyncio.run(_plan(_usable("request", given)))))


@main.command(epilog=_EXIT_STATUS)
@parameters
def request(**given: Any) -> None:  # noqa: ANN401
    """Steps 1 to 4: back up, key, CSR, signer.

    Touches only state_dir on the server; but where an earlier change was never confirmed and its guard is gone, it first
    puts the old pair back. Goes on with the open change, or opens one. Ends with exit status 4 while the
    CA has not answered: the CSR is shown and kept in the record.
    """
    end(*heard(lambda: _run(_usable("request", given), "request")))


@main.command(epilog=_EXIT_STATUS)
@parameters
def install(**given: Any) -> None:  # noqa: ANN401
    """Steps 5 to 7: compare, install, confirm.

    Installs the open change, with certificate_file where the CA handed it back. A guard on the server puts the old pair
    back when the new one is not confirmed within rollback_after_s.
    """
    end(*heard(lambda: _run(_usable("install", given), "install")))


@main.command(epilog=_EXIT_STATUS)
@parameters
def restore(**given: Any) -> None:  # noqa: ANN401
    """Put a recorded pair back.

    The pair that was live before change_id, empty for the last replacement; with pair=installed the one it installed.
    """
    end(*heard(lambda: _run(_usable("restore", given), "restore")))


@main.command(epilog=_EXIT_STATUS)
@parameters
def replace(**given: Any) -> None:  # noqa: ANN401
    """Request, then install when the signer has answered.

    Waits for nobody: with a CA that has not answered yet it ends with exit status 4; run it again with
    certificate_file. When the certificate asked for is served already, there is nothing to do.
    """
    end(*heard(lambda: _run(_usable("request", given), "request", "install")))


@main.command(epilog=_EXIT_STATUS)
@parameters
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of tables.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV on standard output instead of tables.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write the tables as a page.")
@click.option(
    "--prometheus",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write metrics for the node exporter's textfile collector.",
)
def audit(as_json: bool, as_csv: bool, html: Path | None, prometheus: Path | None, **given: Any) -> None:  # noqa: ANN401, FBT001
    """Show what a server serves and what is to be said of it. Changes nothing."""
    from runbook_lib.audit import audit as read  # noqa: PLC0415 - each command imports what it needs
    from runbook_lib.audit import unreached  # noqa: PLC0415
    from runbook_lib.session import prepare  # noqa: PLC0415

    def reading() -> tuple[Outcome, None]:
        values = _usable("audit", given)
        try:
            found = asyncio.run(read(prepare("audit", values, base(), ask())))
        except RunbookError:
            if prometheus:
                _write(prometheus, unreached(str(values["host"])))
            raise
        for file, content in ((prometheus, found.prometheus), (html, found.html)):
            if file:
                _write(file, redact(content()))
        text = (
            found.json()
            if as_json
            else found.csv().rstrip()
            if as_csv
            else f"{found.served()!r}\n\n{found.judged()!r}\n\n{found.found()!r}"
        )
        try:
            click.echo(redact(text))
        except OSError as error:
            raise unwritable("standard output", error) from None
        return Outcome.DONE, None

    outcome, _ = heard(reading)
    sys.exit(outcome.exit_code)


main.add_command(records)


@main.command()
@click.argument("host", required=False)
@parameters
def trust(host: str | None, **given: Any) -> None:  # noqa: ANN401
    """Show a server's SSH host key, pin it on a yes.

    Also through the bastions of ssh_config. Compare the key with what the server's own console shows.
    """
    from runbook_lib.server.pinning import pin, show_key  # noqa: PLC0415

    def pinning() -> tuple[Outcome, None]:
        from runbook_lib.session import prepare  # noqa: PLC0415

        values = values_of(given["files"], given["inline"], given["pairs"]) | ({"host": host} if host else {})
        values = {name: value for name, value in values.items() if name not in _NOT_FOR_TRUST}
        prepared = prepare("audit", values, base(), ask())
        key = asyncio.run(show_key(prepared.login))
        show(key.text)
        if key.pinned:
            return Outcome.NOTHING_TO_DO, None
        click.confirm("Is this what the server's own console shows, and should it be pinned?", abort=True)
        pin(key)
        show(f"pinned in {key.file}")
        return Outcome.DONE, None

    outcome, _ = heard(pinning)
    sys.exit(outcome.exit_code)


def _write(file: Path, text: str) -> None:
    """A file for others to read at any time."""
    try:
        write_whole(file, text.encode(), mode=0o644)
    except OSError as error:
        raise unwritable(str(file), error) from None


def _usable(kind: "Kind", given: Mapping[str, Any]) -> dict[str, object]:
    """The values, judged here first, so that bad ones reach no notebook."""
    from runbook_lib.session import usable  # noqa: PLC0415 - cryptography is not needed to say --help

    values = values_of(given["files"], given["inline"], given["pairs"])
    usable(kind, values)
    return values


async def _plan(values: Mapping[str, object]) -> tuple[Outcome, Path | None]:
    from runbook_lib.change import open_next  # noqa: PLC0415
    from runbook_lib.record.archive import Record, open_record  # noqa: PLC0415
    from runbook_lib.record.closing import close_record  # noqa: PLC0415
    from runbook_lib.secrets import REGISTRY  # noqa: PLC0415
    from runbook_lib.session import prepare  # noqa: PLC0415

    prepared = prepare("request", {**values, "apply": False}, base(), ask())
    records: list[Record] = []

    def opening(change_id: str) -> Record:
        records.append(open_record(prepared.records, change_id, REGISTRY.redact))
        return records[-1]

    try:
        change = await open_next(prepared, opening)
    except RunbookError as error:
        say(str(error))
        for each in records[-1:]:
            again = open_record(prepared.records, each.folder.name, REGISTRY.redact)
            close_record(again, REGISTRY, operator=prepared.operator, key=prepared.signing, version=VERSION)
            again.journal.close()
        return error.outcome, records[-1].folder if records else None
    try:
        return await _planned(change)
    except RunbookError as error:
        say(str(error))
        return error.outcome, change.record.folder


async def _planned(change: "Change") -> tuple[Outcome, Path]:
    try:
        show(f"{await change.check()!r}\n")
        show(f"{await change.plan()!r}\n")
        change.summary()
    finally:
        change.close_record()
        await change.close()
        show(f"report: {change.record.folder / REPORT}\n{sealing(change.record.folder)}")
    show(f"plan sha256:{change.planned.sha256}")
    return change.outcome or Outcome.PLANNED, change.record.folder


def _run(values: Mapping[str, object], *kinds: "Kind") -> tuple[Outcome, Path | None]:
    """Runs notebooks headless, the next one only when the one before is done, and shows their events as they happen."""
    from runbook_lib.jupyter.headless import Runner  # noqa: PLC0415
    from runbook_lib.session import NOTEBOOKS  # noqa: PLC0415

    folder = base() / "notebooks"
    progress = Progress()
    with Runner([folder / f"{NOTEBOOKS[kind]}.ipynb" for kind in kinds], progress, progress.wait) as runner:
        chosen = {**as_shipped(), **values}  # what a person saved in a notebook is no default here
        record = None
        for _ in kinds:
            result = runner.run(chosen)
            record = result.record or record  # stopped between the two, the change is where the first has left it
            if result.error:
                say(result.error)
            if result.outcome is not Outcome.DONE or result.record is None:
                break
            chosen["change_id"] = result.record.name
    if result.record:
        tell_what_now(result.outcome, result.record, result.error)
    return result.outcome, record


for _command in (approve, seal, verify):
    main.add_command(_command)
