"""The commands of steps 1 to 4 on a real shell, over a real folder: what they leave behind, and what they refuse."""

import stat
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from runbook_lib.models import ChangeFolder, Command, Facts, Verdict
from runbook_lib.server.changes import change_folder, pair
from runbook_lib.steps import backup, compare, csr, folder, key, stage
from tests.pki.authority import Issued, ec_key, issue
from tests.steps.facts import CHANGE, OLD, a_server, key_pem, parameters

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="the server's commands need GNU tools")


class Server:
    """Folders such as a server has them, below a folder of the test."""

    def __init__(self, root: Path) -> None:
        self.conf_dir, self.state_dir = root / "etc" / "aos" / "nginx.conf.d", root / "var" / "state"
        self.conf_dir.mkdir(parents=True)
        self.state_dir.parent.mkdir()
        (self.conf_dir / "nginx.crt").write_bytes(OLD.pem)
        (self.conf_dir / "nginx.key").write_bytes(key_pem(OLD))
        (self.conf_dir / "nginx.key").chmod(0o600)
        (self.conf_dir.parent / "other.conf").write_text("x")
        # The schema refuses a state_dir in /tmp, where tests live.
        self.parameters = parameters().model_copy(
            update={"conf_dir": str(self.conf_dir), "state_dir": str(self.state_dir)}
        )
        self.folder = self.state_dir / "changes" / CHANGE

    def run(self, *commands: Command) -> int:
        """Runs commands until one fails; its exit status."""
        for each in commands:
            line = ["sh", "-c", f"umask 077\n{each.script}"]
            ended = subprocess.run(line, input=each.stdin, text=True, capture_output=True, check=False)
            if ended.returncode:
                return ended.returncode
        return 0

    def facts(self) -> Facts:
        """Facts of this change and the live pair, read by the commands that read them on a server."""
        change, live = (
            fact.process(subprocess.run(["sh", "-c", fact.command.script], text=True, capture_output=True, check=True).stdout)
            for fact in (change_folder(str(self.state_dir), ChangeFolder(CHANGE)), pair(str(self.conf_dir)))
        )  # fmt: skip
        assert isinstance(change, ChangeFolder)
        return replace(a_server(self.parameters, live=live), changes=(change,))

    def open(self) -> None:
        """Opens the change."""
        assert self.run(*folder.plan(self.facts(), self.parameters, CHANGE, kind="replace", supersedes=())) == 0

    def listing(self) -> set[str]:
        """Everything below conf_dir's parent."""
        return {str(each.relative_to(self.conf_dir.parent)) for each in self.conf_dir.parent.rglob("*")}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server with nothing of ours on it."""
    return Server(tmp_path)


def modes(place: Path) -> dict[str, str]:
    """The mode of everything in a folder."""
    return {str(each.relative_to(place)): f"{stat.S_IMODE(each.stat().st_mode):o}" for each in place.rglob("*")}


def test_a_request_from_beginning_to_end(server: Server) -> None:
    """Each step leaves what its own checks and the next step look for; a second run has nothing to do; conf_dir is untouched."""
    before, given = server.listing(), server.parameters
    server.open()
    assert server.run(*backup.plan(server.facts(), given, CHANGE)) == 0
    assert server.run(*key.plan(server.facts(), given, CHANGE)) == 0
    assert server.run(*csr.plan(server.facts(), given, CHANGE)) == 0
    assert server.run(*stage.plan(given, CHANGE, signed(server))) == 0
    facts = server.facts()
    steps = (*backup.checks(facts, CHANGE), *key.checks(facts, given, CHANGE), *csr.checks(facts, given, CHANGE))
    assert {each.verdict for each in steps} == {Verdict.PASS}
    rows = compare.digests(facts, CHANGE)
    assert [row.file for row in rows] == ["nginx.key", "nginx.csr", "nginx.crt"]
    assert {row.server for row in rows} == {row.here for row in rows}
    assert len({row.here for row in rows}) == 1
    assert (backup.plan(facts, given, CHANGE), key.plan(facts, given, CHANGE), csr.plan(facts, given, CHANGE)) == ((), (), ())  # fmt: skip
    assert server.listing() == before
    found = modes(server.folder)
    assert found.pop("backup") == "700"
    assert set(found.values()) == {"600"}
    assert set(found) == {
        "change.json", "nginx.key", "nginx.csr", "nginx.crt", "backup/aos.tar", "backup/nginx.crt", "backup/nginx.key", "backup/SHA256SUMS",
    }  # fmt: skip
    assert {f"{stat.S_IMODE(each.stat().st_mode):o}" for each in (server.state_dir, server.folder.parent, server.folder)} == {"700"}  # fmt: skip


def signed(server: Server) -> str:
    """A certificate over the staged key."""
    pem = subprocess.run(
        ["openssl", "req", "-x509", "-in", "nginx.csr", "-key", "nginx.key", "-days", "9"],
        cwd=server.folder, text=True, capture_output=True, check=True,
    )  # fmt: skip
    return pem.stdout


def test_the_backup_holds_the_whole_folder(server: Server) -> None:
    """All of /etc/aos, with the pair beside it, and sums that prove both."""
    server.open()
    assert server.run(*backup.plan(server.facts(), server.parameters, CHANGE)) == 0
    with tarfile.open(server.folder / "backup" / "aos.tar") as archive:
        assert set(archive.getnames()) == {"aos"} | {f"aos/{each}" for each in server.listing()}
    assert (server.folder / "backup" / "nginx.key").read_bytes() == key_pem(OLD)
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=server.folder / "backup", check=True, capture_output=True)  # fmt: skip


def test_a_backup_is_never_written_over(server: Server) -> None:
    """Run once more, the command fails and the first backup stays byte for byte."""
    server.open()
    (command,) = backup.plan(server.facts(), server.parameters, CHANGE)
    assert server.run(command) == 0
    first = {each.name: each.read_bytes() for each in (server.folder / "backup").iterdir()}
    other: Issued = issue(key=ec_key())
    (server.conf_dir / "nginx.crt").write_bytes(other.pem)
    (server.conf_dir / "nginx.key").write_bytes(key_pem(other))
    assert server.run(command) != 0
    assert {each.name: each.read_bytes() for each in (server.folder / "backup").iterdir()} == first


def test_a_backup_that_was_cut_short_counts_for_nothing(server: Server) -> None:
    """What an attempt left behind is no backup to the facts, and the next attempt is whole."""
    server.open()
    (server.folder / "backup.new").mkdir()
    (server.folder / "backup.new" / "aos.tar").write_text("half")
    (command,) = backup.plan(server.facts(), server.parameters, CHANGE)
    assert server.run(command) == 0
    assert backup.checks(server.facts(), CHANGE)[0].verdict is Verdict.PASS
    assert not (server.folder / "backup.new").exists()


@pytest.mark.parametrize("gone", ["nginx.crt", "nginx.key"])
def test_no_backup_of_half_a_pair(server: Server, gone: str) -> None:
    """Where a file of the pair is missing the step fails and leaves no backup."""
    server.open()
    (command,) = backup.plan(server.facts(), server.parameters, CHANGE)
    (server.conf_dir / gone).unlink()
    assert server.run(command) != 0
    assert not (server.folder / "backup").exists()


def test_a_change_is_opened_once(server: Server) -> None:
    """Two runs with one id: the second fails and leaves the first one's request as it is."""
    server.open()
    first = (server.folder / "change.json").read_bytes()
    assert server.run(*folder.plan(server.facts(), server.parameters, CHANGE, kind="restore", supersedes=())) != 0
    assert (server.folder / "change.json").read_bytes() == first


