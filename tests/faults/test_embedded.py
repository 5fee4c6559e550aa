"""The part of the fault matrix that needs no root: a client that is killed or stopped at the points where it hurts most.

`./run faults` tries all faults at all points on real servers.
"""

import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from tests.embedded import EmbeddedHost
from tests.faults.matrix import Row, Trial, attempt

if TYPE_CHECKING:
    import subprocess

WINDOW_S = 3
POINTS = (
    "install:2:after",
    "install:3:before",
    "install:3:after",
    "install:5:before",
    "install:5:after",
    "confirm:1:before",
)
SIGNALS = {"killed": signal.SIGKILL, "interrupted": signal.SIGINT}
AT_ONCE = 4


def trial(name: str, point: str) -> Trial:
    """The client gets a signal at a point."""

    def begin(process: "subprocess.Popen[str]", _base: Path, _folder: str) -> None:
        process.send_signal(SIGNALS[name])

    frees = SIGNALS[name] is not signal.SIGKILL
    return Trial(name, point, begin, lambda *_: None, 0, {}, lambda: None, frees)


def test_a_client_that_ends_at_any_point_leaves_a_pair_that_serves(practice_host: Callable[..., EmbeddedHost]) -> None:
    """Files that match, the old or the new certificate served, nothing lost, and a record that says what was seen."""
    cases = [(name, point) for name in SIGNALS for point in POINTS]
    hosts = [practice_host() for _ in range(AT_ONCE)]

    def tried(index: int) -> list[Row]:
        return [attempt(hosts[index], trial(*case), WINDOW_S) for case in cases[index::AT_ONCE]]

    with ThreadPoolExecutor(AT_ONCE) as threads:
        rows = [row for found in threads.map(tried, range(AT_ONCE)) for row in found]
    assert len(rows) == len(cases)
    assert not [row for row in rows if row.faults]
