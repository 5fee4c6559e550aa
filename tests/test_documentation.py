"""README, CONTRIBUTING, CHANGELOG, docs and the example say what is true of the code."""

import re
import subprocess
from pathlib import Path

import click
import pytest

from runbook_lib.cli import main
from runbook_lib.models import Outcome
from runbook_lib.parameters import Parameters, read_yaml, validate

TOP = Path(__file__).parents[1]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md", *sorted((TOP / "docs").glob("*.md"))]
TEXT = {page.name: page.read_text() for page in PAGES}
README = TEXT["README.md"]
SHOWN = sorted(
    {line.split("#")[0].strip() for text in TEXT.values() for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)}
)


def leaf_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, and what follows it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture is a file of this project."""
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("shown", [line for line in SHOWN if line.startswith("runbook ")])
def test_shown_runbook_commands_exist(shown: str) -> None:
    """Every `runbook` command that is shown can be parsed: its name, its options, its arguments."""
    command, words = leaf_command(shown.split()[1:])
    assert not isinstance(command, click.Group)
    command.make_context(shown, words)


@pytest.mark.parametrize("shown", [line for line in SHOWN if line.startswith("./run ")])
def test_shown_run_commands_exist(shown: str) -> None:
    """Every `./run` command that is shown is one that `./run --help` names."""
    usage = subprocess.run([TOP / "run", "--help"], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^  {shown.split()[1]}\b", usage, re.MULTILINE) or shown == "./run --help"


def test_every_command_and_notebook_is_in_the_readme() -> None:
    """README or docs name every command of `runbook` and every notebook."""
    text = "".join(TEXT.values())
    notebooks = [each.stem for each in (TOP / "notebooks").glob("*.ipynb")]
    commands = [f"runbook {name}" for name in main.commands]
    assert [name for name in [*notebooks, *commands] if name not in text] == []


def test_the_exit_statuses_are_those_of_the_code() -> None:
    """The README's list of outcomes gives each the exit status that the code gives it."""
    described = re.search(r"exit status: (.*?)\n\n", README, re.DOTALL)
    assert described
    for outcome in Outcome:
        if outcome is not Outcome.UNUSABLE:
            assert re.search(rf"{outcome.exit_code} [^·]*`{outcome}`", described[1]), outcome
    assert "2 unusable" in described[1]


@pytest.mark.parametrize("file", sorted((TOP / "parameters").glob("*.yaml")), ids=lambda file: file.name)
def test_parameter_files_are_usable(file: Path) -> None:
    """Every parameter file of the project passes the model as it stands, and does not apply by itself."""
    values = read_yaml(file.read_text(), name=file.name)
    parameters, faults = validate(values, asks_for_certificate=True)
    assert faults == ()
    assert isinstance(parameters, Parameters)
    assert not parameters.apply