@pytest.mark.parametrize(("file", "closed"), {"": True, "armed": False, "decided": False}.items())
def test_only_an_open_change_is_superseded(server: Server, file: str, *, closed: bool) -> None:
    """One that is armed or decided is left alone, and no new change is opened over it."""
    old = server.folder.with_name("20260101T000000Z-aaaaaa")
    old.mkdir(parents=True)
    if file:
        (old / file).write_text("confirmed\n")
    ended = server.run(*folder.plan(server.facts(), server.parameters, CHANGE, kind="replace", supersedes=(old.name,)))
    assert (ended == 0) is closed
    assert server.folder.exists() is closed
    assert ((old / "decided").exists() and (old / "decided").read_text() == "superseded\n") is closed
    assert not (old / ".decided").exists()


def test_a_recorded_pair_is_staged_with_its_own_mode(server: Server) -> None:
    """Whatever the recorded files' modes are, the staged ones are closed to others."""
    server.open()
    for name in ("nginx.key", "nginx.crt"):
        (server.conf_dir / name).chmod(0o644)
    assert server.run(*stage.plan_recorded(server.parameters, CHANGE, str(server.conf_dir))) == 0
    assert modes(server.folder) == {"change.json": "600", "nginx.key": "600", "nginx.crt": "600"}
    assert (server.folder / "nginx.key").read_bytes() == key_pem(OLD)
