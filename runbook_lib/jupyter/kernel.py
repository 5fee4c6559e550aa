"""The kernel of headless runs: ipykernel with the libraries of the runbooks already loaded."""

import os
import shutil
import threading
import time
from pathlib import Path

import pandas as pd  # noqa: F401 - loaded while the conductor is still starting
from ipykernel import kernelapp

import runbook_lib.jupyter.bind  # noqa: F401 - the same
from runbook_lib.jupyter.headless import HANDOFF

PARENT_POLL_S = 0.2
_TRIES = 50


def end_with_parent() -> None:
    """Ends this process when the one that started it has ended, and removes the folder that it can no longer remove."""
    parent = int(os.environ["JPY_PARENT_PID"])
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    folder = Path(os.environ[HANDOFF]).parent
    for _ in range(_TRIES):  # the kernel's other threads may still write there
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
        time.sleep(PARENT_POLL_S)
    os._exit(1)


class HeadlessKernelApp(kernelapp.IPKernelApp):
    """ipykernel's own, without its watch over the parent, which would end it before the folder is gone."""

    def init_poller(self) -> None:
        """Nothing: `end_with_parent` does that."""


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, name="end with parent", daemon=True).start()
    HeadlessKernelApp.launch_instance()
