"""README, CONTRIBUTING, CHANGELOG, docs and the example say what is true of the code."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from runbook_lib.cli import main
from runbook_lib.models import Outcome
from runbook_lib.parameters import Parameters, read_yaml, validate

TOP = Path(__file__).parents[1]
DOCS = [page for page in sorted((TOP / "docs").rglob("*.md")) if "_build" not in page.parts]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md", *DOCS]
TEXT = {str(page.relative_to(TOP)): page.read_text() for page in PAGES}
README = TEXT["README.md"]
BLOCK = re.compile(r"^ *```sh\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
SHOWN = sorted(
    {
        line.partition(" # ")[0].strip()
        for text in TEXT.values()
        for block in BLOCK.findall(text)
        for line in block.splitlines()
    }
)


def leaf_command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words name, and what follows it."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=list(TEXT))
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


@pytest.mark.parametrize("page", PAGES, ids=list(TEXT))
def test_no_command_stands_outside_a_block_that_is_read(page: Path) -> None:
    """Commands stand in blocks whose kind is named, so that the tests find them: `sh`, `console`, or `bat` for Windows."""
    kinds = re.findall(r"^ *```(.*)\n(?:.*\n)*?^ *```$", page.read_text(), re.MULTILINE)
    assert set(kinds) <= {"sh", "console", "bat", "yaml", "text", "{toctree}"}
    assert re.findall(r"^    (?:runbook|\./run|ssh) .*", page.read_text(), re.MULTILINE) == []


@pytest.mark.parametrize("shown", [line for line in SHOWN if line.startswith("./run ")])
def test_shown_run_commands_exist(shown: str) -> None:
    """Every `./run` command that is shown is one that `./run --help` names."""
    usage = subprocess.run([TOP / "run", "--help"], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^  {shown.split()[1]}\b", usage, re.MULTILINE) or shown == "./run --help"


def test_every_command_and_notebook_is_in_the_readme() -> None:
    """README or docs name every command of `runbook` and every notebook, besides the reference that is made from the code."""
    text = "".join(text for page, text in TEXT.items() if not page.startswith("docs/reference/"))
    notebooks = [each.stem for each in (TOP / "notebooks").glob("[1-9]*.ipynb")]
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


def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    """The pages of the reference are those that docs/reference.py writes now; `./run docs` mends them."""
    subprocess.run([sys.executable, TOP / "docs/reference.py", tmp_path], check=True, cwd=TOP)
    written = {page.name: page.read_text() for page in tmp_path.iterdir()}
    assert written == {page.name: page.read_text() for page in (TOP / "docs/reference").iterdir()}


def test_every_page_can_be_reached() -> None:
    """The contents on the first page name every other one."""
    index = TEXT["docs/index.md"]
    pages = [str(page.relative_to(TOP / "docs").with_suffix("")) for page in DOCS]
    assert [page for page in pages if page != "index" and not re.search(rf"^{page}$", index, re.MULTILINE)] == []


@pytest.mark.parametrize("file", sorted((TOP / "parameters").glob("*.yaml")), ids=lambda file: file.name)
def test_parameter_files_are_usable(file: Path) -> None:
    """Every parameter file of the project passes the model as it stands, and does not apply by itself."""
    values = read_yaml(file.read_text(), name=file.name)
    parameters, faults = validate(values, asks_for_certificate=True)
    assert faults == ()
    assert isinstance(parameters, Parameters)
    assert not parameters.apply
