"""`./run faults`: the fault matrix on real servers, a row a fault and point; or clients killed at random on embedded ones.

Arguments are parts of fault names; without any, all faults are tried.
`--kills N [--seed S]` kills N clients at random moments of an install instead; the moments follow from the seed.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from runbook_lib.lab import PracticeServer
from runbook_lib.tables import table
from tests.embedded import EmbeddedHost
from tests.faults.faults import FAULTS, WINDOW_S, Fault, Scene
from tests.faults.matrix import Row, Trial, attempt, list_points
from tests.realserver.host import RealHost, missing

if TYPE_CHECKING:
    from subprocess import Popen

HOSTS = 3
KILLS_AT_ONCE, KILL_WINDOW_S, LONGEST_DELAY_S = 6, 6, 0.25


def trials(host: RealHost, fault: Fault, points: Sequence[str]) -> Iterator[Trial]:
    """The fault at each of its points on one server."""

    def scene(process: object, base: Path, folder: str) -> Scene:
        return Scene(host, process, base, folder)  # type: ignore[arg-type]

    for point in points:
        if not fault.points or point.startswith(fault.points):
            yield Trial(
                fault.name, point, lambda *given: fault.begin(scene(*given)), lambda *given: fault.end(scene(*given)),
                fault.lasts_s, dict(fault.values), lambda: fault.before(host), fault.frees_client, fault.foreign, fault.small_base,
            )  # fmt: skip


def main(wanted: Sequence[str]) -> int:
    """Runs the matrix; 0 when every row is as it has to be."""
    clock = [] if next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None) else ["libfaketime"]
    if lacking := [*missing(), *clock]:
        sys.stderr.write(f"the fault matrix needs a real server, and that needs {', '.join(lacking)}\n")
        return 3
    faults = [fault for fault in FAULTS if not wanted or any(word in fault.name for word in wanted)]
    begun = time.monotonic()
    idle: SimpleQueue[RealHost] = SimpleQueue()
    with ThreadPoolExecutor(HOSTS) as pool:
        hosts = list(pool.map(lambda _: RealHost.start(), range(HOSTS)))
        try:
            points = list_points(hosts[0], WINDOW_S)
            for host in hosts:
                idle.put(host)
            cases = [
                (fault, point)
                for fault in faults
                for point in points
                if not fault.points or point.startswith(fault.points)
            ]

            def tried(case: tuple[Fault, str]) -> Row:
                fault, point = case
                host = idle.get()
                try:
                    (trial,) = trials(host, fault, [point])
                    row = attempt(host, trial, fault.window_s)
                except Exception as error:  # noqa: BLE001 - a trial that breaks is a row like any other
                    row = Row(fault.name, point, "", 0, "", "", (f"{type(error).__name__}: {error}",))
                finally:
                    idle.put(host)
                sys.stderr.write(
                    f"{'ok  ' if not row.faults else 'FAIL'} {row.fault} at {row.point} {' '.join(row.faults)}\n"
                )
                return row

            rows = list(pool.map(tried, cases))
        finally:
            for host in hosts:
                host.close()
    sys.stdout.write(f"{shown(rows)!r}\n\n")
    bad = sum(bool(row.faults) for row in rows)
    sys.stdout.write(
        f"{len(rows)} faults at their points, {bad} not as they have to be, {time.monotonic() - begun:.0f} s\n"
    )
    return int(bad > 0)


def random_kills(number: int, seed: int) -> int:
    """Kills clients between and inside the commands of an install on embedded servers; 0 when none of them broke anything."""
    with ThreadPoolExecutor(KILLS_AT_ONCE) as pool:
        started = [
            PracticeServer(Path(tempfile.mkdtemp(prefix="apstra-practice-", dir="/tmp"))) for _ in range(KILLS_AT_ONCE)
        ]
        hosts: SimpleQueue[EmbeddedHost] = SimpleQueue()
        try:
            for server in started:
                server.start()
            servers = [EmbeddedHost(server) for server in started]
            points = [
                each
                for each in list_points(servers[0], KILL_WINDOW_S)
                if each.startswith(("compare", "install", "confirm"))
            ]
            for host in servers:
                hosts.put(host)

            def tried(index: int) -> Row:
                chance = random.Random(f"{seed}/{index}")
                point, delay = chance.choice(points), chance.uniform(0, LONGEST_DELAY_S)
                host = hosts.get()
                try:
                    row = attempt(host, random_kill(point, delay), KILL_WINDOW_S)
                finally:
                    hosts.put(host)
                sys.stderr.write(
                    f"{'ok  ' if not row.faults else 'FAIL'} {index} {row.point} {delay:.3f} {row.served} {row.outcome} {' '.join(row.faults)}\n"
                )
                return row

            rows = list(pool.map(tried, range(number)))
        finally:
            for server in started:
                server.close()
                shutil.rmtree(server.root, ignore_errors=True)
    bad = [row for row in rows if row.faults]
    counts = Counter(f"served {row.served}, record {row.outcome}" for row in rows)
    sys.stdout.write("".join(f"{count:5} {what}\n" for what, count in counts.most_common()))
    sys.stdout.write(f"{len(rows)} kills, seed {seed}: {len(bad)} broken\n")
    return int(bool(bad))


def random_kill(point: str, delay: float) -> Trial:
    """The client is let past a point and killed some time later."""

    def begin(process: "Popen[str]", _base: Path, _folder: str) -> None:
        if process.stdin:
            process.stdin.write("go\n")
            process.stdin.flush()
        time.sleep(delay)
        process.kill()

    return Trial("killed at random", point, begin, lambda *_: None, 0, {}, lambda: None, frees_client=False)


def shown(rows: Sequence[Row]) -> object:
    """The rows as a table."""
    columns = ("fault", "at", "served all along", "longest silence", "record", "next run says", "verdict")
    cells = (
        (
            row.fault,
            row.point,
            row.served,
            f"{row.silence_ms:.0f} ms",
            row.outcome,
            row.settled,
            "; ".join(row.faults) or "✔",
        )
        for row in rows
    )
    return table("the fault matrix", columns, cells)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="./run faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--kills", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="S")
    given = parser.parse_args()
    sys.exit(random_kills(given.kills, given.seed) if given.kills else main(given.words))
