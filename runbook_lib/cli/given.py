"""What a command is given: parameters by file, text and pair, the project and its records, and who can be asked."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from runbook_lib.errors import UnusableParameters
from runbook_lib.models import Fault
from runbook_lib.parameters import project_folder, read_yaml
from runbook_lib.record.journal import NAME
from runbook_lib.record.listing import RecordSummary, list_records

_CONSTANTS = {"True": True, "False": False, "None": None}


def _constant(text: str) -> object:
    """The value of a `-p` text as papermill takes it: True, False, None, whole numbers and fractions, else text."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def values_of(
    files: tuple[Path, ...], inline: tuple[str, ...], pairs: tuple[tuple[str, str], ...]
) -> dict[str, object]:
    """The parameters of a command, the later ones over the earlier ones.

    Raises:
        UnusableParameters: A file or a text is no YAML of parameters.
    """
    values: dict[str, object] = {}
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
            raise UnusableParameters([Fault(str(file), f"cannot be read: {why}", "the path of a YAML file")]) from None
        values |= read_yaml(text, name=str(file))
    for text in inline:
        values |= read_yaml(text, name="-y")
    return values | {name: _constant(text) for name, text in pairs}


def parameters(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say what to run with, the same for every command that does."""
    file = click.option(
        "-f", "--parameters_file", "files", type=click.Path(path_type=Path), multiple=True, metavar="FILE",
        help="YAML file of parameters; may be given several times, the later one wins.",
    )  # fmt: skip
    text = click.option(
        "-y", "--parameters_yaml", "inline", multiple=True, metavar="YAML", help="Parameters as YAML text."
    )
    pair = click.option(
        "-p", "--parameters", "pairs", nargs=2, multiple=True, metavar="NAME VALUE",
        help="One parameter: True, False, None and numbers are converted, the rest is text.",
    )  # fmt: skip
    return file(text(pair(command)))


def base() -> Path:
    """The project that the working folder lies in."""
    return project_folder(Path.cwd())


def ask() -> Callable[[str], str] | None:
    """Asks the person at the terminal for a secret; None where there is none."""
    return (lambda name: click.prompt(name, hide_input=True, err=True)) if sys.stdin.isatty() else None


def record_folder(record: Path, records_dir: Path | None = None, hint: str = "RECORD") -> Path:
    """The folder of a record that was named by its change id or by its folder, in the argument `hint`.

    Raises:
        click.BadParameter: It is none, or may not be read.
    """
    try:
        folder = record if record.is_dir() else (records_dir or base() / "records") / record.name
        if (folder / NAME).is_file():
            os.close(os.open(folder / NAME, os.O_RDONLY))
            return folder.resolve()
    except OSError as error:
        raise click.BadParameter(f"{record} cannot be read: {error.strerror}", param_hint=hint) from None
    raise click.BadParameter(f"{record} is no record; `runbook records list` names them", param_hint=hint)


def all_records(records_dir: Path) -> tuple[RecordSummary, ...]:
    """Every record of a folder.

    Raises:
        click.BadParameter: The folder cannot be read.
    """
    try:
        return list_records(records_dir)
    except OSError as error:
        why = f"{records_dir} cannot be read: {error.strerror}"
        raise click.BadParameter(why, param_hint="--records-dir") from None
