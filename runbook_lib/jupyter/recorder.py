"""The kernel's own view of what ran, written as an executed notebook while it runs.

It is the same under JupyterLab, `runbook` and stock papermill, because it stands where all of them get their outputs from:
at the messages that leave the kernel. Every message is redacted before it is sent, and what was sent is what is recorded.
"""

import copy
import datetime as dt
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

INTERVAL_S = 0.25
INJECTED = "# Parameters"
_OUTPUTS = {"stream", "display_data", "update_display_data", "execute_result", "error"}
Json = dict[str, Any]


@dataclass
class _Ran:
    """One execution of one cell."""

    source: str
    execution_count: int
    message: str = ""
    started: str = ""
    ended: str = ""
    outputs: list[Json] = field(default_factory=list)


class Recorder:
    """Redacts what leaves the kernel and keeps the executed notebook.

    Args:
        shell: The kernel's IPython shell.
        redact: Takes secrets out of a text.
        longest: Length of the longest text that `redact` may have to find; a stream's last line is held back so far.
        source: The notebook as it is kept, for its prose; None when it is not known.
    """

    def __init__(
        self, shell: InteractiveShell, redact: Callable[[str], str], longest: Callable[[], int], source: Path
    ) -> None:
        self._shell, self._redact, self._longest, self._source = shell, redact, longest, source
        self._session = shell.kernel.session  # type: ignore[attr-defined]
        self._send = self._session.send
        self._ran: list[_Ran] = []
        self._held: dict[tuple[str, str], str] = {}
        self._path: Path | None = None
        self._written = 0.0
        self._guard = threading.RLock()

    def start(self) -> None:
        """Begins with the cell that is running; the cells before it are taken from the shell's history, without outputs."""
        inputs = self._shell.history_manager.input_hist_raw  # type: ignore[union-attr]
        self._shell.history_manager.enabled = False  # type: ignore[union-attr]
        self._ran = [_Ran(self._redact(text), number) for number, text in enumerate(inputs) if number and text]
        if self._ran:
            self._ran[-1].message, self._ran[-1].started = self._parent(), _now()
        self._session.send = self._sent
        self._shell.events.register("pre_run_cell", self._begin)
        self._shell.events.register("post_run_cell", self._end)

    def attach(self, path: Path) -> None:
        """From now on the notebook is written here."""
        self._path = path
        self._write()

    def close(self) -> None:
        """Stops redacting and recording; what was written stays."""
        self._session.send = self._send
        self._shell.events.unregister("pre_run_cell", self._begin)
        self._shell.events.unregister("post_run_cell", self._end)

    def _parent(self) -> str:
        parent: Mapping[str, Any] = self._shell.kernel.get_parent("shell")  # type: ignore[attr-defined]
        return str(parent.get("header", {}).get("msg_id", ""))

    def _begin(self, info: Any) -> None:  # noqa: ANN401 - IPython's ExecutionInfo
        with self._guard:
            if info.store_history:
                self._ran.append(_Ran(self._redact(info.raw_cell), self._shell.execution_count, self._parent(), _now()))
                self._write()

    def _end(self, _result: object) -> None:
        with self._guard:
            if self._ran:
                self._ran[-1].ended = _now()
                self._write()

    def _sent(self, stream: Any, msg_or_type: Any, content: Any = None, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
        """Stands in for the session's `send`."""
        whole = isinstance(msg_or_type, Mapping)
        kind = str(msg_or_type["header"]["msg_type"] if whole else msg_or_type)
        parent = msg_or_type.get("parent_header") if whole else rest[0] if rest else named.get("parent")
        message = _message_id(parent)
        with self._guard:
            clean = self._clean(msg_or_type["content"] if whole else content)
            if kind == "status" and clean.get("execution_state") == "idle":
                self._release(stream, message, parent)
            if kind == "stream":
                clean["text"] = self._hold_back(message, clean["name"], clean["text"])
                if not clean["text"]:
                    return None
            if kind in _OUTPUTS:
                self._keep(message, kind, clean)
        if whole:
            return self._send(stream, {**msg_or_type, "content": clean}, None, *rest, **named)
        return self._send(stream, msg_or_type, clean, *rest, **named)

    def _clean(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, str):
            return self._redact(value)
        if isinstance(value, Mapping):
            return {name: self._clean(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        return value

    def _hold_back(self, message: str, name: str, text: str) -> str:
        """What may be shown now: a secret written in two goes must not slip through between them."""
        text = self._redact(self._held.pop((message, name), "") + text)
        kept = min(len(text) - text.rfind("\n") - 1, max(0, self._longest() - 1))
        if kept:
            self._held[message, name] = text[-kept:]
        return text[: len(text) - kept]

    def _release(self, stream: Any, message: str, parent: Any) -> None:  # noqa: ANN401
        for key in [each for each in self._held if each[0] == message]:
            content = {"name": key[1], "text": self._held.pop(key)}
            self._keep(message, "stream", content)
            self._send(stream, "stream", content, parent)

    def _keep(self, message: str, kind: str, content: Json) -> None:
        ran = next((each for each in reversed(self._ran) if each.message == message), None)
        if ran is None:
            return
        output = _output(kind, content)
        shown = content.get("transient", {}).get("display_id")
        last = ran.outputs[-1] if ran.outputs else {}
        if kind == "update_display_data":
            for each in (each for cell in self._ran for each in cell.outputs if each.get("_display") == shown):
                each.update(data=content["data"], metadata=content["metadata"])
        elif kind == "stream" and last.get("output_type") == "stream" and last["name"] == content["name"]:
            last["text"] += content["text"]
        else:
            ran.outputs.append(output | ({"_display": shown} if shown else {}))
        if time.monotonic() - self._written > INTERVAL_S:
            self._write()

    def _write(self) -> None:
        """Writes the notebook as it stands; a failure is told and does not break the cell."""
        if self._path is None:
            return
        self._written = time.monotonic()
        try:
            write_whole(
                self._path, json.dumps(executed(self._source, self._ran), indent=1, ensure_ascii=False).encode()
            )
        except OSError as error:
            sys.__stderr__ and print(f"the executed notebook cannot be written: {error}", file=sys.__stderr__)


def _message_id(parent: Any) -> str:  # noqa: ANN401
    parent = parent or {}
    header = parent.get("header", parent) if isinstance(parent, Mapping) else {}
    return str(header.get("msg_id", ""))


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _output(kind: str, content: Json) -> Json:
    """A message's content in the form in which a notebook keeps it."""
    fields = {
        "stream": ("name", "text"),
        "display_data": ("data", "metadata"),
        "update_display_data": ("data", "metadata"),
        "execute_result": ("data", "metadata", "execution_count"),
        "error": ("ename", "evalue", "traceback"),
    }[kind]
    return {"output_type": kind.removeprefix("update_"), **{name: content[name] for name in fields}}


def executed(source: Path, ran: list[_Ran]) -> Json:
    """The notebook with what ran, and nothing marked as run that did not run.

    Cells that ran are found in the source by their text, in order. What is not there, such as papermill's injected parameters
    or a cell that was run twice, stands where it ran.
    """
    notebook: Json = (
        json.loads(source.read_text(encoding="utf-8"))
        if source.is_file()
        else {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    )
    cells = [copy.deepcopy(each) for each in notebook["cells"]]
    place = 0
    for number, each in enumerate(ran):
        found = next(
            (i for i in range(place, len(cells)) if _is_unrun(cells[i]) and _text(cells[i]) == each.source.strip()),
            None,
        )
        if found is None:
            injected = ["injected-parameters"] if each.source.startswith(INJECTED) else []
            cells.insert(
                place, {"cell_type": "code", "id": f"ran-{number}", "metadata": {"tags": injected} if injected else {}}
            )
            found = place
        cells[found] |= _filled(each, cells[found]["metadata"])
        place = found + 1
    return {**notebook, "cells": cells}


def _is_unrun(cell: Json) -> bool:
    return bool(cell["cell_type"] == "code" and "runbook" not in cell["metadata"])


def _text(cell: Json) -> str:
    return "".join(cell.get("source", "")).strip()


def _filled(ran: _Ran, metadata: Json) -> Json:
    outputs = [{name: value for name, value in each.items() if name != "_display"} for each in ran.outputs]
    times = {"started": ran.started or None, "ended": ran.ended or None}
    return {
        "source": ran.source,
        "execution_count": ran.execution_count,
        "outputs": outputs,
        "metadata": {**metadata, "runbook": times},
    }


def write_whole(path: Path, data: bytes) -> None:
    """The whole file or the one before it, readable by its owner alone."""
    aside = path.with_name(f".{path.name}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    aside.rename(path)
