"""One fault at one point of one change, and what became of it."""

import asyncio
import contextlib
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runbook_lib.change import open_change
from runbook_lib.models import Outcome
from runbook_lib.record.archive import open_record
from runbook_lib.record.journal import outcome_of, read
from runbook_lib.secrets import redact
from runbook_lib.session import prepare
from tests.faults.client import Order
from tests.faults.prober import Prober, leaf_sha256
from tests.servers import FileState, ServerUnderTest, wait_until

PAIR = ("nginx.crt", "nginx.key")
CLIENT_LIMIT_S = 150
SETTLE_LIMIT_S = 150
REQUEST = {"common_name": "apstra.lab.example", "key_type": "ec-p256", "signer": "self-signed"}


@dataclass(frozen=True)
class Row:
    """What one fault at one point came to; `faults` is empty when all was as it has to be."""

    fault: str
    point: str
    served: str
    silence_ms: float
    outcome: str
    settled: str
    faults: tuple[str, ...]


class Client:
    """The process of `tests.faults.client`, and what it says."""

    def __init__(self, order: Order) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.client"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._tell(order.line())

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            self._said.put(line.strip())
        self._said.put("gone")

    def _tell(self, text: str) -> None:
        if self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(text)
                self.process.stdin.flush()

    def points(self) -> list[str]:
        """Every point it passed, once it has ended."""
        said = []
        while (line := self._said.get(timeout=CLIENT_LIMIT_S)) != "gone":
            said.append(line)
        return [line.removeprefix("passed ") for line in said if line.startswith("passed ")]

    def reached(self) -> bool:
        """Waits until it stands at its point; False when it ended before."""
        while True:
            line = self._said.get(timeout=CLIENT_LIMIT_S)
            if line.startswith("at "):
                return True
            if line == "gone":
                return False

    def free(self) -> None:
        """Lets it go on."""
        self._tell("go\n")

    def end(self) -> None:
        """Waits for its end, and makes one where none comes."""
        try:
            self.process.wait(CLIENT_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def order_for(server: ServerUnderTest, base: Path, window_s: int, point: str, values: Mapping[str, Any]) -> Order:
    """A request and an install, applied."""
    given = {**server.parameters, **REQUEST, "apply": True, **values}
    return Order(("request", "install"), given, str(base), window_s, point)


def list_points(server: ServerUnderTest, window_s: int) -> list[str]:
    """The points of an undisturbed change, in order."""
    base = Path(tempfile.mkdtemp(prefix="apstra-faults-"))
    try:
        server.reset()
        client = Client(order_for(server, base, window_s, "", {}))
        return client.points()
    finally:
        shutil.rmtree(base)


@dataclass(frozen=True)
class Trial:
    """One fault at one point, to be tried.

    Attributes:
        fault: Its name.
        point: Where the client stops.
        begin: Called there with the client's process, the record's folder and the change's folder on the server.
        end: Takes the fault away.
        lasts_s: Seconds after which that is done.
        values: Further parameters.
        before: Called before the change begins.
        frees_client: Whether the client is told to go on.
        foreign: Whether somebody else's pair has to stay.
        small_base: Whether the client's folder is a small file system.
    """

    fault: str
    point: str
    begin: Callable[["subprocess.Popen[str]", Path, str], object]
    end: Callable[["subprocess.Popen[str]", Path, str], object]
    lasts_s: float
    values: Mapping[str, Any]
    before: Callable[[], object]
    frees_client: bool
    foreign: bool = False
    small_base: bool = False


def attempt(server: ServerUnderTest, trial: Trial, window_s: int) -> Row:
    """Brings the fault about, waits until all has settled, and judges what is there."""
    base = Path(tempfile.mkdtemp(prefix="apstra-faults-"))
    if trial.small_base:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(base)], check=True)
    try:
        return _attempt(server, trial, window_s, base)
    finally:
        if trial.small_base:
            subprocess.run(["umount", str(base)], check=True)
        shutil.rmtree(base)


def _attempt(server: ServerUnderTest, trial: Trial, window_s: int, base: Path) -> Row:
    server.reset()
    trial.before()
    wait_until(lambda: bool(server.served()))
    given = server.parameters
    old, before = leaf_sha256(server.served()), server.snapshot()
    broken = not _matches(server)
    with Prober(given["host"], given["https_port"]) as prober:
        client = Client(order_for(server, base, window_s, trial.point, trial.values))
        if not client.reached():
            said = client.process.stderr.read() if client.process.stderr else ""
            return Row(trial.fault, trial.point, "", 0, "", "", (f"the point was not reached: {said}",))
        folder = _change_folder(server)
        trial.begin(client.process, base, folder)
        begun = time.monotonic()
        if trial.frees_client:
            client.free()
        ender = threading.Timer(
            max(0.0, trial.lasts_s - (time.monotonic() - begun)), trial.end, (client.process, base, folder)
        )
        ender.start()
        client.end()
        ender.join()
        faults = list(_settled(server, _change_folder(server), broken=broken))
        time.sleep(5 * 0.02)
    served, silence = prober.seen, prober.longest_silence_s()
    folder = _change_folder(server)
    new = _new_leaf(server, folder)
    names = {old: "old", new: "new"}
    record = next((base / "records").iterdir())
    outcome = outcome_of(read(record))
    settled = _next_look(server, base, record.name, trial.values)
    faults += _pair_faults(server, served[-1][1], names, broken=broken, foreign=trial.foreign)
    faults += _folder_faults(before, server.snapshot())
    faults += _lost(server, folder)
    seen = [names.get(leaf, "?") for _, leaf in served if leaf]
    faults += _told_wrong(outcome, settled, seen, foreign=trial.foreign, broken=broken)
    return Row(trial.fault, trial.point, prober.story(names), silence * 1000, outcome, settled, tuple(faults))


