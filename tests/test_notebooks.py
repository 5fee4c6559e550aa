"""The notebooks: one template, the parameters of the schema, short cells of calls, and nothing that ran."""

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.parameters import Parameters
from runbook_lib.session import NOTEBOOKS

FOLDER = Path(__file__).parents[1] / "notebooks"
FILES = sorted(each.name for each in FOLDER.glob("[1-9]*.ipynb"))
START = "README.ipynb"
KINDS = {f"{name}.ipynb": kind for kind, name in NOTEBOOKS.items()}
TAGS = {"parameters", "read-only", "changes-server", "summary"}
LONGEST_CELL = 5
TITLE_ROWS = ["what it changes", "outage", "how to undo", "how long"]
SECTIONS = {
    "title": "# ",
    "operation-note": "## Operation note",
    "parameters-note": "## Parameters",
    "form-note": "## Fill in",
    "bind-note": "## Bind to the server",
    "related": "## Related notebooks",
}
# The steps of each, and whether they change the server when `apply` is set.
STEPS = {
    "100_audit_certificates.ipynb": {"served": "read-only", "expiry": "read-only", "judged": "read-only", "found": "summary"},
    "200_request_certificate.ipynb": {"check": "read-only", "plan": "read-only", "back-up": "changes-server", "make-key": "changes-server", "make-csr": "changes-server", "sign": "changes-server", "summary": "summary"},
    "300_install_certificate.ipynb": {"check": "read-only", "plan": "read-only", "compare": "changes-server", "browse-before": "read-only", "install": "changes-server", "browse": "changes-server", "confirm": "changes-server", "before-after": "read-only", "summary": "summary"},
}  # fmt: skip
STEPS["900_restore_certificate.ipynb"] = STEPS["300_install_certificate.ipynb"]
Cell = dict[str, Any]

every_notebook = pytest.mark.parametrize("name", FILES)


@cache
def notebook(name: str) -> dict[str, Any]:
    """A notebook as it is kept."""
    read: dict[str, Any] = json.loads((FOLDER / name).read_text())
    return read


def cells(name: str, kind: str = "") -> list[Cell]:
    """Its cells, or those of one kind."""
    return [each for each in notebook(name)["cells"] if kind in {"", each["cell_type"]}]


def source(cell: Cell) -> str:
    """The text of a cell."""
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def tags(cell: Cell) -> list[str]:
    """The tags of a cell."""
    found: list[str] = cell["metadata"].get("tags", [])
    return found


def by_id(name: str, cell_id: str) -> Cell:
    """The cell of that id."""
    return next(each for each in cells(name) if each["id"] == cell_id)


