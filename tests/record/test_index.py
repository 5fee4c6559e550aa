"""The index of a list: it saves reading, can be thrown away, and nothing that lies in its place is believed over a journal."""

import json
import os
import resource
import stat
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import pytest

from runbook_lib import models
from runbook_lib.files import read_regular
from runbook_lib.record import index, journal, listing
from runbook_lib.record.index import Index
from runbook_lib.record.journal import NAME
from runbook_lib.record.listing import RecordSummary, list_records
from runbook_lib.record.seal import PREDICATE, STATEMENT
from tests.record.records import NOBODY, gone_on, told

IDS = tuple(f"2026060{number}T120000Z-000000" for number in (1, 2, 3))
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away")


class Lists:
    """Three records, a cache folder, and the names of the journals that a list has read."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.records, self.cache = folder / "records", folder / "cache"
        self.read: list[str] = []
        self._patch = patch
        patch.setenv("XDG_CACHE_HOME", str(self.cache))
        patch.setattr(listing, "read_regular", self._reads)
        for each in IDS:
            told(self.records / each)

    def _reads(self, path: Path, most: int) -> bytes:
        self.read.append(path.parent.name)
        return read_regular(path, most)

    def __call__(self) -> tuple[RecordSummary, ...]:
        """What is listed; `read` is then what was read for it."""
        self.read.clear()
        return list_records(self.records)

    def wait(self) -> None:
        """An hour goes by."""
        later = time.time_ns() + 3600 * 10**9
        self._patch.setattr(time, "time_ns", lambda: later)

    @property
    def file(self) -> Path:
        """The index."""
        (found,) = (self.cache / index.FOLDER).glob("records-*.json")
        return found


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lists:
    """Three records that were written long ago, listed once."""
    made = Lists(tmp_path, monkeypatch)
    made.wait()
    made()
    return made


def test_the_second_list_reads_nothing(lists: Lists) -> None:
    """It says the same, every field of it, and writes nothing."""
    assert sorted(lists.read) == list(IDS)
    before = lists()
    assert lists.read == []
    lists.file.unlink()
    assert lists() == before
    assert sorted(lists.read) == list(IDS)
    written = lists.file.stat()
    lists()
    assert lists.file.stat() == written


def test_a_seal_that_was_made_or_taken_away_is_seen(lists: Lists) -> None:
    """The journal is the same before and after: the folder of seals is a part of what an entry counts for."""
    seals = lists.records / IDS[1] / "seals"
    assert [each.sealed for each in lists()] == ["no", "no", "no"]
    seals.mkdir()
    lines = (lists.records / IDS[1] / NAME).read_bytes().count(b"\n")
    said = {"_type": STATEMENT, "predicateType": PREDICATE, "predicate": {"journal": {"lines": lines}}}
    (seals / "0001.json").write_text(json.dumps(said))
    assert [each.sealed for each in lists()] == ["no", "yes", "no"]
    assert lists.read == [IDS[1]]
    assert [each.sealed for each in lists()] == ["no", "yes", "no"]
    assert lists.read == []
    (seals / "0001.json").unlink()
    assert [each.sealed for each in lists()] == ["no", "no", "no"]


def test_the_index_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folder 0700, file 0600, whatever the umask is."""
    before = os.umask(0)
    try:
        lists = Lists(tmp_path, monkeypatch)
        lists.wait()
        lists()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (lists.cache, lists.file.parent, lists.file)]
    assert modes == [0o700, 0o700, 0o600]


def mixed(file: Path) -> None:
    """What two writers leave that both write into one file: the shorter over the longer."""
    seal, body = file.read_bytes().split(b"\n")
    whole = json.loads(body)
    del whole[IDS[0]]
    shorter = json.dumps(whole).encode()
    file.write_bytes(seal + b"\n" + shorter + body[len(shorter) :])


def forged(file: Path) -> None:
    """Well-formed, with another outcome."""
    file.write_bytes(file.read_bytes().replace(b'"rolled-back"', b'"done"'))


def other_version(file: Path) -> None:
    """As another version of the code would write it, that derives other things."""
    entries = Index(file.parents[2] / "records", b"other")
    for name, (seen, derived) in json.loads(file.read_bytes().split(b"\n")[1]).items():
        entries.note(name, tuple(seen), [each if isinstance(each, list) else "other" for each in derived])
    entries.save()


def huge(file: Path) -> None:
    """More than anyone's."""
    os.truncate(file, index.LARGEST + 1)


def linked(file: Path) -> None:
    """The same, through a link."""
    file.rename(file.with_suffix(".moved"))
    file.symlink_to(file.with_suffix(".moved"))


