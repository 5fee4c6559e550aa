"""A real JupyterLab server, and a page in it: a notebook whose cells are run one by one, as a person clicks them."""

import asyncio
import json
import secrets
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from runbook_lib.lab.folder import free_port
from tests.jupyter.changes import NOTEBOOKS, start

LIMIT_S = 60
Message = Mapping[str, Any]


class Lab:
    """A running `jupyter lab` on a loopback address. An async context manager.

    Args:
        folder: Where it keeps what is its own.
        root: The notebooks that it serves.
    """

    def __init__(self, folder: Path, root: Path = NOTEBOOKS) -> None:
        self._folder, self._root, self._token = folder, root, secrets.token_hex(16)
        self._port = free_port()

    def address(self, path: str) -> str:
        """Where a browser finds a file of its root, logged in."""
        return f"http://127.0.0.1:{self._port}/lab/tree/{path}?token={self._token}"

    async def __aenter__(self) -> Self:
        self._process = self._start()
        async with asyncio.timeout(LIMIT_S):
            while not await self._answers():  # noqa: ASYNC110 - another process: there is no event to wait for
                await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, LIMIT_S)

    def _start(self) -> subprocess.Popen[bytes]:
        own = {f"JUPYTER_{name}_DIR": str(self._folder / name.lower()) for name in ("CONFIG", "RUNTIME")}
        return start(
            "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self._port}",
            f"--IdentityProvider.token={self._token}", f"--ServerApp.root_dir={self._root}",
            cwd=self._folder, log=self._folder / "lab.log", IPYTHONDIR=str(self._folder / "ipython"), **own,
        )  # fmt: skip

    async def _answers(self) -> bool:
        try:
            return bool(await self.ask("GET", "/api"))
        except OSError:
            return False

    async def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """A request to the server's REST API."""
        url, headers = f"http://127.0.0.1:{self._port}{path}", {"Authorization": f"token {self._token}"}
        data = json.dumps(body) if method == "POST" else None
        answer = await AsyncHTTPClient().fetch(HTTPRequest(url, method, headers=headers, body=data))
        return json.loads(answer.body or b"null")

    async def open(self, name: str) -> "Page":
        """Opens a notebook, as a double click does: its cells, and a kernel that is started in its folder."""
        content = (await self.ask("GET", f"/api/contents/{name}.ipynb"))["content"]
        session = {"path": f"{name}.ipynb", "name": "", "type": "notebook", "kernel": {"name": "python3"}}
        kernel = (await self.ask("POST", "/api/sessions", session))["kernel"]["id"]
        url = f"ws://127.0.0.1:{self._port}/api/kernels/{kernel}/channels"
        headers = {"Authorization": f"token {self._token}"}
        socket = await websocket_connect(HTTPRequest(url, headers=headers), max_message_size=1 << 24)
        return Page(
            self, kernel, socket, {cell["id"]: cell for cell in content["cells"] if cell["cell_type"] == "code"}
        )


class Page:
    """An open notebook."""

    def __init__(self, lab: Lab, kernel: str, socket: WebSocketClientConnection, cells: dict[str, Any]) -> None:
        self._lab, self._kernel, self._socket, self.cells = lab, kernel, socket, cells
        self._session = uuid.uuid4().hex

    def fill_in(self, values: Mapping[str, object]) -> None:
        """Edits the parameters cell as a person does, line by line."""
        lines = self.cells["parameters"]["source"].splitlines()
        self.cells["parameters"]["source"] = "\n".join(_filled(line, values) for line in lines)

    async def run(self, cell: str) -> list[Message]:
        """Runs the cell with this id; returns its outputs."""
        return await self.outputs(await self.begin(cell))

    async def begin(self, cell: str) -> str:
        """Runs the cell with this id and does not wait."""
        request = uuid.uuid4().hex
        header = {
            "msg_id": request,
            "msg_type": "execute_request",
            "username": "",
            "session": self._session,
            "version": "5.3",
        }
        content = {"code": self.cells[cell]["source"], "silent": False, "store_history": True, "user_expressions": {}}
        message = {
            "channel": "shell", "header": header | {"date": "2026-01-01T00:00:00Z"}, "parent_header": {}, "metadata": {"cellId": cell},
            "content": content | {"allow_stdin": True, "stop_on_error": True}, "buffers": [],
        }  # fmt: skip
        await self._socket.write_message(json.dumps(message))
        return request

    async def outputs(self, request: str) -> list[Message]:
        """The outputs of a cell, once it is idle."""
        outputs: list[Message] = []
        async with asyncio.timeout(LIMIT_S):
            while True:
                message = json.loads(await self._socket.read_message() or "{}")
                kind, content = message["msg_type"], message["content"]
                if message["parent_header"].get("msg_id") != request or message["channel"] != "iopub":
                    continue
                if kind == "status" and content["execution_state"] == "idle":
                    return outputs
                if kind in {"stream", "display_data", "execute_result", "error"}:
                    content.pop("transient", None)
                    outputs.append({"output_type": kind, **content})

    async def run_all(self) -> dict[str, list[Message]]:
        """Runs every cell from top to bottom and stops at the first that fails; the outputs by cell."""
        shown: dict[str, list[Message]] = {}
        for cell in self.cells:
            shown[cell] = await self.run(cell)
            assert not [output for output in shown[cell] if output["output_type"] == "error"], shown[cell]
        return shown

    async def stop(self) -> None:
        """Presses Stop."""
        await self._lab.ask("POST", f"/api/kernels/{self._kernel}/interrupt", {})


def _filled(line: str, values: Mapping[str, object]) -> str:
    name = line.partition(" = ")[0]
    return f"{name} = {values[name]!r}" if name in values else line
