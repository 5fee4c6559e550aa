"""The fields for the ticket: what they say follows from the journal of the last run alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.record.archive import open_record
from runbook_lib.record.journal import Journal
from runbook_lib.record.summary import fields

CHANGE = "20260601T120000Z-1a2b3c"
ARM = {"step": "install", "purpose": "arm the guard: the old pair comes back in 300 s unless confirmed"}
CONFIRM = {"step": "confirm", "purpose": "keep the new pair, disarm the guard"}
WAY_BACK = "ssh -t admin@apstra sudo sh /x/restore.sh"
BEFORE = {"role": "before", "common_name": "old", "not_after": "2026-06-30T12:00:00+00:00", "sha256": "ab" * 32}
AFTER = {"role": "after", "common_name": "new", "not_after": "2027-06-01T12:00:00+00:00", "sha256": "cd" * 32}


def begun(journal: Journal) -> None:
    """A run up to its plan."""
    journal.write("run", notebook="install", host="apstra", operator="ada", ticket="CHG-1", reason="", apply=True)
    journal.write("certificate", **BEFORE)
    journal.write("facts", hostname="aos-server", state="ready")
    journal.write("plan", name="install", sha256="f" * 64, way_back=WAY_BACK, commands=[])


def armed(journal: Journal) -> None:
    """A run whose guard is armed."""
    begun(journal)
    journal.write("intent", **ARM)
    journal.write("result", **ARM, status=0, duration_s=0.1)


def confirmed(journal: Journal) -> None:
    """A run that was killed when the confirm had come back well."""
    armed(journal)
    journal.write("probe", outage_ms=120.4, samples=9)
    journal.write("intent", **CONFIRM)
    journal.write("result", **CONFIRM, status=0, duration_s=0.1)


def done(journal: Journal) -> None:
    """A run to its end."""
    confirmed(journal)
    journal.write("certificate", **AFTER)
    journal.write("end", outcome="done", what="", todo="")


def rolled_back(journal: Journal) -> None:
    """A run whose rollback was measured, too."""
    armed(journal)
    journal.write("probe", outage_ms=100.0, samples=9)
    journal.write("probe", outage_ms=50.0, samples=9)
    journal.write("end", outcome="rolled-back", what="the old pair is serving again\nserver: apstra", todo="")


def refused(journal: Journal) -> None:
    """A run that stopped before anything, on a change that an earlier run installed."""
    done(journal)
    begun(journal)
    journal.write("end", outcome="refused", what="1 check failed", todo="")


NOT_TOUCHED = "none needed: this run did not touch the live pair"
CASES: dict[str, tuple[Callable[[Journal], None], dict[str, str]]] = {
    "done": (done, {"outcome": "done", "outage": "120 ms without an answer", "way back": WAY_BACK}),
    "confirmed, and killed": (confirmed, {"outcome": "done", "certificate after": "unknown"}),
    "killed while armed": (armed, {"outcome": "unknown", "certificate after": "unknown", "way back": WAY_BACK, "outage": "unknown: nginx was not asked all the while"}),
    "rolled back": (rolled_back, {"outcome": "rolled-back", "why": "the old pair is serving again", "certificate after": "unchanged", "outage": "150 ms without an answer"}),
    "refused": (refused, {"outcome": "refused", "certificate after": "unchanged", "way back": NOT_TOUCHED, "outage": "none"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_fields_follow_from_the_last_run(
    tmp_path: Path, case: tuple[Callable[[Journal], None], dict[str, str]]
) -> None:
    """What is not known is called so, and what another run did is not told of this one."""
    write, wanted = case
    record = open_record(tmp_path, CHANGE, str)
    write(record.journal)
    record.journal.close()
    found = fields(record.folder)
    assert found | wanted == found
    assert found["server"] == "apstra (aos-server)"
    assert found["certificate before"].startswith("old, until 2026-06-30 12:00 UTC\nABAB ABAB")
    assert (found["ticket"], found["reason"], found["change"]) == ("CHG-1", "none", CHANGE)


def test_a_record_of_a_run_that_did_not_get_far_has_fields_too(tmp_path: Path) -> None:
    """Even an empty one."""
    record = open_record(tmp_path, CHANGE, str)
    assert fields(record.folder)["outcome"] == "failed"
    record.journal.write("run", notebook="request", host="apstra", operator="ada")
    record.journal.close()
    assert fields(record.folder)["server"] == "apstra"


def test_the_plan_is_the_one_that_is_applied(tmp_path: Path) -> None:
    """Planned twice in one run, what is applied is the later plan, and its way back is the one that counts."""
    record = open_record(tmp_path, CHANGE, str)
    armed(record.journal)
    record.journal.write("plan", name="install", sha256="e" * 64, way_back="ssh other", commands=[])
    record.journal.close()
    found = fields(record.folder)
    assert (found["plan"], found["way back"]) == (f"sha256:{'e' * 64}", "ssh other")


@pytest.mark.parametrize(
    ("ended", "when"),
    [("2026-06-01T12:00:09.5Z", "2026-06-01 12:00:00 to 12:00:09 UTC"), ("2026-06-02T00:00:09Z", "2026-06-01 12:00:00 to 2026-06-02 00:00:09 UTC")],
)  # fmt: skip
def test_when_a_run_was(tmp_path: Path, ended: str, when: str) -> None:
    """The day is said once, and twice where the run went on past midnight."""
    run = {"event": "run", "at": "2026-06-01T12:00:00.123456Z"}
    assert fields(tmp_path, [run, {"event": "note", "at": ended}])["when"] == when