def _change_folder(server: ServerUnderTest) -> str:
    state_dir = server.parameters["state_dir"]
    listed = server.run(f"ls -d {state_dir}/changes/* 2>/dev/null").stdout.split()
    return listed[-1] if listed else f"{state_dir}/changes/none"


def _settled(server: ServerUnderTest, folder: str, *, broken: bool) -> Sequence[str]:
    """Waits until no guard is at work any more: nothing armed without a decision, and nobody in the script."""
    script = f"[ ! -e {folder}/armed ] || [ -e {folder}/decided ] && ! pgrep -f '{folder}/[g]uard.sh '"
    end = time.monotonic() + SETTLE_LIMIT_S
    while time.monotonic() < end:
        if server.run(script).returncode == 0:
            if broken:  # a pair that did not serve as found is put back all the same
                return ()
            try:
                server.served()
            except OSError:
                pass
            else:
                return ()
        time.sleep(0.2)
    return ("not settled",)


def _new_leaf(server: ServerUnderTest, folder: str) -> str:
    pem = server.run(f"openssl x509 -in {folder}/nginx.crt 2>/dev/null").stdout
    return leaf_sha256(pem) if pem else "none"


def _matches(server: ServerUnderTest) -> bool:
    conf_dir = server.parameters["conf_dir"]
    script = (
        f'cd {conf_dir}; [ "$(openssl pkey -in nginx.key -pubout)" = "$(openssl x509 -in nginx.crt -noout -pubkey)" ]'
    )
    return server.run(script).returncode == 0


def _pair_faults(
    server: ServerUnderTest, last: str, names: Mapping[str, str], *, broken: bool, foreign: bool
) -> list[str]:
    faults = []
    live = server.run(f"openssl x509 -in {server.parameters['conf_dir']}/nginx.crt").stdout
    if not broken and not _matches(server):
        faults.append("the live files do not match")
    if broken and not last:
        return faults
    if leaf_sha256(live) != last:
        faults.append("what is served is not the live file")
    if not foreign and last not in names:
        faults.append("neither the old nor the new certificate is served")
    return faults


def _folder_faults(before: Mapping[str, FileState], after: Mapping[str, FileState]) -> list[str]:
    odd = [name for name in before.keys() | after.keys() if name not in PAIR and before.get(name) != after.get(name)]
    kept = [
        name
        for name in PAIR
        if name in after and (after[name].mode, after[name].owner) != (before[name].mode, before[name].owner)
    ]
    return [f"{name} in conf_dir changed" for name in sorted(odd)] + [
        f"mode or owner of {name} changed" for name in kept
    ]


def _lost(server: ServerUnderTest, folder: str) -> list[str]:
    """A backup that was proven is whole, and the key of a certificate that was staged is there."""
    whole = server.run(
        f"cd {folder} 2>/dev/null || exit 0; [ ! -d backup ] || (cd backup && sha256sum --check --status SHA256SUMS)"
    )
    key = server.run(f"cd {folder} 2>/dev/null || exit 0; [ ! -e nginx.csr ] || [ -s nginx.key ]")
    return ["the backup is not whole"] * (whole.returncode != 0) + ["the key is lost"] * (key.returncode != 0)


def _told_wrong(outcome: Outcome, settled: str, served: Sequence[str], *, foreign: bool, broken: bool) -> list[str]:
    """Whether the record says what the prober saw."""
    last = served[-1] if served else "-"
    right = {
        Outcome.DONE: last == "new",
        Outcome.ROLLED_BACK: last == "old" or foreign,
        Outcome.REFUSED: "new" not in served or foreign,
        Outcome.FAILED: "new" not in served,
    }.get(outcome, outcome is Outcome.UNKNOWN)
    wrong = [] if right else [f"the record says {outcome}, served was {last}"]
    if (settled == "done") != (last == "new") and not foreign and not broken:
        wrong.append(f"the next run says {settled}, served was {last}")
    return wrong


def _next_look(server: ServerUnderTest, base: Path, change_id: str, values: Mapping[str, Any]) -> str:
    """What the next run finds, without applying anything."""

    async def looked() -> str:
        given = {**order_for(server, base, 30, "", values).values, "apply": False, "change_id": change_id}
        prepared = prepare("install", given, base, None)
        change = await open_change(prepared, lambda each: open_record(base / "looked", each, redact))
        try:
            return change.state
        finally:
            await change.close()

    try:
        return asyncio.run(looked())
    except Exception as error:  # noqa: BLE001 - whatever it says goes into the row
        return str(error).splitlines()[0]


def as_json(row: Row) -> str:
    """A row as a line for a file."""
    return json.dumps(replace(row, faults=row.faults).__dict__)
