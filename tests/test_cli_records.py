"""`runbook records` as an operator or an auditor types it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from runbook_lib.cli import main
from runbook_lib.models import Outcome
from runbook_lib.record.journal import NAME
from runbook_lib.record.listing import UNTOLD
from tests.record.records import BROKEN, as_nobody, chained, opened, readable, told

RUNBOOK = Path(sys.executable).with_name("runbook")
FIRST, SECOND, THIRD = "20260601T120000Z-000001", "20260615T120000Z-000002", "20260701T120000Z-000003"
BAD = "\x1b[31mred\x1b[0m\u202e=1+1<b>\n"


def runbook(*words: str, width: int = 130) -> Result:
    """Runs the command in this process."""
    return CliRunner(env={"COLUMNS": str(width)}).invoke(main, ["records", *words])


def record(folder: Path, change_id: str, host: str, outcome: str, ticket: str, **more: Any) -> None:  # noqa: ANN401 - any field
    """A record of one run, told at the moment that its id tells."""
    events = (
        {"event": "run", "notebook": "install", "host": host, "operator": "ada", "ticket": ticket, "apply": True, **more},
        {"event": "end", "outcome": outcome, "what": ""},
    )  # fmt: skip
    at = f"{change_id[:4]}-{change_id[4:6]}-{change_id[6:8]}T12:00:00.000000Z"
    (folder / change_id).mkdir(parents=True)
    lines = (json.dumps({"n": number, "at": at, **event}).encode() for number, event in enumerate(events, 1))
    (folder / change_id / NAME).write_bytes(chained(*lines))


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Three records of two servers, two weeks from one to the next, and one that cannot be read."""
    folder = tmp_path / "records"
    record(folder, FIRST, "apstra1.example.com", "done", "CHG-1")
    record(folder, SECOND, "apstra10.example.com", "rolled-back", "CHG-2")
    record(folder, THIRD, "apstra1.example.com", "failed", "CHG-3, INC-1")
    return folder


ASKED = {
    "": [FIRST, SECOND, THIRD],
    "--server apstra1.example.com": [FIRST, THIRD],
    "--server apstra1": [],
    "--outcome done": [FIRST],
    "--outcome failed --outcome rolled-back": [SECOND, THIRD],
    "--ticket chg-": [FIRST, SECOND, THIRD],
    "--ticket INC": [THIRD],
    "--since 2026-06-15": [SECOND, THIRD],
    "--until 2026-06-15": [FIRST, SECOND],
    "--since 2026-06-15T12:00 --until 2026-06-15T12:00": [SECOND],
    "--since 2026-06-15T12:00:01Z": [THIRD],
    "--since 2026-06-15T13:00+02:00 --until 2026-06-15T14:00+02:00": [SECOND],
    "--until 2026-06-15T11:59": [FIRST],
    "--server apstra1.example.com --outcome failed --ticket CHG --since 2026-06-30 --until 2026-07-31": [THIRD],
    "--server apstra1.example.com --outcome rolled-back": [],
}


@pytest.mark.parametrize(("asked", "found"), ASKED.items(), ids=ASKED)
def test_a_list_of_what_is_asked_for(records: Path, asked: str, found: list[str]) -> None:
    """All that is asked for is true of what is listed; nothing found is an empty list and no error; JSON holds the same."""
    words = ("list", "--records-dir", str(records), *asked.split())
    shown, data = runbook(*words), runbook(*words, "--json")
    assert (shown.exit_code, data.exit_code, shown.stderr, data.stderr) == (0, 0, "", "")
    title, heading, _, *rows = shown.stdout.splitlines()
    assert title == ("3 records" if len(found) == 3 else f"{len(found)} of 3 records")
    assert heading.split("  ")[0] == "change"
    assert [row.split()[0] for row in rows] == [each["change_id"] for each in json.loads(data.stdout)] == found


WRONG = {
    "--outcome splendid": ("--outcome", "'rolled-back'"),
    "--since yesterday": ("--since", "'yesterday' is no date and no time; write a UTC date such as 2026-11-24"),
    "--until 2026-02-30": ("--until", "'2026-02-30' is no date and no time; write"),
    "--until 0001-01-01T00:00+05:00": ("--until", "is no date and no time; write"),
    "--since 2026-06-02 --until 2026-06-01": ("--since", "it is later than --until; write the earlier of the two here"),
    "--records-dir /nonexistent": ("--records-dir", "/nonexistent is no folder that can be read"),
}


