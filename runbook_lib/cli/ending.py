"""How a command ends: the outcome on the last line, its exit status, and an error of ours as a person reads it."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from runbook_lib.errors import RunbookError, UnusableParameters
from runbook_lib.models import Fault, Outcome
from runbook_lib.terminal import say
from runbook_lib.text import plain


class Commands(click.Group):
    """Commands that repeat nothing of a wrong command line that a terminal would obey.

    A shell fills in the names of files, and in a folder that many write into others have chosen those.
    """

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as click has it
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise click.UsageError(plain(error.format_message()), error.ctx) from None
        except click.ClickException as error:
            raise click.ClickException(plain(error.format_message())) from None


def heard(work: Callable[[], tuple[Outcome, Path | None]]) -> tuple[Outcome, Path | None]:
    """Does the work; an error of ours is shown and becomes its outcome."""
    try:
        return work()
    except RunbookError as error:
        say(str(error))
        return error.outcome, None
    except (click.Abort, KeyboardInterrupt):  # a run that changes something hears a stop in its kernel
        say("stopped; nothing was changed")
        return Outcome.REFUSED, None
    except click.ClickException:
        raise  # click says it, with exit status 2
    except Exception:  # noqa: BLE001 - whatever it is, the last line says how it ended
        say(f"{traceback.format_exc()}This is a defect of the runbooks: please report it.")
        return Outcome.FAILED, None


def end(outcome: Outcome, record: Path | None) -> NoReturn:
    """Says the outcome and the record's place on the last line, and ends with the outcome's exit status."""
    try:
        click.echo(f"outcome: {outcome} {record or '-'}")
        sys.stdout.flush()
    except OSError:  # nobody hears it; the exit status says it all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(outcome.exit_code)


def unwritable(name: str, error: OSError) -> UnusableParameters:
    """What a place that cannot be written comes to."""
    return UnusableParameters(
        [Fault(name, f"cannot be written: {error.strerror}", "a path in a folder that can be written")]
    )
