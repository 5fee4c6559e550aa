"""The list of a folder's records: every one is a line, whoever wrote it, and what is asked for is what is shown."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runbook_lib.models import Outcome
from runbook_lib.record.archive import story
from runbook_lib.record.journal import NAME
from runbook_lib.record.listing import LARGEST, UNTOLD, RecordSummary, Wanted, list_records
from tests.record.records import BROKEN, CHANGE, RUN, as_nobody, chained, gone_on, line, opened, readable, told
from tests.record.sealing import closed, run, signing_key

OTHER = "20260603T120000Z-000000"


def test_the_list_tells_who_did_what_and_how_it_ended(tmp_path: Path) -> None:
    """Oldest first; all runs by name, the last one's operator, ticket and outcome."""
    later = "20260602T120000Z-ffffff"
    told(tmp_path / later)
    told(tmp_path / CHANGE)
    first, second = list_records(tmp_path)
    assert (first.change_id, second.change_id) == (CHANGE, later)
    assert (first.server, first.runs, first.outcome, first.ticket, first.operator) == (
        "apstra",
        ("request", "install"),
        "rolled-back",
        "CHG-1",
        "grace",
    )
    assert second.started < second.last < first.started < first.last


@pytest.mark.parametrize("later", ["nothing-to-do", "refused", "planned", "unusable"])
def test_a_run_that_changed_nothing_does_not_change_what_the_list_says(tmp_path: Path, later: str) -> None:
    """A change that was done stays done, under its own ticket, when somebody runs something on it again."""
    told(tmp_path / CHANGE)
    begun = {"notebook": "install", "host": "apstra", "operator": "eve", "ticket": "CHG-2", "apply": True}
    gone_on(tmp_path / CHANGE, ("run", begun), ("end", {"outcome": later}))
    (found,) = list_records(tmp_path)
    assert (found.outcome, found.ticket, found.operator) == ("rolled-back", "CHG-1", "grace")
    assert found.runs == ("request", "install", "install")


def test_a_ticket_is_named_once(tmp_path: Path) -> None:
    """A run that goes on with a change need not say the ticket again."""
    told(tmp_path / CHANGE)
    begun = {"notebook": "install", "host": "apstra", "operator": "eve", "ticket": "", "apply": True}
    gone_on(tmp_path / CHANGE, ("run", begun), ("end", {"outcome": "done"}))
    (found,) = list_records(tmp_path)
    assert (found.outcome, found.ticket, found.operator) == ("done", "CHG-1", "eve")


def test_changes_of_one_second_are_listed_as_they_were_begun(tmp_path: Path) -> None:
    """The six digits at an id's end are random; the first event tells which was first."""
    ids = [f"20260601T120000Z-{digits}" for digits in ("ffffff", "000000", "888888")]
    for each in ids:
        told(tmp_path / each)
    assert [each.change_id for each in list_records(tmp_path)] == ids


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_listed_as_broken(tmp_path: Path, data: bytes | None) -> None:
    """It stands in the list among the others, and its story is what can be told of it."""
    told(tmp_path / CHANGE)
    folder = tmp_path / OTHER
    folder.mkdir()
    if data is not None:
        (folder / NAME).write_bytes(data)
    whole, broken = list_records(tmp_path)
    assert whole.outcome == "rolled-back"
    assert (broken.change_id, broken.outcome, broken.runs) == (folder.name, "broken", ())
    assert all(isinstance(each, str) for each in sum(story(folder), ()))


def test_a_record_whose_lines_do_not_hang_together_is_damaged(tmp_path: Path) -> None:
    """Whatever it says of its outcome; a last line that a kill cut short is no damage, and neither is the line end that the next run gave it."""
    told(tmp_path / CHANGE)
    told(tmp_path / OTHER)
    path = tmp_path / CHANGE / NAME
    whole = path.read_bytes()
    for torn in (whole + b'{"n": 13, "at": "2026-0', whole):
        path.write_bytes(torn)
        assert [each.outcome for each in list_records(tmp_path)] == ["rolled-back", "rolled-back"]
    path.write_bytes(whole + b'{"n": 13')
    gone_on(tmp_path / CHANGE, ("note", {"text": "after it"}))
    assert list_records(tmp_path)[0].outcome == "rolled-back"
    path.write_bytes(whole.replace(b'"swap the pair", "status": 0', b'"swap the pair", "status": 1'))
    assert path.read_bytes() != whole
    damaged, other = list_records(tmp_path)
    assert (damaged.outcome, damaged.ticket, other.outcome) == ("damaged", "CHG-1", "rolled-back")


def test_the_list_says_what_is_sealed(tmp_path: Path) -> None:
    """Not at all, all of it, or what stood there before a later run; a run that was killed in the middle of a line is not sealed."""
    key = signing_key(tmp_path)
    record = run(tmp_path / "records", 1)
    record.journal.close()

    def sealed() -> str:
        return list_records(tmp_path / "records")[0].sealed

    assert sealed() == "no"
    closed(run(tmp_path / "records", 1), key)
    assert sealed() == "yes"
    with (record.folder / NAME).open("ab") as file:
        file.write(b"{")
    assert sealed() == "in part"
    closed(run(tmp_path / "records", 2), key)
    assert sealed() == "yes"
    (record.folder / "seals").rename(tmp_path / "elsewhere")
    (record.folder / "seals").symlink_to(tmp_path / "elsewhere")
    assert sealed() == "no"