@pytest.mark.parametrize(("asked", "said"), WRONG.items(), ids=WRONG)
def test_what_cannot_be_asked(records: Path, asked: str, said: tuple[str, str]) -> None:
    """Exit status 2: the option, what was wrong with it, and what to write."""
    ended = runbook("list", "--records-dir", str(records), *asked.split())
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert all(each in " ".join(ended.stderr.split()) for each in said)


def test_every_word_of_a_list_can_be_asked_for(records: Path) -> None:
    """Each outcome, and each word for a record of which none is known."""
    for word in (*Outcome, *UNTOLD):
        assert runbook("list", "--records-dir", str(records), "--outcome", str(word)).exit_code == 0


def test_what_cannot_be_read_is_not_passed_over_in_silence(records: Path) -> None:
    """It may be the very record that is asked for: that there are such is said, and how they are listed."""
    (records / "20260620T120000Z-000004").mkdir()
    said = (
        f"1 that cannot be read or believed may belong here: see {' '.join(f'--outcome {each}' for each in UNTOLD)}\n"
    )
    words = ("list", "--records-dir", str(records))
    for asked in ("--server apstra1.example.com", "--ticket CHG", "--outcome done", "--ticket CHG --since 2026-06-20"):
        ended = runbook(*words, *asked.split())
        assert (ended.exit_code, ended.stderr) == (0, said)
        assert "000004" not in ended.stdout
    for asked in (
        "",
        "--since 2026-06-01",
        "--outcome broken",
        "--outcome unreadable",
        "--ticket CHG --until 2026-06-19",
    ):
        assert runbook(*words, *asked.split()).stderr == ""
    assert re.search(r"^20260620T120000Z-000004 +broken +2026-06-20 12:00$", runbook(*words).stdout, re.MULTILINE)


def test_a_list_obeys_nothing_that_it_shows(records: Path) -> None:
    """Foreign text in every field: no control character in the table, nothing but ASCII in JSON, the text itself unharmed in it."""
    record(records, "20260801T120000Z-000004", BAD, "done", BAD, operator=BAD, notebook=BAD)
    shown, data = (runbook("list", "--records-dir", str(records), *more).stdout for more in ((), ("--json",)))
    assert not set(shown) & set("\x1b\u202e")
    assert data.isascii()
    assert "\x1b" not in data
    found = json.loads(data)[-1]
    assert (found["server"], found["ticket"], found["operator"], found["runs"]) == (BAD, BAD, BAD, [BAD])


def test_the_json_of_a_list(records: Path) -> None:
    """Every field, by the name that scripts rely on."""
    assert json.loads(runbook("list", "--records-dir", str(records), "--json").stdout)[0] == {
        "change_id": FIRST, "server": "apstra1.example.com", "runs": ["install"], "started": "2026-06-01T12:00:00.000000Z",
        "last": "2026-06-01T12:00:00.000000Z", "outcome": "done", "ticket": "CHG-1", "operator": "ada",
        "sealed": "no", "approved": "",
    }  # fmt: skip


def test_a_list_of_the_second_kind(records: Path) -> None:
    """What the index gives is shown as what the journals give."""
    words = ("list", "--records-dir", str(records), "--json")
    once = runbook(*words).stdout
    assert runbook(*words).stdout == once


def test_two_records_side_by_side(tmp_path: Path) -> None:
    """By id or by folder: what differs is marked and comes first; JSON holds every row; the exit status says only that it was read."""
    told(tmp_path / FIRST)
    told(tmp_path / SECOND)
    made = opened(tmp_path, SECOND)
    made.journal.write("run", notebook="install", host="apstra", operator="eve", ticket="CHG-2", apply=True)
    made.journal.write("end", outcome="done", what="")
    made.journal.close()
    for journal in tmp_path.glob(f"*/{NAME}"):
        rewritten(journal)
    words = ("diff", FIRST, str(tmp_path / SECOND), "--records-dir", str(tmp_path))
    shown, data = runbook(*words, width=160), runbook(*words, "--json")
    assert (shown.exit_code, data.exit_code) == (0, 0), shown.output
    rows = json.loads(data.stdout)
    different = [row["field"] for row in rows if not row["same"]]
    assert {"outcome", "ticket", "operator", "runs"} <= set(different)
    title, heading, _, *lines = shown.stdout.splitlines()
    assert title == f"{len(different)} differences"
    assert heading.split() == ["field", FIRST, SECOND]
    marked = [line.startswith("≠") for line in lines if line[:1].strip() or line[3:4].strip()]
    assert marked == sorted(marked, reverse=True)
    assert sum(marked) == len(different)
    assert {"field": "ticket", "a": "CHG-1", "b": "CHG-2", "same": False} in rows


