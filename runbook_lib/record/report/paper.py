"""The report on paper: Chromium prints it, where it is installed."""

import subprocess
import tempfile
from pathlib import Path

from runbook_lib.chromium import flags, installed

LIMIT_S = 60


class NotPrinted(Exception):
    """There is no PDF; the text says why."""


def print_report(page: Path, pdf: Path) -> None:
    """Prints a page into a PDF file.

    Args:
        page: The report.
        pdf: The file to be written.

    Raises:
        NotPrinted: No browser is installed here, or it did not print.
    """
    if not page.is_file():
        raise NotPrinted(
            f"there is no {page.name} in this record: its last run did not come to its end; `runbook seal` makes it"
        )
    browser = installed()
    if browser is None:
        raise NotPrinted("no Chromium is installed here; any browser prints report.html, too")
    with tempfile.TemporaryDirectory(prefix="runbook-print-") as profile:
        printing = [
            "--headless",
            *flags(),
            f"--user-data-dir={profile}",
            "--no-pdf-header-footer",
            f"--print-to-pdf={pdf.resolve()}",
        ]
        try:
            done = subprocess.run(
                [browser, *printing, page.resolve().as_uri()], capture_output=True, timeout=LIMIT_S, check=False,
                env={"HOME": profile, "PATH": "/usr/bin:/bin"},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotPrinted(f"{browser} did not print: {error}") from None
    if done.returncode or not pdf.is_file():
        raise NotPrinted(f"{browser} did not print: exit status {done.returncode}")
