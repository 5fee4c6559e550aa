"""`./run faults`: the fault matrix on real servers, a row a fault and point.

Arguments are parts of fault names; without any, all faults are tried.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from runbook_lib.tables import table
from tests.faults.faults import FAULTS, WINDOW_S, Fault, Scene
from tests.faults.matrix import Row, Trial, attempt, list_points
from tests.realserver.host import RealHost, missing

HOSTS = 3


def trials(host: RealHost, fault: Fault, points: Sequence[str]) -> Iterator[Trial]:
    """The fault at each of its points on one server."""

    def scene(process: object, base: Path, folder: str) -> Scene:
        return Scene(host, process, base, folder)  # type: ignore[arg-type]

    for point in points:
        if not fault.points or point.startswith(fault.points):
            yield Trial(
                fault.name, point, lambda *given: fault.begin(scene(*given)), lambda *given: fault.end(scene(*given)),
                fault.lasts_s, dict(fault.values), lambda: fault.before(host), fault.frees_client, fault.foreign,
            )  # fmt: skip


def main(wanted: Sequence[str]) -> int:
    """Runs the matrix; 0 when every row is as it has to be."""
    if lacking := missing():
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
                    row = attempt(host, trial, WINDOW_S)
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
    sys.exit(main(sys.argv[1:]))
