"""Kernels for headless runs, and the two ways to end what goes on in one. Imported late: half a second that a run pays elsewhere."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

_ARGUMENTS = ["-m", "runbook_lib.jupyter.kernel", "-f", "{connection_file}", "--HistoryManager.enabled=False"]


class Kernel(AsyncKernelManager):
    """A running kernel of this interpreter, whatever kernels are installed elsewhere.

    Args:
        place: A path in a folder of our own, for its Unix sockets: nobody else can connect, and no port can be taken.
        environment: Variables that it gets besides this process's own.
    """

    def __init__(self, place: Path, environment: Mapping[str, str]) -> None:
        context = zmq.asyncio.Context()
        context.setsockopt(zmq.RECONNECT_IVL, 5)
        super().__init__(context=context, connection_file=f"{place}.json", transport="ipc", ip=str(place))
        self._kernel_spec = KernelSpec(argv=[sys.executable, *_ARGUMENTS], display_name="runbook", language="python")
        self._clients: list[AsyncKernelClient] = []
        ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

        async def start() -> None:
            await self.start_kernel(env={**ours, **environment}, cwd=str(Path.cwd()))

        asyncio.run(start())

    def client(self, **named: Any) -> AsyncKernelClient:  # type: ignore[override]  # noqa: ANN401 - as in AsyncKernelManager
        """A client that shares this manager's context, and is ended with it: papermill ends no client of a given kernel."""
        self._clients.append(super().client(context=self.context, **named))
        return self._clients[-1]

    def interrupt(self) -> None:
        """What JupyterLab's Stop does."""
        self._signal(signal.SIGINT)

    def end(self) -> None:
        """Ends the kernel at once, with every socket that led to it."""
        self._signal(signal.SIGKILL)
        for client in self._clients:
            client.stop_channels()
        self.context.destroy(linger=0)

    def _signal(self, number: int) -> None:
        process = getattr(self.provisioner, "process", None)
        if process and process.poll() is None:
            process.send_signal(number)
            if number == signal.SIGKILL:
                process.wait()
