"""A real kernel, and a front end that sees what JupyterLab and papermill see of it."""

import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.manager import KernelManager

Message = Mapping[str, Any]
LIMIT_S = 30


class Kernel:
    """A kernel with one client; `seen` is every message that the client was sent.

    Args:
        folder: Where the kernel runs, and where IPython keeps its history.
    """

    def __init__(self, folder: Path) -> None:
        self.seen: list[Message] = []
        self._manager = KernelManager()
        # ipykernel leaves its children's output alone where pytest's variable is set
        environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        self._manager.start_kernel(cwd=str(folder), env=environment | {"IPYTHONDIR": str(folder / "ipython")})
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=LIMIT_S)

    @property
    def process(self) -> int:
        """Its process id."""
        return int(self._manager.provisioner.pid)  # type: ignore[union-attr]

    def begin(self, code: str, *, cell_id: str = "", store_history: bool = True, allow_stdin: bool = False) -> str:
        """Has a cell executed, with JupyterLab's id of the cell or, as papermill does, without; returns the request's id."""
        content = {
            "code": code,
            "silent": False,
            "store_history": store_history,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": True,
        }
        message = self._client.session.msg("execute_request", content)
        if cell_id:
            message["metadata"] = {"cellId": cell_id}
        self._client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def run(self, code: str, *, cell_id: str = "", store_history: bool = True) -> list[Message]:
        """Executes a cell; returns what the front end was sent for it."""
        request = self.begin(code, cell_id=cell_id, store_history=store_history)
        sent = self.until_idle(request)
        self.seen.append(self._client.get_shell_msg(timeout=LIMIT_S))
        return sent

    def run_and_answer(self, code: str, answer: str) -> tuple[str, list[Message]]:
        """Executes a cell that asks a person one thing; returns what it asked, and what the front end was sent."""
        request = self.begin(code, allow_stdin=True)
        asked = self._client.get_stdin_msg(timeout=LIMIT_S)["content"]["prompt"]
        self._client.input(answer)
        sent = self.until_idle(request)
        self.seen.append(self._client.get_shell_msg(timeout=LIMIT_S))
        return asked, sent

    def wait_for_text(self, text: str) -> None:
        """Waits until a stream has shown this."""
        while text not in (message := self._next())["content"].get("text", ""):
            assert message["msg_type"] != "error", message["content"]

    def until_idle(self, request: str) -> list[Message]:
        """What the front end is sent for a request, up to its end."""
        sent = []
        while True:
            message = self._next()
            if message["parent_header"].get("msg_id") != request:
                continue
            sent.append(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return sent

    def _next(self) -> Message:
        try:
            message: Message = self._client.get_iopub_msg(timeout=LIMIT_S)
        except Empty:
            raise TimeoutError from None
        self.seen.append(message)
        return message

    def interrupt(self) -> None:
        """What JupyterLab's Stop does."""
        self._manager.interrupt_kernel()

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.process, signal.SIGKILL)

    def shut_down(self) -> None:
        """As JupyterLab and papermill do it, with time for the kernel's own clean-up."""
        self._manager.shutdown_kernel()

    def close(self) -> None:
        """Ends it."""
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()


def notebook(*cells: str | dict[str, Any], **metadata: object) -> dict[str, Any]:
    """A notebook of code cells with the ids `cell-0` and so on; a cell that is a mapping says more of itself."""
    code: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    written = [code | {"source": each} if isinstance(each, str) else each for each in cells]
    return {
        "cells": [
            (each if "cell_type" in each else code | each) | {"id": f"cell-{number}"}
            for number, each in enumerate(written)
        ],
        "metadata": metadata,
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def prose(text: str) -> dict[str, Any]:
    """A markdown cell."""
    return {"cell_type": "markdown", "metadata": {}, "source": text}


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook's content, once it is there."""
    end = time.monotonic() + LIMIT_S
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
    content: dict[str, Any] = json.loads(path.read_text())
    return content