def test_the_list_says_who_approved_the_newest_plan(tmp_path: Path) -> None:
    """A signature in this record, or one that a run found; an approval of an earlier plan is none of the newest."""
    told(tmp_path / CHANGE)

    def approved(*events: tuple[str, dict[str, object]]) -> str:
        gone_on(tmp_path / CHANGE, *events)
        return list_records(tmp_path)[0].approved

    plan = {"commands": [], "file": "plan.json"}
    assert approved(("approved", {"plan": "f" * 64, "approver": "eve"})) == ""
    assert (
        approved(("plan", {**plan, "sha256": "a" * 64}), ("approved", {"plan": "a" * 64, "approver": "bob"})) == "bob"
    )
    assert approved(("approval", {"by": ["bob (SHA256:x)", "carol (SHA256:y)"]})) == "bob, carol"
    assert approved(("plan", {**plan, "sha256": "b" * 64}), ("approval", {"by": []})) == ""


def test_what_is_no_record_is_not_listed(tmp_path: Path) -> None:
    """Files, folders of other names and an absent place are no error and no record."""
    (tmp_path / "notes").mkdir()
    (tmp_path / CHANGE).write_text("a file")
    (tmp_path / f"{CHANGE}.old").mkdir()
    assert list_records(tmp_path) == ()
    assert list_records(tmp_path / "absent") == ()


def test_a_killed_run_is_listed_as_unknown(tmp_path: Path) -> None:
    """Where a command had begun and nobody heard its result."""
    made = opened(tmp_path)
    made.journal.write("run", notebook="install", host="apstra")
    made.journal.write("intent", step="install", purpose="swap the pair")
    made.journal.close()
    (summary,) = list_records(tmp_path)
    assert summary.outcome == "unknown"


def a_pipe(path: Path) -> None:
    """Who opens it waits for a writer."""
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    """Not a file at all."""
    path.mkdir()


def a_link(path: Path) -> None:
    """A good journal, elsewhere."""
    told(path.parents[2] / "elsewhere" / CHANGE)
    path.symlink_to(path.parents[2] / "elsewhere" / CHANGE / NAME)


def a_link_to_itself(path: Path) -> None:
    """It leads nowhere."""
    path.symlink_to(path)


def a_device(path: Path) -> None:
    """It has no end."""
    path.symlink_to("/dev/zero")


@pytest.mark.timeout(10)
@pytest.mark.parametrize("place", [a_pipe, a_folder, a_link, a_link_to_itself, a_device])
def test_what_lies_in_place_of_a_journal_is_not_read(tmp_path: Path, place: Callable[[Path], None]) -> None:
    """Nothing is waited for, and no link leads out of the folder: the record is broken."""
    folder = tmp_path / "records" / CHANGE
    folder.mkdir(parents=True)
    place(folder / NAME)
    (found,) = list_records(folder.parent)
    assert (found.outcome, found.server) == ("broken", "")


def test_a_link_is_no_record(tmp_path: Path) -> None:
    """A folder of somebody else's that a link leads to is not this one's; the folder of records may be a link itself."""
    told(tmp_path / "elsewhere" / CHANGE)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / CHANGE).symlink_to(tmp_path / "elsewhere" / CHANGE)
    assert list_records(tmp_path / "records") == ()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert len(list_records(tmp_path / "link")) == 1


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of records that everyone can read, two records in it."""
    with readable(CHANGE, OTHER) as folder:
        yield folder


@pytest.mark.parametrize("closed", [".", NAME], ids=["folder", "journal"])
def test_a_record_that_is_closed_to_us_is_a_line(shared: Path, closed: str) -> None:
    """In a folder that many write each sees that there is a record, and when it was begun; the others are listed."""
    (shared / CHANGE / closed).chmod(0)
    with as_nobody():
        hidden, seen = list_records(shared)
    (shared / CHANGE / closed).chmod(0o700)
    assert (seen.outcome, seen.server) == ("rolled-back", "apstra")
    assert hidden == RecordSummary(CHANGE, "", (), "2026-06-01T12:00:00Z", "2026-06-01T12:00:00Z", "unreadable", "", "")


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """It is not the same as one without records."""
    tmp_path.chmod(0o311)
    with as_nobody(), pytest.raises(PermissionError):
        list_records(tmp_path)
    tmp_path.chmod(0o700)


MEMORY = """
import resource, sys
from pathlib import Path
from runbook_lib.record.listing import list_records
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))
print(*(each.outcome for each in list_records(Path(sys.argv[1]))))
"""


def test_a_huge_journal_is_not_taken_into_memory(tmp_path: Path) -> None:
    """A thousand million bytes are listed as too large, by a process that has half as much."""
    told(tmp_path / CHANGE)
    (tmp_path / OTHER).mkdir()
    with (tmp_path / OTHER / NAME).open("wb") as file:
        file.write(RUN)
        file.truncate(1 << 30)
    listed = subprocess.run([sys.executable, "-c", MEMORY, tmp_path], capture_output=True, text=True, check=False)
    assert listed.stdout == "rolled-back too-large\n", listed.stderr


def test_the_largest_journal_is_read(tmp_path: Path) -> None:
    """One byte more is too many."""
    (tmp_path / CHANGE).mkdir()
    around = chained(RUN, line(event="note", text=""), line(event="end", outcome="done"))
    for size, outcome in ((LARGEST, "done"), (LARGEST + 1, "too-large")):
        whole = chained(RUN, line(event="note", text="x" * (size - len(around))), line(event="end", outcome="done"))
        (tmp_path / CHANGE / NAME).write_bytes(whole)
        assert len(whole) == size
        assert [each.outcome for each in list_records(tmp_path)] == [outcome]


@pytest.mark.timeout(60)
def test_a_journal_of_line_ends_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Sixteen million lines that are no events are passed over, and not each looked into."""
    (tmp_path / CHANGE).mkdir()
    (tmp_path / CHANGE / NAME).write_bytes(b"\n" * LARGEST)
    assert [each.outcome for each in list_records(tmp_path)] == ["broken"]


