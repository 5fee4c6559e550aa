"""The archive: folders closed to others, files never written over, and something to say of every event, broken ones too."""

import datetime as dt
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.errors import Refused
from runbook_lib.models import Outcome
from runbook_lib.record.archive import Record, contents, story
from runbook_lib.record.journal import NAME, JournalUnusable, read
from tests.record.records import CHANGE, line, opened, told


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    """An open record in a folder that there was not."""
    made = opened(tmp_path / "deep" / "records")
    yield made
    made.journal.close()


def modes(folder: Path) -> dict[str, str]:
    """Octal mode of everything in a record."""
    return {
        str(each.relative_to(folder)): f"{stat.S_IMODE(each.lstat().st_mode):04o}"
        for each in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_record_is_closed_to_others(tmp_path: Path, umask: int) -> None:
    """Folders 0700, files 0600, whatever the umask is."""
    before = os.umask(umask)
    try:
        made = opened(tmp_path / "records")
        made.add_file("nginx.csr", b"x")
    finally:
        os.umask(before)
    made.journal.close()
    assert modes(made.folder) == {".": "0700", "notebooks": "0700", "files": "0700", "files/nginx.csr": "0600", NAME: "0600"}  # fmt: skip


NAMES = {
    "nginx.csr": ["nginx.csr", "nginx-2.csr", "nginx-3.csr"],
    "plan": ["plan", "plan-2", "plan-3"],
    "certificate-before.pem": ["certificate-before.pem", "certificate-before-2.pem", "certificate-before-3.pem"],
    "a.tar.gz": ["a.tar.gz", "a.tar-2.gz", "a.tar-3.gz"],
}


@pytest.mark.parametrize(("name", "names"), NAMES.items())
def test_a_file_is_never_written_over(record: Record, name: str, names: list[str]) -> None:
    """Other bytes get a number, the same bytes are kept once; each file is told of once in the journal."""
    paths = [record.add_file(name, data) for data in (b"1", b"2", b"1", b"3", b"2")]
    assert [path.name for path in paths] == [names[0], names[1], names[0], names[2], names[1]]
    assert [(record.folder / "files" / each).read_bytes() for each in names] == [b"1", b"2", b"3"]
    told = [(event["name"], event["bytes"]) for event in read(record.folder) if event["event"] == "file"]
    assert told == [(each, 1) for each in names]
    assert sorted(each.name for each in (record.folder / "files").iterdir()) == sorted(names)


def test_a_file_cut_short_by_a_crash_is_none(record: Record) -> None:
    """What an earlier attempt left beside it is written anew, and no link there is followed."""
    aside = record.folder / "files" / ".nginx.csr.new"
    aside.write_bytes(b"half of something longer")
    record.add_file("nginx.csr", b"whole")
    assert (record.folder / "files" / "nginx.csr").read_bytes() == b"whole"
    assert not aside.exists()
    target = record.folder / "target"
    (record.folder / "files" / ".more.new").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        record.add_file("more", b"x")
    assert not target.exists()


def test_where_the_notebook_of_a_run_goes(record: Record) -> None:
    """By the time the run began, so that runs lie in their order and none takes another's place."""
    started = dt.datetime(2026, 6, 1, 12, 0, 5, tzinfo=dt.UTC)
    path = record.notebook_path(started, "300_install_certificate")
    assert path == record.folder / "notebooks" / "20260601T120005Z-300_install_certificate.ipynb"


def test_a_record_is_gone_on_with(record: Record) -> None:
    """A later run finds the files and the journal of the earlier one; two at once are refused."""
    record.add_file("nginx.csr", b"x")
    with pytest.raises(JournalUnusable, match="another run writes"):
        opened(record.folder.parent)
    record.journal.close()
    again = opened(record.folder.parent)
    again.add_file("nginx.csr", b"x")
    assert len(read(record.folder)) == 1
    again.journal.close()


@pytest.mark.parametrize(
    "change_id", ["", "new", "..", "../x", "20260601T120000Z-1A2B3C", f"{CHANGE}/x", f"{CHANGE}\n", f"/{CHANGE}"]
)
def test_only_a_change_id_names_a_record(tmp_path: Path, change_id: str) -> None:
    """Text from a server or a parameter is never a path."""
    with pytest.raises(Refused, match="is no change id"):
        opened(tmp_path / "records", change_id)
    assert not (tmp_path / "records").exists()


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A file where the folder should be: the reason and the parameter are named."""
    (tmp_path / "records").write_text("a file")
    with pytest.raises(Refused, match="no record can be kept") as caught:
        opened(tmp_path / "records")
    assert caught.value.outcome is Outcome.REFUSED
    assert "records_dir" in caught.value.todo
    assert caught.value.why


def test_the_story_is_a_line_an_event(tmp_path: Path) -> None:
    """Every kind of event in words; nothing of it is a Python value."""
    told(tmp_path / CHANGE)
    lines = list(story(tmp_path / CHANGE))
    assert all(len(at) == 19 and "T" not in at for at, _, _ in lines)
    assert [(kind, what) for _, kind, what in lines] == [
        ("run", "request on apstra, apply False, operator ada, ticket none"),
        ("end", "planned"),
        ("run", "install on apstra, apply True, operator grace, ticket CHG-1"),
        ("checks", "check: checks: 2 pass, 1 warn; warn: Is it so? warn"),
        ("plan", f"plan of 2 commands, sha256:{'f' * 64}"),
        ("intent", "install: swap the pair"),
        ("result", "install: swap the pair: exit status 0, 34 ms"),
        ("certificate", "after: apstra, until 2027-06-01, sha256 ab"),
        ("probe", "outage unknown in 7 probes"),
        ("note", "a note"),
        ("file", "nginx.csr, 5 bytes"),
        ("end", "rolled-back: the old pair is serving"),
    ]


@pytest.mark.parametrize("kind", ["run", "checks", "plan", "intent", "result", "certificate", "probe", "file", "end"])
def test_an_event_without_its_fields_is_told_as_such(tmp_path: Path, kind: str) -> None:
    """One event that cannot be told does not end the story."""
    (tmp_path / NAME).write_bytes(line(event=kind) + line(event="note", text="after it"))
    assert [what for _, _, what in story(tmp_path)] == ["no event as this version writes it", "after it"]


LITTLE = {
    "a step without checks": (line(event="checks", step="back up", checks=[]), "back up: checks: none"),
    "facts": (line(event="facts", hostname="aos-server", state="ready", os="x"), "aos-server as found; state of the change: ready"),
    "a kind not known here": (line(event="weather", n=3, prev="ab", sky="grey", wind={"knots": 7}), 'sky: grey; wind: {"knots": 7}'),
}  # fmt: skip


@pytest.mark.parametrize(("event", "what"), LITTLE.values(), ids=LITTLE)
def test_every_event_has_something_to_tell(tmp_path: Path, event: bytes, what: str) -> None:
    """Also one of which there is little, and one of a kind that a later version writes: that one field by field."""
    (tmp_path / NAME).write_bytes(event)
    assert [told for _, _, told in story(tmp_path)] == [what]


def test_the_contents_are_every_file_with_its_size(record: Record) -> None:
    """By path within the record."""
    record.add_file("nginx.csr", b"12345")
    size = (record.folder / NAME).stat().st_size
    assert contents(record.folder) == ("files/nginx.csr  5 bytes", f"{NAME}  {size} bytes")
