"""Tests that need a real Chromium, and a folder of its own for what it leaves."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runbook_lib.chromium import installed


def need_browser() -> None:
    """Skips the test by name where Chromium or certutil is missing; in CI it fails."""
    lacking = [*([] if installed() else ["chromium"]), *([] if shutil.which("certutil") else ["libnss3-tools"])]
    if lacking:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"a browser needs {', '.join(lacking)}")


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Where visits of this process make their folders; its path is short, because Chromium makes sockets in them."""
    folder = Path(tempfile.mkdtemp(prefix="visits-", dir="/tmp"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tempfile, "tempdir", str(folder))
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def chromium_of(folder: Path) -> int:
    """The Chromium that runs in this folder, a process group of its own; 0 where there is none yet."""
    locks = [each / "profile/SingletonLock" for each in folder.iterdir()]
    return next((int(str(each.readlink()).rpartition("-")[2]) for each in locks if each.is_symlink()), 0)


def processes_of(folder: Path) -> list[str]:
    """The processes that name this folder in their arguments."""
    return subprocess.run(["pgrep", "-f", str(folder)], capture_output=True, text=True, check=False).stdout.split()
