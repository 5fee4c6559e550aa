"""What a seal proves: nothing of a record can be changed, added or taken away without its being named."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook_lib.models import Verdict
from runbook_lib.record.journal import NAME, Journal
from runbook_lib.record.seal import NAMESPACE
from runbook_lib.record.verify import Proof, proof_of, verify
from runbook_lib.sshsig import SigningKey
from tests.record.records import as_nobody
from tests.record.sealing import CHANGE, OPERATOR, allowing, closed, run, sealed_record, signing_key

SIGNED, FOLLOWS, ALTERED, ADDED, CHAIN = (
    "Is every seal signed by its operator?", "Do the seals follow one another?", "Is everything that was sealed as it was?",
    "Is there nothing that was not sealed?", "Do the journal's lines hang together?",
)  # fmt: skip


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    """The operator's key."""
    return signing_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Path:
    """A record with two seals, not to be changed."""
    return sealed_record(tmp_path_factory.mktemp("whole"), key)


@pytest.fixture
def record(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(whole, tmp_path / CHANGE))


def faults(record: Path, key: SigningKey, expect: str = "") -> dict[str, str]:
    """What did not pass, by its question."""
    checks = verify(record, allowed_signers=allowing(key), expect=expect)
    return {each.question: each.found for each in checks if each.verdict is not Verdict.PASS}


def proof(record: Path, key: SigningKey) -> tuple[Proof, str]:
    """What comes of it, and why."""
    return proof_of(verify(record, allowed_signers=allowing(key)))


def files(record: Path) -> list[Path]:
    """Every file of a record."""
    return sorted(each for each in record.rglob("*") if each.is_file())


