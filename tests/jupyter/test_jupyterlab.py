"""A real JupyterLab: a person runs the notebooks cell by cell, and presses Stop."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runbook_lib.models import Outcome
from runbook_lib.record.journal import outcome_of, read
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import HeldRestart, executed_cells, request, values
from tests.jupyter.lab import Lab

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A JupyterLab server of its own."""
    async with Lab(tmp_path) as running:
        yield running


async def test_200_and_300_cell_by_cell(lab: Lab, practice: EmbeddedHost, tmp_path: Path) -> None:
    """The certificate is replaced, and the record shows every cell as the page showed it, closed to others."""
    given, old = values(practice, tmp_path), practice.served()
    pages = [await lab.open("200_request_certificate"), await lab.open("300_install_certificate")]
    for page in pages:  # the first kernel stays alive while the second notebook runs, as on a person's screen
        page.fill_in(given)
        shown = await page.run_all()
        (record,) = (tmp_path / "records").iterdir()
        assert outcome_of(read(record)) is Outcome.DONE
        cells = executed_cells(record)
        assert (
            shown["summary"].pop()["text"].startswith(f"report: {record}/report.html")
        )  # told when the record had been closed
        assert [(cell["id"], cell["source"]) for cell in cells] == [
            (each, page.cells[each]["source"]) for each in page.cells
        ]
        assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
        del shown["form"][0]["data"][WIDGET]  # lives in the page alone; what it held stands beside it as a table
        kept = {cell["id"]: cell["outputs"] for cell in cells}
        if (
            "install" in kept
        ):  # the line that counted down: the page was shown it again and again, the record keeps how it ended
            (settled,) = [each for each in kept["install"] if each["output_type"] == "display_data"]
            assert settled["data"] == {"text/plain": "guard: confirmed: the new pair stays"}
            for outputs in (kept["install"], shown["install"]):
                outputs[:] = [each for each in outputs if each["output_type"] != "display_data"]
        assert kept == shown
        assert all(cell["metadata"]["runbook"]["ended"] for cell in cells[2:])
        assert "text/html" in shown["summary"][-1]["data"]
    assert practice.served() != old
    assert practice.served() in (record / "files/certificate-after.pem").read_text()
    for path in (record, *record.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


async def test_stop_puts_the_old_pair_back(lab: Lab, practice: EmbeddedHost, tmp_path: Path) -> None:
    """Stop while nginx restarts: the cell ends with the old pair served, in words and not in a stack trace."""
    given, old = values(practice, tmp_path), practice.served()
    record = await asyncio.to_thread(request, given)
    restart = HeldRestart(practice)
    page = await lab.open("300_install_certificate")
    page.fill_in(given)
    for cell in ("parameters", "form", "bind", "check", "plan", "compare"):
        await page.run(cell)
    running = await page.begin("install")
    await asyncio.to_thread(restart.wait)
    for _ in range(3):  # pressed again and again, as people do
        await page.stop()
        await asyncio.sleep(0.2)
    restart.let_go()
    (error,) = [each for each in await page.outputs(running) if each["output_type"] == "error"]
    assert error["ename"] == "RolledBack"
    assert "the old pair is serving again" in error["traceback"][0]
    assert not [line for line in error["traceback"] if "Traceback" in line or "CancelledError\x1b" in line]
    assert practice.served() == old
    assert outcome_of(read(record)) is Outcome.ROLLED_BACK
    (after,) = await page.run("confirm")
    assert after["evalue"].startswith("this run has ended: rolled-back")
    assert outcome_of(read(record)) is Outcome.ROLLED_BACK
    ran = [cell["id"] for cell in executed_cells(record) if cell["execution_count"]]
    assert ran[-1] == "install"  # with which the record was closed


async def test_300_while_200_is_still_open(lab: Lab, practice: EmbeddedHost, tmp_path: Path) -> None:
    """A notebook whose last cell was not run still holds its record: the other one says so, and works when it has let go."""
    given = values(practice, tmp_path)
    first, second = await lab.open("200_request_certificate"), await lab.open("300_install_certificate")
    summary = first.cells.pop("summary")
    first.fill_in(given)
    await first.run_all()
    second.fill_in(given)
    await second.run("parameters")
    await second.run("form")
    error, *_ = await second.run("bind")
    assert "another run writes" in error["evalue"]
    first.cells["summary"] = summary
    await first.run("summary")
    assert await second.run("bind") == []
    (checked,) = await second.run("check")
    assert checked["output_type"] == "execute_result"