def test_a_name_without_end_is_cut(tmp_path: Path) -> None:
    """What another wrote into a journal fills no screen and no index."""
    (tmp_path / CHANGE).mkdir()
    long = line(event="run", notebook="n" * 9999, host="h" * 9999, ticket="t" * 9999, operator="o" * 9999)
    (tmp_path / CHANGE / NAME).write_bytes(long + line(event="end", outcome="done"))
    (found,) = list_records(tmp_path)
    assert {len(each) for each in (found.server, found.ticket, found.operator, *found.runs)} == {200}


def test_many_records_take_no_descriptors(tmp_path: Path) -> None:
    """Each journal is closed before the next is opened."""
    for number in range(40):
        told(tmp_path / f"20260601T120000Z-{number:06x}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 20, hard))
    try:
        assert {each.outcome for each in list_records(tmp_path)} == {"rolled-back"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


RECORD = RecordSummary(
    CHANGE, "apstra1.example.com", ("request", "install"), "2026-06-01T12:00:00.000000Z", "2026-06-05T09:30:00.500000Z", "done", "CHG-12, INC-3", "ada"
)  # fmt: skip
TAKEN = {
    "nothing asked": Wanted(),
    "the server": Wanted(server="apstra1.example.com"),
    "the server in capitals": Wanted(server="APSTRA1.example.com"),
    "its outcome": Wanted(outcomes=("done",)),
    "one of two outcomes": Wanted(outcomes=("failed", "done")),
    "the ticket": Wanted(ticket="CHG-12"),
    "a part of the ticket": Wanted(ticket="inc-3"),
    "since it was begun": Wanted(since="2026-06-01T12:00:00.000000Z"),
    "since between begin and end": Wanted(since="2026-06-03T00:00:00.000000Z"),
    "since its last event": Wanted(since="2026-06-05T09:30:00.500000Z"),
    "until it was begun": Wanted(until="2026-06-01T12:00:00.000000Z"),
    "within": Wanted(since="2026-06-03T00:00:00.000000Z", until="2026-06-03T23:59:59.999999Z"),
    "everything": Wanted("apstra1.example.com", ("done",), "CHG", "2026-06-01T00:00:00.000000Z", "2026-06-30T00:00:00.000000Z"),
}  # fmt: skip
LEFT_OUT = {
    "a part of the server's name": Wanted(server="apstra1"),
    "another server": Wanted(server="apstra10.example.com"),
    "another outcome": Wanted(outcomes=("failed", "unknown")),
    "another ticket": Wanted(ticket="CHG-13"),
    "since after it": Wanted(since="2026-06-05T09:30:00.500001Z"),
    "until before it": Wanted(until="2026-06-01T11:59:59.999999Z"),
    "all but one": Wanted("apstra1.example.com", ("done",), "CHG-13"),
}


@pytest.mark.parametrize("wanted", TAKEN.values(), ids=TAKEN)
def test_what_is_asked_for_is_taken(wanted: Wanted) -> None:
    """A server by its whole name, a ticket by a part of it, a time in which anything of the change happened."""
    assert wanted.takes(RECORD)


@pytest.mark.parametrize("wanted", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_not_asked_for_is_left_out(wanted: Wanted) -> None:
    """One thing that is not so is enough."""
    assert not wanted.takes(RECORD)


def test_nothing_is_said_of_a_record_that_cannot_be_read() -> None:
    """It is no server's and has no ticket; of its time the id tells."""
    record = replace(RECORD, server="", ticket="", outcome="unreadable", last=RECORD.started)
    assert not Wanted(server="apstra1.example.com").takes(record)
    assert not Wanted(ticket="CHG").takes(record)
    assert Wanted(outcomes=("unreadable",), since="2026-06-01T12:00:00.000000Z").takes(record)
    assert set(UNTOLD).isdisjoint(Outcome)