def digest(path: Path) -> str:
    """Its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_untouched_record_is_proven(whole: Path, key: SigningKey, tmp_path: Path) -> None:
    """Where it lies and when its files were written makes no difference."""
    assert faults(whole, key) == {}
    elsewhere = Path(shutil.copytree(whole, tmp_path / "archive" / CHANGE, copy_function=shutil.copyfile))
    assert faults(elsewhere, key) == {}


def mutations(data: bytes) -> Iterator[bytes]:
    """Each single byte another one, at a hundred places; a line gone, two lines swapped, the tail cut, something more."""
    places = {*range(0, len(data), max(1, len(data) // 100)), *range(max(0, len(data) - 3), len(data))}
    yield from (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in sorted(places))
    lines = data.splitlines(keepends=True)
    yield from (b"".join(lines[:at] + lines[at + 1 :]) for at in range(len(lines)))
    yield from (
        b"".join([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]])
        for at in range(len(lines) - 1) if lines[at] != lines[at + 1]
    )  # fmt: skip
    yield from (data[: len(data) * part // 5] for part in range(5))
    yield from (data[:-1], data + b"\n", data + b"x", b"\n" + data, data.replace(b"\n", b"\r\n"))


def test_no_file_can_be_altered(record: Path, key: SigningKey) -> None:
    """Each file in every way, the journal, seals and signatures among them: found, and nothing crashes."""
    unnoticed = []
    for path in files(record):
        data = path.read_bytes()
        for number, altered in enumerate(mutations(data)):
            path.write_bytes(altered)
            if altered != data and not faults(record, key):
                unnoticed.append(f"{path.relative_to(record)} {number}")
        path.write_bytes(data)
    assert unnoticed == []
    assert faults(record, key) == {}


def test_no_file_can_be_taken_away_moved_or_added(record: Path, key: SigningKey) -> None:
    """Each one in turn; what happened is named."""
    for path in files(record):
        aside = path.with_name(f"{path.name}.moved")
        path.rename(aside)
        assert faults(record, key), f"{path} was renamed"
        aside.rename(record.parent / "aside")
        assert faults(record, key), f"{path} was removed"
        path.symlink_to(record.parent / "aside")
        assert faults(record, key), f"{path} is a link"
        path.unlink()
        (record.parent / "aside").rename(path)
        shutil.copy(path, path.with_name("another"))
        assert path.parent.joinpath("another").relative_to(record).name in str(faults(record, key))
        path.with_name("another").unlink()
    assert faults(record, key) == {}


def test_no_two_files_can_be_swapped(record: Path, key: SigningKey) -> None:
    """Every pair of files that are not the same."""
    for first in files(record):
        for second in (each for each in files(record) if each > first and digest(each) != digest(first)):
            one, other = first.read_bytes(), second.read_bytes()
            first.write_bytes(other)
            second.write_bytes(one)
            assert faults(record, key), f"{first} and {second} were swapped"
            first.write_bytes(one)
            second.write_bytes(other)


def test_what_happened_is_named(record: Path, key: SigningKey) -> None:
    """Each file by its name, the journal by its lines."""
    (record / "files/certificate-1.pem").write_text("another")
    (record / "files/certificate-2.pem").unlink()
    (record / "files/more.pem").write_text("x")
    lines = (record / NAME).read_bytes().splitlines(keepends=True)
    (record / NAME).write_bytes(b"".join(lines[:-4]))
    found = faults(record, key)
    assert found[ALTERED] == (
        f"files/certificate-1.pem: altered; journal.jsonl: cut off after line {len(lines) - 4} of {len(lines)}; files/certificate-2.pem: removed"
    )
    assert found[ADDED] == "files/more.pem: added"
    assert set(found) == {ALTERED, ADDED}


def test_a_folder_that_no_seal_knows_is_named(record: Path, key: SigningKey) -> None:
    """One in which nothing lies, at its end; one with a file in it by that file; one that cannot be looked into as such."""
    (record / "files" / "deep" / "deeper").mkdir(parents=True)
    (record / "more").mkdir()
    assert faults(record, key) == {ADDED: "files/deep/deeper: a folder, added; more: a folder, added"}
    (record / "more" / "x").touch()
    assert faults(record, key) == {ADDED: "files/deep/deeper: a folder, added; more/x: added"}


def test_a_folder_that_cannot_be_looked_into_is_named(record: Path, key: SigningKey) -> None:
    """What lay there is missed, and it is said why nothing is seen."""
    with tempfile.TemporaryDirectory() as open_to_all:
        Path(open_to_all).chmod(0o755)
        copy = Path(shutil.copytree(record, Path(open_to_all) / CHANGE))
        for each in (copy, *copy.rglob("*")):
            each.chmod(0o755 if each.is_dir() else 0o644)
        (copy / "files").chmod(0)
        with as_nobody():
            found = faults(copy, key)
        assert found[ADDED] == "files: a folder that cannot be read"
        assert "files/certificate-1.pem: removed" in found[ALTERED]
        (copy / "files").chmod(0o755)
        assert faults(copy, key) == {}


def test_lines_after_the_last_seal_are_named(record: Path, key: SigningKey) -> None:
    """What a killed run wrote is covered by no seal until the next one is made."""
    lines = (record / NAME).read_bytes().count(b"\n")
    journal = Journal(record, str)
    journal.write("note", text="after the seal")
    journal.write("note", text="and one more")
    journal.close()
    assert faults(record, key) == {ADDED: f"journal.jsonl: 2 lines after line {lines}"}
    again = run(record.parent, 3)
    assert closed(again, key).seal
    assert faults(record, key) == {}


def killed(record: Path) -> None:
    """What a run leaves that was killed in the middle of a line: more lines, a notebook, no report."""
    journal = Journal(record, str)
    journal.write("run", notebook="install", host="apstra", operator="ada")
    journal.close()
    (record / "notebooks/20260603T120000Z-300_install_certificate.ipynb").write_text("{}")
    (record / "report.html").unlink()
    with (record / NAME).open("ab") as file:
        file.write(b'{"n": 99, "at": "2026-06-0')


def test_what_a_killed_run_left_is_not_altered(record: Path, key: SigningKey, tmp_path: Path) -> None:
    """Nor is what a run without a key left, or a record that never had a seal: it says what to do, and nobody is suspected."""
    assert proof(record, key) == (Proof.PROVEN, "")
    lines = (record / NAME).read_bytes().count(b"\n")
    killed(record)
    said = f"notebooks/20260603T120000Z-300_install_certificate.ipynb: added; {NAME}: 2 lines after line {lines}; report.html: removed after that"
    assert proof(record, key) == (Proof.NOT_SEALED, said)
    closed(run(record.parent, 4), None)
    assert (proof(record, key)[0], "report.html: written anew" in proof(record, key)[1]) == (Proof.NOT_SEALED, True)
    unsealed = run(tmp_path / "unsealed", 1)
    closed(unsealed, None)
    assert proof(unsealed.folder, key) == (Proof.NOT_SEALED, "no seal")
    assert closed(run(record.parent, 5), key).seal
    assert proof(record, key) == (Proof.PROVEN, "")


@pytest.mark.parametrize(
    "name", ["report.html", "files/certificate-1.pem", NAME, "seals/0002.json", "seals/0002.json.sig"]
)
@pytest.mark.parametrize("then", [lambda _: None, killed])
def test_what_somebody_altered_is_altered(
    record: Path, key: SigningKey, name: str, then: Callable[[Path], None]
) -> None:
    """Whatever a killed run did to the record afterwards; the page alone is made anew by every run, so that no seal speaks of it then."""
    data = (record / name).read_bytes()
    then(record)
    data = (record / name).read_bytes() if name == NAME else data
    at = len(data) // 3
    (record / name).write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    expected = Proof.NOT_SEALED if name == "report.html" and then is killed else Proof.ALTERED
    assert proof(record, key)[0] == expected


def test_a_file_that_no_run_can_have_added_is_an_alteration(record: Path, key: SigningKey) -> None:
    """After the newest seal the journal has no line that a run wrote."""
    (record / "files/more.pem").write_text("x")
    assert proof(record, key) == (Proof.ALTERED, "files/more.pem: added")


def test_a_seal_by_another_is_not_proven_and_not_altered(record: Path, key: SigningKey, tmp_path: Path) -> None:
    """The bytes are as they were signed; whose key it was has to be asked."""
    found = proof(record, signing_key(tmp_path, "other"))
    assert (found[0], key.fingerprint in found[1]) == (Proof.NOT_PROVEN, True)
    assert proof_of(verify(record, allowed_signers=None))[0] == Proof.NOT_PROVEN


def test_a_newest_seal_that_was_taken_away_needs_its_digest_to_be_noticed(record: Path, key: SigningKey) -> None:
    """With the files that came with it gone, too, the record is whole as it was before; the digest in the ticket tells."""
    seal = record / "seals/0002.json"
    expect = digest(seal)
    assert faults(record, key, expect) == {}
    assert faults(record, key, digest(record / "seals/0001.json")) == {}
    lines = int(re.search(r'"lines": (\d+)', (record / "seals/0001.json").read_text())[1])  # type: ignore[index]
    (record / NAME).write_bytes(b"".join((record / NAME).read_bytes().splitlines(keepends=True)[:lines]))
    for each in (seal, Path(f"{seal}.sig"), record / "files/certificate-2.pem", *record.glob("notebooks/*0602*")):
        each.unlink()
    assert faults(record, key) == {ALTERED: "report.html: altered"}
    assert "it is not there" in faults(record, key, expect)["Is the seal there that was noted elsewhere?"]


def test_whose_key_it_was_is_told(record: Path, key: SigningKey, tmp_path: Path) -> None:
    """Another key, another name, another purpose, a seal of another record: none of them passes."""
    other = signing_key(tmp_path, "other")
    assert (
        f"is by {key.fingerprint}, which allowed_signers does not name for {OPERATOR}" in faults(record, other)[SIGNED]
    )
    checks = verify(record, allowed_signers=allowing(key, "eve@example.net"))
    assert [each.question for each in checks if each.verdict is not Verdict.PASS] == [SIGNED]
    checks = verify(record, allowed_signers=f'{OPERATOR} namespaces="git" {key.public}')
    assert [each.question for each in checks if each.verdict is not Verdict.PASS] == [SIGNED]
    seal = record / "seals/0002.json"
    Path(f"{seal}.sig").write_bytes(key.sign(seal.read_bytes(), "git"))
    assert "for another purpose" in faults(record, key)[SIGNED]
    moved = record.rename(record.with_name("20260601T120000Z-ffffff"))
    assert f"speaks of the record {CHANGE}" in faults(moved, key)[FOLLOWS]


def test_a_copy_may_bear_any_name_but_another_record_s(record: Path, key: SigningKey) -> None:
    """An auditor calls it by the ticket; under the id of another change it would be taken for that."""
    assert faults(record.rename(record.with_name("CHG-1")), key) == {}


def test_without_allowed_signers_nothing_is_said_of_signatures(record: Path) -> None:
    """A check that could not run is unknown, and a record is not proven by it."""
    (check,) = (each for each in verify(record, allowed_signers=None) if each.verdict is not Verdict.PASS)
    assert (check.question, check.verdict) == (SIGNED, Verdict.UNKNOWN)


def test_a_record_that_was_never_sealed(tmp_path: Path, key: SigningKey) -> None:
    """It says so, and everything in it is unproven."""
    record = run(tmp_path, 1)
    assert closed(record, None).why == "no signing_key was given"
    found = faults(record.folder, key)
    assert found["Is the record sealed?"] == "no seal"
    assert "files/certificate-1.pem: added" in found[ADDED]


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"{}", b"\xff", b'{"_type": 1}', b"null"])
def test_a_seal_that_is_none(record: Path, key: SigningKey, garbage: bytes) -> None:
    """Whatever stands there, it is told and not followed."""
    (record / "seals/0002.json").write_bytes(garbage)
    assert "seals/0002.json: is no seal any more" in faults(record, key)[ALTERED]


def test_stock_tools_alone(whole: Path, key: SigningKey, tmp_path: Path) -> None:
    """The commands of the README: ssh-keygen for the signature, sed and sha256sum for the files."""
    signers = tmp_path / "allowed_signers"
    signers.write_text(allowing(key))
    verified = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", OPERATOR, "-n", NAMESPACE, "-s", whole / "seals/0002.json.sig"],
        input=(whole / "seals/0002.json").read_bytes(), capture_output=True, check=False,
    )  # fmt: skip
    assert (verified.returncode, b"Good" in verified.stdout) == (0, True), verified.stderr
    script = r"""sed -n 's/.*"name": "\([^"]*\)".*"sha256": "\([0-9a-f]\{64\}\)".*/\2  \1/p' seals/0002.json | sha256sum --check --quiet"""
    assert subprocess.run(["sh", "-c", script], cwd=whole, check=False).returncode == 0
    spoilt = Path(shutil.copytree(whole, tmp_path / CHANGE))
    (spoilt / "files/certificate-1.pem").write_text("another")
    assert subprocess.run(["sh", "-c", script], cwd=spoilt, capture_output=True, check=False).returncode == 1