def a_pipe(file: Path) -> None:
    """Who opens it waits for a writer."""
    file.unlink()
    os.mkfifo(file)


def given_away(file: Path) -> None:
    """Another user's."""
    os.chown(file, NOBODY, -1)


POISON: dict[str, Callable[[Path], object]] = {
    "nothing": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(os.urandom(5000)),
    "a number": lambda file: file.write_bytes(b"1"),
    "brackets": lambda file: file.write_bytes(b"[" * 100_000),
    "cut": lambda file: os.truncate(file, file.stat().st_size - 1),
    "more": lambda file: file.write_bytes(file.read_bytes() + b"\n"),
    "mixed": mixed,
    "forged": forged,
    "other version": other_version,
    "huge": huge,
    "linked": linked,
    "a pipe": a_pipe,
    "open to all": lambda file: file.chmod(0o666),
    "open to a group": lambda file: file.chmod(0o620),
}  # fmt: skip


def test_a_huge_index_is_not_taken_into_memory(lists: Lists) -> None:
    """It is told by its size."""
    huge(lists.file)
    tracemalloc.start()
    try:
        lists()
        assert tracemalloc.get_traced_memory()[1] < index.LARGEST / 4
    finally:
        tracemalloc.stop()


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "poison", [*POISON.values(), pytest.param(given_away, marks=AS_ROOT)], ids=[*POISON, "given away"]
)
def test_what_lies_in_its_place_is_not_believed(lists: Lists, poison: Callable[[Path], object]) -> None:
    """Every journal is read again, the list says the same, and a good index lies there for the next."""
    before = lists()
    poison(lists.file)
    assert lists() == before
    assert sorted(lists.read) == list(IDS)
    assert (stat.S_IMODE(lists.file.lstat().st_mode), lists.file.is_symlink()) == (0o600, False)
    assert lists() == before
    assert lists.read == []


def no_cache(lists: Lists, _patch: pytest.MonkeyPatch) -> None:
    """A file lies in place of the cache folder."""
    lists.cache.rename(lists.cache.with_name("moved"))
    lists.cache.write_text("a file")


def open_folder(lists: Lists, _patch: pytest.MonkeyPatch) -> None:
    """Everyone can write into our folder."""
    lists.file.parent.chmod(0o777)


def linked_folder(lists: Lists, _patch: pytest.MonkeyPatch) -> None:
    """Our folder is somewhere else."""
    folder = lists.file.parent
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder.with_name("moved"))


def foreign_folder(lists: Lists, _patch: pytest.MonkeyPatch) -> None:
    """Our folder is another user's."""
    os.chown(lists.file.parent, NOBODY, -1)


def foreign_home(lists: Lists, patch: pytest.MonkeyPatch) -> None:
    """As sudo may leave it: root, with somebody's HOME, in which no cache folder is yet."""
    home = lists.records.parent / "home"
    home.mkdir()
    os.chown(home, NOBODY, -1)
    patch.delenv("XDG_CACHE_HOME")
    patch.setenv("HOME", str(home))


def no_home(_lists: Lists, patch: pytest.MonkeyPatch) -> None:
    """Nobody's home, as a service's user may have it."""
    patch.setenv("XDG_CACHE_HOME", "relative")
    patch.setenv("HOME", "/nonexistent")


NO_PLACE = (no_cache, open_folder, linked_folder, no_home, pytest.param(foreign_folder, marks=AS_ROOT), pytest.param(foreign_home, marks=AS_ROOT))  # fmt: skip


