"""The kernel of headless runs: ipykernel with the libraries of the runbooks already loaded."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as ipykernel does, but before the second that the libraries take to load

import pandas as pd  # noqa: E402, F401 - loaded while the conductor is still starting
from ipykernel import ipkernel, kernelapp  # noqa: E402

import runbook_lib.jupyter.bind  # noqa: E402, F401 - the same
from runbook_lib.jupyter.headless import HANDOFF  # noqa: E402

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


class HeadlessKernel(ipkernel.IPythonKernel):
    """ipykernel's own, which hears an interrupt only while an `await` of a cell runs.

    One that comes while a request is taken in or answered would take its answer away, for which papermill waits for ever.
    """

    def pre_handler_hook(self) -> None:
        """Nothing: SIGINT stays ignored, until ipykernel catches it for the cell's `await`."""

    def post_handler_hook(self) -> None:
        """Nothing: there is nothing to put back."""


class HeadlessKernelApp(kernelapp.IPKernelApp):
    """ipykernel's own, without its watch over the parent, which would end it before the folder is gone."""

    kernel_class = HeadlessKernel

    def init_poller(self) -> None:
        """Nothing: `end_with_parent` does that."""


if __name__ == "__main__":
    threading.Thread(target=end_with_parent, name="end with parent", daemon=True).start()
    HeadlessKernelApp.launch_instance()
