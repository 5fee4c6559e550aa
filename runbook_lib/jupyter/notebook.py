"""The executed notebook, made from a notebook as it is kept and from what ran: pure, so that it can be made at any moment."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

INJECTED = "# Parameters"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_OF_ANOTHER_RUN = {"runbook", "papermill", "execution", "widgets"}
Json = dict[str, Any]


@dataclass
class Ran:
    """One execution of one cell; `cell_id` is empty where the front end gives none, as papermill's does."""

    source: str
    execution_count: int
    cell_id: str = ""
    message: str = ""
    started: str = ""
    ended: str = ""
    outputs: list[Json] = field(default_factory=list)
    clear_first: bool = False


def output(kind: str, content: Json) -> Json:
    """A message's content in the form in which a notebook keeps it."""
    fields = {
        "stream": ("name", "text"),
        "display_data": ("data", "metadata"),
        "execute_result": ("data", "metadata", "execution_count"),
        "error": ("ename", "evalue", "traceback"),
    }[kind]
    kept = {"output_type": kind, **{name: content[name] for name in fields}}
    if "data" in kept:  # a widget is gone with its page; what stands beside it is kept
        kept["data"] = {name: each for name, each in kept["data"].items() if name != _WIDGET}
    return kept


def as_kept(notebook: Json) -> Json:
    """The notebook without what an earlier run left in it: JupyterLab saves outputs into the file it was opened from."""
    for each in (notebook, *notebook["cells"]):
        each["metadata"] = {name: value for name, value in each["metadata"].items() if name not in _OF_ANOTHER_RUN}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    return notebook


def executed(notebook: Json, ran: Sequence[Ran]) -> Json:
    """The notebook with what ran, and nothing marked as run that did not run.

    A cell that ran is found in the notebook by its id, or by its text, in order. What has no place there, such as papermill's
    injected parameters or a second run of a cell, stands after the cell that ran before it.
    """
    cells: list[Json] = notebook["cells"]
    homes = homes_of(cells, ran)
    following: dict[int, list[Json]] = {}
    place = next((home for home in homes if home is not None), 0) - 1
    for number, (each, home) in enumerate(zip(ran, homes, strict=True)):
        if home is None:
            tags = {"tags": ["injected-parameters"]} if each.source.startswith(INJECTED) else {}
            cell = {"cell_type": "code", "id": f"ran-{number}", "metadata": tags}
            following.setdefault(place, []).append(_filled(cell, each))
        else:
            place = home
    shown = following.get(-1, [])
    for index, cell in enumerate(cells):
        shown += [_filled(cell, ran[homes.index(index)]) if index in homes else cell, *following.get(index, ())]
    return {**notebook, "cells": shown}


def homes_of(cells: Sequence[Json], ran: Sequence[Ran]) -> list[int | None]:
    """Which cell of the notebook each execution was one of: its index, each index once."""
    homes: list[int | None] = []
    place = -1
    for each in ran:
        found = (
            index
            for index, cell in enumerate(cells)
            if cell["cell_type"] == "code" and index not in homes
            and (cell.get("id") == each.cell_id if each.cell_id else index > place and _text(cell) == each.source.strip())
        )  # fmt: skip
        homes.append(next(found, None))
        place = place if homes[-1] is None else homes[-1]
    _find_edited_parameters(cells, ran, homes)
    return homes


def _find_edited_parameters(cells: Sequence[Json], ran: Sequence[Ran], homes: list[int | None]) -> None:
    """A parameters cell that was filled in by hand: it ran before the recorder did, so that no front end gave its id."""
    for index, cell in enumerate(cells):
        if "parameters" in cell["metadata"].get("tags", ()) and index not in homes:
            until = next((number for number, home in enumerate(homes) if home is not None and home > index), 0)
            without = [number for number in range(until) if homes[number] is None and not ran[number].cell_id]
            if without:
                homes[without[-1]] = index


def _text(cell: Json) -> str:
    return "".join(cell.get("source", "")).strip()


def _filled(cell: Json, ran: Ran) -> Json:
    outputs = [{name: value for name, value in each.items() if name != "_display"} for each in ran.outputs]
    times = {"started": ran.started or None, "ended": ran.ended or None}
    return {
        **cell,
        "source": ran.source,
        "execution_count": ran.execution_count,
        "outputs": outputs,
        "metadata": {**cell["metadata"], "runbook": times},
    }