def rewritten(journal: Path) -> None:
    """The same with a plan and a certificate as a run writes them."""
    lines = [json.loads(each) for each in journal.read_text().splitlines()]
    for each in lines:
        if each["event"] == "plan":
            each |= {"name": "install", "way_back": "", "commands": []}
        if each["event"] == "certificate":
            each |= {"san": [], "issuer": "", "key": "", "not_before": "", "spki_sha256": "c" * 64}
    journal.write_text("".join(json.dumps(each) + "\n" for each in lines))


def test_a_fingerprint_is_shown_as_people_compare_it(tmp_path: Path) -> None:
    """In blocks in the table, as hex in JSON."""
    told(tmp_path / FIRST)
    rewritten(tmp_path / FIRST / NAME)
    words = ("diff", FIRST, FIRST, "--records-dir", str(tmp_path))
    assert "CCCC CCCC CCCC CCCC" in runbook(*words, width=160).stdout
    assert {"field": "after: public key", "a": "c" * 64, "b": "c" * 64, "same": True} in json.loads(
        runbook(*words, "--json").stdout
    )


def test_two_parts_of_one_change_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague went on with it on another machine: both folders have the change's id, and stand there by their paths."""
    for each in ("here", "there"):
        told(tmp_path / each / FIRST)
        rewritten(tmp_path / each / FIRST / NAME)
    monkeypatch.chdir(tmp_path / "here" / FIRST)
    shown = runbook("diff", ".", f"../../there/{FIRST}", width=160).stdout
    heading = "".join(shown.split("---")[0].split())
    assert f"here/{FIRST}" in heading
    assert f"there/{FIRST}" in heading


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_refused_by_its_name(tmp_path: Path, data: bytes | None) -> None:
    """Exit status 2, which of the two it is, and no stack trace; what can be shown of it alone is shown."""
    told(tmp_path / FIRST)
    rewritten(tmp_path / FIRST / NAME)
    (tmp_path / SECOND).mkdir()
    if data is not None:
        (tmp_path / SECOND / NAME).write_bytes(data)
    for words, hint in (((FIRST, SECOND), "B"), ((SECOND, FIRST), "A")):
        ended = runbook("diff", *words, "--records-dir", str(tmp_path))
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert f"Invalid value for {hint}: " in ended.stderr
        assert SECOND in ended.stderr
    assert runbook("show", SECOND, "--records-dir", str(tmp_path)).exit_code == (0 if data is not None else 2)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("command", ["show", "diff"])
def test_a_pipe_is_no_record(tmp_path: Path, command: str) -> None:
    """Nobody waits for who might write into it."""
    (tmp_path / FIRST).mkdir()
    os.mkfifo(tmp_path / FIRST / NAME)
    ended = runbook(command, *[FIRST] * (1 + (command == "diff")), "--records-dir", str(tmp_path))
    assert (ended.exit_code, "is no record" in ended.stderr) == (2, True)


@pytest.mark.parametrize("closed", [".", FIRST, f"{FIRST}/{NAME}"])
def test_what_is_closed_to_us_is_said_so(closed: str) -> None:
    """The folder of records, a record, a journal: exit status 2 and the reason, where it is asked for by name."""
    with readable(FIRST, SECOND) as folder:
        (folder / closed).chmod(0)
        with as_nobody():
            where = ("--records-dir", str(folder))
            ended = [runbook(*words, *where) for words in (("show", FIRST), ("diff", FIRST, SECOND), ("list",))]
        (folder / closed).chmod(0o700)
    *named, listed = ended
    assert {each.exit_code for each in named} == {2}
    assert all("cannot be read: Permission denied" in " ".join(each.stderr.split()) for each in named)
    assert listed.exit_code == (2 if closed == "." else 0)
    assert ("cannot be read: Permission denied" in " ".join(listed.stderr.split())) == (closed == ".")
    assert ("unreadable" in listed.stdout) == (closed != ".")


def test_a_list_in_the_terminal(records: Path) -> None:
    """The command itself, in a pipe of ASCII."""
    ended = subprocess.run(
        [RUNBOOK, "records", "list", "--records-dir", records, "--json"], capture_output=True, check=False, timeout=60,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert len(json.loads(ended.stdout)) == 3