def parsed(cell: Cell) -> ast.Module:
    """A code cell as Python, `await` at its top allowed."""
    tree: ast.Module = compile(source(cell), "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return tree


def called(cell: Cell) -> Iterator[str]:
    """What a cell calls."""
    yield from (ast.unparse(node.func) for node in ast.walk(parsed(cell)) if isinstance(node, ast.Call))


def test_there_are_four_and_a_page_that_leads_to_them() -> None:
    """Named by number and purpose, and found by `form` under these names; the start page has a link to each, and nothing that runs."""
    assert sorted(each.name for each in FOLDER.glob("*.ipynb")) == sorted([*FILES, START])
    (page,) = cells(START)
    assert re.findall(r"\]\(([^)]+)\)", source(page)) == FILES
    assert cells(START, "code") == []
    assert FILES == sorted(KINDS) == sorted(STEPS)


@every_notebook
def test_nothing_ran_in_what_is_kept(name: str) -> None:
    """No outputs, no execution counts, no traces of a run, a person's machine or a tool in the metadata."""
    for cell in cells(name, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
    assert all(set(cell["metadata"]) <= {"tags"} for cell in cells(name))
    assert notebook(name)["metadata"] == {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}, "language_info": {"name": "python"},
    }  # fmt: skip
    assert (notebook(name)["nbformat"], notebook(name)["nbformat_minor"]) == (4, 5)


@every_notebook
def test_cells_have_ids_that_stay(name: str) -> None:
    """Words that were chosen, each once: a record of last year can be laid beside today's notebook."""
    ids = [cell["id"] for cell in cells(name)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", each) for each in ids)


@every_notebook
def test_every_notebook_follows_one_template(name: str) -> None:
    """Title, operation note, parameters, bind, steps, related notebooks: always in this order."""
    ids = [cell["id"] for cell in cells(name)]
    first = ["title", "operation-note", "parameters-note", "parameters", "form-note", "form", "bind-note", "bind"]
    assert ids[: len(first)] == first
    assert ids[-1] == "related"
    for cell_id, heading in SECTIONS.items():
        assert source(by_id(name, cell_id)).startswith(heading)
    assert [cell["id"] for cell in cells(name, "code")] == ["parameters", "form", "bind", *STEPS[name]]
    assert {cell["cell_type"] for cell in cells(name)} == {"code", "markdown"}


@every_notebook
def test_the_title_says_what_an_operator_must_know_first(name: str) -> None:
    """The file's number and a table: what it changes, outage, how to undo, how long."""
    lines = source(by_id(name, "title")).splitlines()
    assert lines[0].startswith(f"# {name[:3]} · ")
    rows = [
        [part.strip() for part in line.strip("|").split("|")]
        for line in lines
        if line.startswith("| ") and line.strip("| ")
    ]
    named = [row for row in rows if row[0] and not set(row[0]) <= set("- ")]
    assert [row[0] for row in named] == TITLE_ROWS
    assert all(len(row) == 2 and row[1] for row in named)


@every_notebook
def test_related_notebooks_are_the_other_three(name: str) -> None:
    """By their numbers, and not itself."""
    numbers = re.findall(r"\b[1-9]00\b", source(by_id(name, "related")))
    assert sorted(numbers) == [each[:3] for each in FILES if each != name]


@every_notebook
def test_prose_stands_before_every_code_cell(name: str) -> None:
    """What and why under a heading of its own, before the cell that does it."""
    for before, cell in zip(cells(name), cells(name)[1:], strict=False):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown"
            heading, *text = source(before).splitlines()
            assert heading.startswith("## ")
            assert text
            assert before["id"] in {f"{cell['id']}-note", "after-note"}


@every_notebook
def test_a_step_that_changes_the_server_says_what_one_should_see(name: str) -> None:
    """And what it means when it is not seen."""
    for before, cell in zip(cells(name), cells(name)[1:], strict=False):
        if "changes-server" in tags(cell):
            assert re.match(r"## Step [1-7]: ", source(before))
            assert re.search(r"must be|[Yy]ou should see|it is shown here|is looked at", source(before))


@every_notebook
def test_tags_say_what_a_cell_does(name: str) -> None:
    """One tag a code cell, of the four; the steps have the ones that they should have."""
    assert all(not tags(cell) for cell in cells(name, "markdown"))
    found = {cell["id"]: tags(cell) for cell in cells(name, "code")}
    assert {tag for each in found.values() for tag in each} <= TAGS
    assert found == {"parameters": ["parameters"], "form": ["read-only"], "bind": ["read-only"]} | {
        step: [tag] for step, tag in STEPS[name].items()
    }


@every_notebook
def test_code_cells_are_short(name: str) -> None:
    """At most five lines, of which none is longer than a screen is wide."""
    for cell in cells(name, "code"):
        lines = source(cell).splitlines()
        assert len(lines) <= LONGEST_CELL or tags(cell) == ["parameters"], cell["id"]
        assert all(len(line) <= 120 for line in lines)


@every_notebook
def test_cells_call_and_do_nothing_else(name: str) -> None:
    """No def, class, loop, branch, lambda, `!` or `%`: those live in the package, where they are tested."""
    allowed = (ast.Module, ast.ImportFrom, ast.alias, ast.Assign, ast.Name, ast.Store, ast.Load, ast.Await, ast.Call, ast.Attribute, ast.Constant, ast.Expr, ast.List, ast.Dict)  # fmt: skip
    for cell in cells(name, "code"):
        assert not re.search(r"^\s*[!%]", source(cell), re.MULTILINE)
        assert not {type(node).__name__ for node in ast.walk(parsed(cell)) if not isinstance(node, allowed)}, cell["id"]


@every_notebook
def test_form_and_bind_follow_the_parameters(name: str) -> None:
    """What papermill injects comes before them, and nothing else; the form is of the run that the file is named for, and bind reads it."""
    ids = [cell["id"] for cell in cells(name, "code")]
    assert ids[:3] == ["parameters", "form", "bind"]
    variable = "audit" if KINDS[name] == "audit" else "change"
    line = f'inputs = form("{KINDS[name]}")\ninputs'
    assert source(by_id(name, "form")) == f"from runbook_lib.jupyter.forms import form\n\n{line}"
    line = f"{variable} = await bind(inputs)"
    assert source(by_id(name, "bind")) == f"from runbook_lib.jupyter.bind import bind\n\n{line}"


@every_notebook
def test_a_step_calls_the_method_it_is_named_for(name: str) -> None:
    """One call a cell, the last line of which is the table that is shown."""
    names = {"before-after": "before_and_after"}
    for step in STEPS[name]:
        variable = "audit" if KINDS[name] == "audit" else "change"
        assert list(called(by_id(name, step))) == [f"{variable}.{names.get(step, step.replace('-', '_'))}"]


def written(name: str) -> list[tuple[str, object, str]]:
    """Name, default and comment of each parameter as the cell has them."""
    lines = [line for line in source(by_id(name, "parameters")).splitlines() if line and not line.startswith("# ")]
    matched = [re.fullmatch(r"([a-z_]+) = (.+?)  # (.+)", line) for line in lines]
    assert all(matched), lines
    return [(each[1], ast.literal_eval(each[2]), each[3]) for each in matched if each]


@every_notebook
def test_exactly_one_cell_is_tagged_parameters(name: str) -> None:
    """Papermill injects after the first one it finds."""
    assert [cell["id"] for cell in cells(name) if "parameters" in tags(cell)] == ["parameters"]


@every_notebook
def test_the_parameters_are_those_of_the_schema(name: str) -> None:
    """Names, order, defaults and comments, exactly; `host`, which has no default, is an empty text to be filled in."""
    schema = [
        (field, "" if about.is_required() else about.get_default(call_default_factory=True), about.description)
        for field, about in Parameters.model_fields.items()
    ]
    assert written(name) == schema
    assert [type(value) for _, value, _ in written(name)] == [type(value) for _, value, _ in schema]


def test_the_parameters_cell_is_the_same_everywhere() -> None:
    """A parameter file fits all four."""
    assert len({source(by_id(name, "parameters")) for name in FILES}) == 1


@every_notebook
def test_prose_names_parameters_that_there_are(name: str) -> None:
    """`name = value` in the prose is a parameter of the schema; nothing says `apply: true` that would not be understood here."""
    text = "\n".join(source(cell) for cell in cells(name, "markdown"))
    for parameter in re.findall(r"`([a-z_]+)\s*=", text):
        assert parameter in Parameters.model_fields


@every_notebook
def test_only_a_notebook_that_says_so_changes_the_server(name: str) -> None:
    """The audit has no cell that could; the others have their changes after the plan."""
    order = [cell["id"] for cell in cells(name, "code")]
    changing = [cell["id"] for cell in cells(name, "code") if "changes-server" in tags(cell)]
    assert bool(changing) == (KINDS[name] != "audit")
    assert all(order.index(each) > order.index("plan") for each in changing)
