"""The report on paper, printed by a real Chromium."""

import os
from pathlib import Path

import pytest

from runbook_lib.chromium import installed
from runbook_lib.record.report.paper import NotPrinted, print_report
from tests.record.sealing import closed, run


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """The report of a run."""
    record = run(tmp_path, 1)
    closed(record, None)
    return record.folder / "report.html"


def test_it_is_printed(report: Path, tmp_path: Path) -> None:
    """A PDF of some pages, and nothing else is left beside it."""
    if not installed():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("printing needs chromium")
    pdf = tmp_path / "paper" / "report.pdf"
    pdf.parent.mkdir()
    print_report(report, pdf)
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert pdf.read_bytes().count(b"/Type /Page\n") >= 1
    assert list(pdf.parent.iterdir()) == [pdf]


def test_where_it_cannot_be_printed(report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No report, no browser: it is said, and there is no file."""
    with pytest.raises(NotPrinted, match=r"no none\.html in this record"):
        print_report(report.with_name("none.html"), tmp_path / "x.pdf")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotPrinted, match="no Chromium is installed here"):
        print_report(report, tmp_path / "x.pdf")
    assert not (tmp_path / "x.pdf").exists()
