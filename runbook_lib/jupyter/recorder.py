"""The kernel's own view of what ran, written as an executed notebook while it runs.

It is the same under JupyterLab, `runbook` and stock papermill, because it stands where all of them get their outputs from:
at the messages that leave the kernel. Every message is redacted before it is sent, and what was sent is what is recorded.
"""

import asyncio
import contextlib
import datetime as dt
import json
import re
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from runbook_lib.files import write_whole
from runbook_lib.jupyter.notebook import INJECTED, Json, Ran, as_kept, executed, homes_of, output
from runbook_lib.tables import Table

INTERVAL_S = 0.25
_PARAMETERS = re.compile(r"^host\s*=", re.MULTILINE)
_FORM = re.compile(r"= form\(")
_OUTPUTS = {"stream", "display_data", "update_display_data", "execute_result", "error"}
_OPEN_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?!.*-----END [A-Z ]*PRIVATE KEY-----)", re.DOTALL)
_KEY_BEGINS = re.compile(r"-{1,5}(B(E(G(I(N[A-Z -]*)?)?)?)?)?\Z")
AtRest = Callable[[bool], tuple[str, Coroutine[None, None, None] | None] | None]


class Recorder:
    """Redacts what leaves the kernel and keeps the executed notebook.

    Args:
        shell: The kernel's IPython shell.
        redact: Takes secrets out of a text.
        longest: Length of the longest text that `redact` may have to find; a stream's last line is held back so far.
        source: The notebook as it is kept, for its prose; what it holds of earlier runs is left out.
    """

    def __init__(
        self, shell: InteractiveShell, redact: Callable[[str], str], longest: Callable[[], int], source: Path
    ) -> None:
        self._shell, self._redact, self._longest = shell, redact, longest
        self._notebook = _kept(source)
        self._session = shell.kernel.session  # type: ignore[attr-defined]
        self._iopub = shell.kernel.iopub_socket  # type: ignore[attr-defined]
        self._send = self._session.send
        self._ran: list[Ran] = []
        self._count = self._first = 0
        self._held: dict[tuple[str, str], str] = {}
        self._path: Path | None = None
        self._changed = self._in_trouble = False
        self._closed = threading.Event()
        self._guard = threading.RLock()
        self._at_rest: AtRest = lambda _failed: None
        self._then: Coroutine[None, None, None] | None = None
        self._resting: asyncio.Task[None] | None = None

    def start(self, carried: Sequence[Ran], shown: Mapping[int, Table]) -> None:
        """Begins with the cell that is running.

        Args:
            carried: What the recorder before this one in the same kernel handed on; without any, the cells before are
                taken from the shell's history, without outputs.
            shown: What stands in the record as the output of a cell before, by its execution count: a form as it was read.
        """
        inputs = self._shell.history_manager.input_hist_raw  # type: ignore[union-attr]
        self._shell.history_manager.enabled = False  # type: ignore[union-attr]
        ran = [Ran(self._redact(text), number) for number, text in enumerate(inputs) if number and text]
        # what was there before the parameters ran for the last time is no part of this run: parameters that were put right, above all
        begins = [
            n for n, each in enumerate(ran) if _PARAMETERS.search(each.source) and not each.source.startswith(INJECTED)
        ]
        self._ran = list(carried) or ran[begins[-1] if begins else 0 :]
        if self._ran and not carried:
            self._ran[-1].message, self._ran[-1].started = self._parent(), _now()
        for each in self._ran:
            if table := shown.get(each.execution_count or 0):
                bundle = {"text/plain": repr(table), "text/html": table._repr_html_()}
                each.outputs = [
                    output(
                        "execute_result",
                        {"data": self._clean(bundle), "metadata": {}, "execution_count": each.execution_count},
                    )
                ]
        self._first = len(self._ran) - 1
        self._session.send = self._sent
        self._shell.events.register("pre_run_cell", self._begin)
        self._shell.events.register("post_run_cell", self._end)

    @property
    def attached(self) -> bool:
        """Whether the notebook has a place to be written to."""
        return self._path is not None

    def attach(self, path: Path) -> None:
        """From now on the notebook is written here; beside it, where another run's stands there."""
        self._path, number = path, 1
        while self._path.exists():
            number += 1
            self._path = path.with_stem(f"{path.stem}-{number}")
        self._write()
        threading.Thread(target=self._keep_written, name="recorder", daemon=True).start()

    def at_rest(self, work: AtRest) -> None:
        """Has something done whenever a cell has ended, before the front end hears of that.

        Args:
            work: Told whether the cell raised. Gives nothing, or a text that the front end shows and no record keeps, and
                what is to be awaited before the next cell can be run.
        """
        self._at_rest = work

    @property
    def complete(self) -> bool:
        """Whether the notebook's last cell has run."""
        cells = self._notebook["cells"]
        code = [index for index, cell in enumerate(cells) if cell["cell_type"] == "code"]
        return bool(code) and code[-1] in homes_of(cells, self._ran)

    def finish(self) -> None:
        """Writes the notebook for the last time; what leaves the kernel is redacted all the same."""
        with self._guard:
            self._write()
            self._path = None
            self._closed.set()

    def close(self) -> list[Ran]:
        """Stops redacting and recording; what was written stays.

        Returns:
            What belongs to the next run in this kernel: the parameters that it stands on and the cell that is running.
            Parameters that ran again after this run had begun are no part of its record any more.
        """
        self._session.send = self._send
        self._shell.events.unregister("pre_run_cell", self._begin)
        self._shell.events.unregister("post_run_cell", self._end)
        self._closed.set()
        with self._guard:
            running = [self._ran.pop()] if self._ran and not self._ran[-1].ended else []
            later = [(n, each) for n, each in enumerate(self._ran) if n > self._first]
            again = [n for n, each in later if _PARAMETERS.search(each.source)]
            filled = [n for n, each in later if _FORM.search(each.source)]
            carried = self._ran[: self._first]
            if not again and filled:  # the form alone was begun anew: it takes the place of the one before
                carried = [each for each in carried if not _FORM.search(each.source)]
            begins = again or filled
            if begins:
                carried = self._ran[begins[-1] :] if again else [*carried, *self._ran[begins[-1] :]]
                del self._ran[begins[-1] :]
            self._write()
        return [*carried, *running]

    def _parent(self) -> str:
        parent: Mapping[str, Any] = self._shell.kernel.get_parent("shell")  # type: ignore[attr-defined]
        return str(parent.get("header", {}).get("msg_id", ""))

    def _begin(self, info: Any) -> None:  # noqa: ANN401 - IPython's ExecutionInfo
        if not info.store_history:
            return
        with self._guard:
            source = self._redact(info.raw_cell)
            self._ran.append(Ran(source, self._count, info.cell_id or "", self._parent(), _now()))
            self._write()

    def _end(self, result: Any) -> None:  # noqa: ANN401 - IPython's ExecutionResult, None for a cell that was cancelled
        if result is not None and not result.info.store_history:
            return
        with self._guard:
            if self._ran:
                self._ran[-1].ended = _now()
                self._write()

    def _sent(self, stream: Any, msg_or_type: Any, content: Any = None, *more: Any, **named: Any) -> Any:  # noqa: ANN401
        """Stands in for the session's `send`."""
        whole = isinstance(msg_or_type, Mapping)
        kind = str(msg_or_type["header"]["msg_type"] if whole else msg_or_type)
        parent = msg_or_type.get("parent_header") if whole else more[0] if more else named.get("parent")
        with self._guard:
            content = msg_or_type["content"] if whole else content
            clean = dict(content) if kind == "stream" else self._clean(content)
            if not self._noted(kind, clean, parent):
                return None
            rest = self._rest(kind, clean, parent)

        def go_on(*_: object) -> Any:  # noqa: ANN401
            if whole:
                return self._send(stream, {**msg_or_type, "content": clean}, None, *more, **named)
            return self._send(stream, msg_or_type, clean, *more, **named)

        if rest is None:
            return go_on()
        self._resting = asyncio.get_running_loop().create_task(rest)
        self._resting.add_done_callback(go_on)
        return None

    def _rest(self, kind: str, clean: Any, parent: Any) -> Coroutine[None, None, None] | None:  # noqa: ANN401
        """Does the work of a cell's end before its reply is sent, and gives what is to be awaited before the cell is idle.

        Front ends wait for a reply as long as it takes; nbclient gives a cell 4 s from its reply until it is idle.
        """
        ends = kind == "execute_reply" or (kind == "status" and clean["execution_state"] == "idle")
        ran = self._of(_message_id(parent)) if ends else None
        if ran is None:
            return None
        if kind == "status":
            then, self._then = self._then, None
            return then
        try:
            done = self._at_rest(any(each["output_type"] == "error" for each in ran.outputs))
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, the front end must hear that the cell has ended
            done = f"the record could not be closed: {type(error).__name__}: {error}\n", None
        if done is not None:
            self._send(self._iopub, "stream", {"name": "stdout", "text": self._redact(done[0])}, parent)
            self._then = done[1]
        return None

    def _noted(self, kind: str, clean: Any, parent: Any) -> bool:  # noqa: ANN401
        """Records one message; whether it is to be sent now."""
        message = _message_id(parent)
        if kind == "stream":
            clean["text"] = self._hold_back((message, clean["name"]), clean["text"])
            if not clean["text"]:
                return False
        if kind in _OUTPUTS:
            self._keep(message, kind, clean)
        elif kind == "execute_input":
            self._count = clean["execution_count"]  # as the front end shows it; the shell's own may be ahead by one
        elif kind == "clear_output":
            self._release(message, parent)
            self._clear(message, wait=clean["wait"])
        elif kind == "execute_reply" or (kind == "status" and clean["execution_state"] == "idle"):
            self._release(message, parent)
            if self._changed:
                self._write()
        return True

    def _clean(self, value: Any) -> Any:  # noqa: ANN401 - any JSON value
        if isinstance(value, str):
            return self._redact(value)
        if isinstance(value, Mapping):
            return {self._clean(name): self._clean(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(each) for each in value]
        return value

    def _hold_back(self, key: tuple[str, str], text: str) -> str:
        """What may be shown now: a secret or a private key written in several goes must not slip through between them."""
        text = self._held.pop(key, "") + text
        begins = _OPEN_KEY.search(text) or _KEY_BEGINS.search(text)
        whole, rest = (text[: begins.start()], text[begins.start() :]) if begins else (text, "")
        whole = self._redact(whole)
        kept = min(len(whole) - whole.rfind("\n") - 1, max(0, self._longest() - 1))
        if kept or rest:
            self._held[key] = whole[len(whole) - kept :] + rest
        return whole[: len(whole) - kept]

    def _release(self, message: str, parent: Any) -> None:  # noqa: ANN401
        for key in [each for each in self._held if each[0] == message]:
            content = {"name": key[1], "text": self._redact(self._held.pop(key))}
            self._keep(message, "stream", content)
            self._send(self._iopub, "stream", content, parent)

    def _of(self, message: str) -> Ran | None:
        return next((each for each in reversed(self._ran) if each.message == message), None)

    def _clear(self, message: str, *, wait: bool) -> None:
        ran = self._of(message)
        if ran is not None:
            ran.clear_first = True
            if not wait:
                self._clear_now(ran)

    def _clear_now(self, ran: Ran) -> None:
        if ran.clear_first:
            ran.outputs.clear()
            ran.clear_first, self._changed = False, True

    def _keep(self, message: str, kind: str, content: Json) -> None:
        shown = content.get("transient", {}).get("display_id")
        if shown:
            for each in (each for cell in self._ran for each in cell.outputs if each.get("_display") == shown):
                each.update(data=content["data"], metadata=content["metadata"])
                self._changed = True
        ran = self._of(message)
        if ran is None or kind == "update_display_data":
            return
        self._clear_now(ran)
        last = ran.outputs[-1] if ran.outputs else {}
        if kind == "stream" and last.get("output_type") == "stream" and last["name"] == content["name"]:
            last["text"] += content["text"]
        else:
            ran.outputs.append(output(kind, content) | ({"_display": shown} if shown else {}))
        self._changed = True

    def _keep_written(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            with self._guard:
                if self._changed:
                    self._write()

    def _write(self) -> None:
        """Writes the notebook as it stands; a failure is told once and does not break the cell."""
        if self._path is None:
            return
        self._changed = False
        text = json.dumps(executed(self._notebook, self._ran), indent=1, ensure_ascii=False)
        try:
            write_whole(self._path, text.encode(errors="backslashreplace"))
        except OSError as error:
            with contextlib.suppress(OSError):  # where this goes the disk may be full too
                if not self._in_trouble and sys.__stderr__:
                    print(f"the executed notebook cannot be written: {error}", file=sys.__stderr__, flush=True)
            self._in_trouble = True
        else:
            self._in_trouble = False


def _message_id(parent: Any) -> str:  # noqa: ANN401
    parent = parent or {}
    header = parent.get("header", parent) if isinstance(parent, Mapping) else {}
    return str(header.get("msg_id", ""))


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _kept(source: Path) -> Json:
    """The notebook as it is kept; an empty one where it cannot be read."""
    try:
        return as_kept(json.loads(source.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
