"""How long a replacement takes us, as a ratio to others, on one real server; and a list of records: `./run bench`, in one run.

| ours | theirs | target |
| --- | --- | --- |
| the conductor without notebooks | one shell script through one ssh connection | at most 1.6 |
| `runbook replace`, both notebooks | an Ansible playbook | at most 0.8 |
| `runbook records list`, 10,000 records, with its index | the same, reading every journal | at most 0.1 |

What is fair in a replacement: both sides do the same work for an ec-p256 key and a self-signed certificate, on the same server, put
back to its first state before each replacement; the script holds the rehearsal, too, and has no guard. The script's side is an
OpenSSH client, which starts, logs in and pays for sudo as ours does. The conductor is judged in a Python that has loaded its
libraries, as it is when one process goes through many servers; the row below shows it as a process of its own, with the half second
that Python takes to start, and is not judged. `runbook replace` and Ansible are both fresh processes; Ansible's side has pipelining,
a kept connection, no gathering of facts, and bytecode.

What is fair in a list: both are fresh processes that show the same table. The journals are as long as that of a real replacement,
and lie in the machine's memory for both.

The two of a pair run one after the other, in turns the one and the other first; a ratio is taken within each pair, so that what
else this machine does meanwhile weighs on both. The first pair is not counted. Judged is the median ratio, never a time.

Exit status: 0 every target is met; 1 one is missed; 2 unusable arguments; 77 something could not be measured here.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ansible_home import AnsibleHome, NoAnsible
from archive import RECORDS, Archive
from contenders import Site

from runbook_lib.tables import table
from tests.realserver.host import RealHost, missing

MISSED, UNMEASURED = 1, 77
COLUMNS = ("measured", "min", "median", "max", "target")


@dataclass(frozen=True)
class Pairing:
    """Two contenders, and the ratio of ours to theirs that must not be exceeded; None: only to be seen."""

    ours: str
    theirs: str
    run_ours: Callable[[], None]
    run_theirs: Callable[[], None]
    target: float | None


@dataclass(frozen=True)
class Measured:
    """The seconds of both contenders, round by round."""

    pairing: Pairing
    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours to theirs in each round."""
        return tuple(our / their for our, their in zip(self.ours, self.theirs, strict=True))

    @property
    def missed(self) -> bool:
        """Whether the median ratio is above the target."""
        return self.pairing.target is not None and statistics.median(self.ratios) > self.pairing.target


def seconds(contender: Callable[[], None]) -> float:
    """How long a contender takes."""
    begun = time.perf_counter()
    contender()
    return time.perf_counter() - begun


def measure(seconds: Callable[[Callable[[], None]], float], pairing: Pairing, rounds: int) -> Measured:
    """Runs both in turns, one round more than is counted; `seconds` runs one."""
    ours, theirs = [], []
    for number in range(rounds + 1):
        if number % 2:
            theirs.append(seconds(pairing.run_theirs))
        ours.append(seconds(pairing.run_ours))
        if not number % 2:
            theirs.append(seconds(pairing.run_theirs))
    return Measured(pairing, tuple(ours[1:]), tuple(theirs[1:]))


def pairings(site: Site, only: str) -> tuple[list[Pairing], list[str]]:
    """What is measured, and what could not be, each with the reason."""
    script = partial(Pairing, theirs="shell script", run_theirs=site.shell_script)
    found, lacking = [], []
    if only in {"", "script"}:
        found = [
            script(ours="conductor", run_ours=site.conductor, target=1.6),
            script(ours="conductor, with Python's start", run_ours=site.conductor_as_process, target=None),
        ]
    if only in {"", "ansible"}:
        try:
            home = AnsibleHome.ready()
            found.append(Pairing("runbook replace", "Ansible", site.notebooks, lambda: site.ansible(home), 0.8))
        except NoAnsible as error:
            lacking.append(f"Ansible cannot be had: {error}")
    return found, lacking


def replacements(only: str, rounds: int) -> tuple[list[Measured], list[str]]:
    """Measures on a real server, and tells what could not be measured."""
    if absent := missing():
        return [], [f"a real server needs {', '.join(absent)}"]
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
        host = RealHost.start()
        try:
            site = Site(host, Path(folder))
            wanted, lacking = pairings(site, only)
            return [measure(site.seconds, each, rounds) for each in wanted], lacking
        finally:
            host.close()


def lists(rounds: int) -> Measured:
    """Measures a list of many records."""
    with tempfile.TemporaryDirectory(prefix="runbook-bench-") as folder:
        archive = Archive(Path(folder))
        pairing = Pairing(f"records list of {RECORDS}", "reading them all", archive.listed, archive.all_read, 0.1)
        return measure(seconds, pairing, rounds)


def shown(results: Sequence[Measured], rounds: int) -> str:
    """Ratios first; the seconds below each are for the eye."""
    rows: list[tuple[str, ...]] = []
    for each in results:
        pair, target = each.pairing, f"at most {each.pairing.target}" if each.pairing.target else "not judged"
        rows.append((f"{pair.ours} / {pair.theirs}", *_spread(each.ratios, ""), target))
        rows.append((f"  {pair.ours}", *_spread(each.ours, " s"), ""))
        rows.append((f"  {pair.theirs}", *_spread(each.theirs, " s"), ""))
    return repr(table(f"pairs counted: {rounds}", COLUMNS, rows))


def _spread(values: Sequence[float], unit: str) -> tuple[str, ...]:
    return tuple(f"{each:.2f}{unit}" for each in (min(values), statistics.median(values), max(values)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./run bench", description="Ratios of our times to others', on one real server, and of a list of records."
    )
    parser.add_argument("--rounds", type=int, default=5, help="pairs that are counted (default: 5)")
    parser.add_argument(
        "--only", choices=("script", "ansible", "records"), default="", help="measure one of the three alone"
    )
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds: at least 1")
    return given


def main() -> int:
    """Measures, prints, judges; returns the exit status."""
    given = _arguments()
    results, lacking = replacements(given.only, given.rounds) if given.only != "records" else ([], [])
    if given.only in {"", "records"}:
        results.append(lists(given.rounds))
    if results:
        print(shown(results, given.rounds), flush=True)
    for each in results:
        if each.missed:
            print(
                f"missed: {each.pairing.ours} takes {statistics.median(each.ratios):.2f} of the time of {each.pairing.theirs},"
                f" at most {each.pairing.target} is the target",
                file=sys.stderr,
            )
    for why in lacking:
        print(f"not measured: {why}", file=sys.stderr)
    return MISSED if any(each.missed for each in results) else UNMEASURED if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