@pytest.mark.parametrize("spoil", NO_PLACE)
def test_without_a_place_of_ones_own_everything_is_read(
    lists: Lists, spoil: Callable[[Lists, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No error, and nothing is written where another could write or where it is not ours."""
    before = lists()
    spoil(lists, monkeypatch)
    everything = {each for each in tmp_path.rglob("*") if not each.is_relative_to(lists.records)}
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert lists() == before
        assert sorted(lists.read) == list(IDS)
    assert {each for each in tmp_path.rglob("*") if not each.is_relative_to(lists.records)} == everything


def test_the_home_folder_has_a_cache_too(lists: Lists, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where XDG_CACHE_HOME is not set, or is no path from the root."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    lists()
    assert len(list((tmp_path / ".cache" / index.FOLDER).iterdir())) == 1


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may be longer than a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_an_index_that_cannot_be_written_is_none(lists: Lists) -> None:
    """The list says what it says, and no half of an index is left."""
    lists.file.unlink()
    with full_disk():
        listed = lists()
    assert [each.outcome for each in listed] == ["rolled-back"] * 3
    assert list(lists.cache.rglob("*.*")) == []


def test_a_journal_that_goes_on_is_read_again(lists: Lists) -> None:
    """The outcome of a run that ends between two lists is seen, and the others are not read for it."""
    run = {"notebook": "install", "host": "apstra", "operator": "eve", "ticket": "CHG-2", "apply": True}
    gone_on(lists.records / IDS[1], ("run", run), ("intent", {"step": "install", "purpose": "arm the guard"}))
    assert [each.outcome for each in lists()] == ["rolled-back", "unknown", "rolled-back"]
    assert lists.read == [IDS[1]]
    gone_on(lists.records / IDS[1], ("end", {"outcome": "done"}))
    assert [each.outcome for each in lists()] == ["rolled-back", "done", "rolled-back"]
    assert lists.read == [IDS[1]]
    lists()
    assert lists.read == []


def replaced(path: Path, old: bytes, new: bytes, *, in_place: bool) -> None:
    """Writes other bytes of the same number, and sets the time back to what it was."""
    before, data = path.stat(), path.read_bytes().replace(old, new)
    if not in_place:
        path.rename(path.with_name("old"))
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_journal_of_the_same_length_and_time_is_another(lists: Lists, *, in_place: bool) -> None:
    """Who writes a journal anew and sets its time back does not get the old line shown for it."""
    time.sleep(0.02)  # longer than a tick of the file system's clock
    replaced(lists.records / IDS[1] / NAME, b"rolled-back", b"no-outcome!", in_place=in_place)
    assert [each.outcome for each in lists()] == ["rolled-back", "broken", "rolled-back"]


def test_a_journal_that_was_written_just_now_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be written again within a tick of the clock, look the same, and say another thing."""
    lists = Lists(tmp_path, monkeypatch)
    words = [b"rolled-back", b"no-outcome!"]
    for number in range(30):
        assert {each.outcome for each in lists()} == {("rolled-back", "broken")[number % 2]}
        for each in IDS:
            replaced(lists.records / each / NAME, words[number % 2], words[1 - number % 2], in_place=True)
    before = lists()
    lists.wait()
    assert lists() == before
    assert sorted(lists.read) == list(IDS)
    lists()
    assert lists.read == []


def test_what_was_deleted_is_forgotten(lists: Lists) -> None:
    """The index holds what there is; a new record under an old name is read."""
    folder = lists.records / IDS[1]
    folder.rename(lists.records / "moved")
    assert [each.change_id for each in lists()] == [IDS[0], IDS[2]]
    assert IDS[1].encode() not in lists.file.read_bytes()
    told(folder)
    assert [each.change_id for each in lists()] == list(IDS)
    assert lists.read == [IDS[1]]


def test_each_folder_has_its_own(lists: Lists, tmp_path: Path) -> None:
    """The same names in two folders are not taken for one another, whichever way a folder is named."""
    told(tmp_path / "others" / IDS[0])
    list_records(tmp_path / "others")
    assert len(list(lists.cache.rglob("records-*.json"))) == 2
    (tmp_path / "link").symlink_to(lists.records)
    lists.read.clear()
    assert len(list_records(tmp_path / "link")) == 3
    assert lists.read == []


@pytest.mark.parametrize("module", [listing, journal, models], ids=lambda module: module.__name__)
def test_another_version_of_the_code_reads_again(
    lists: Lists, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What decides what a journal says decides whose index it is."""
    monkeypatch.setattr(module, "__file__", __file__)
    lists()
    assert sorted(lists.read) == list(IDS)


def _lists_often(records: Path, seed: int) -> set[tuple[str, ...]]:
    """Lists again and again, throws the index away now and then, and adds records of its own in between."""
    said = set()
    for number in range(25):
        if number % 5 == seed:
            for each in Path(os.environ["XDG_CACHE_HOME"]).rglob("records-*.json"):
                each.unlink(missing_ok=True)
        if number % 3 == 0:
            told(records / f"20270101T120000Z-{seed:03x}{number:03x}")
        said.add(tuple(each.outcome for each in list_records(records) if each.change_id in IDS))
    return said


def test_many_write_it_at_once(lists: Lists) -> None:
    """Whoever lists while others list, write records and throw the index away is told the truth, and what is left is good or not believed."""
    with ProcessPoolExecutor(
        4, get_context("spawn")
    ) as workers:  # a fork of this process would bring its threads' locks along
        said = set().union(*workers.map(_lists_often, [lists.records] * 4, range(4)))
    assert said == {("rolled-back",) * 3}
    truth = lists()
    lists.file.unlink()
    assert lists() == truth
    assert len(truth) == len(IDS) + 4 * 9
