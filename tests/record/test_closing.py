"""The end of a run in its record: sealed where there is a key and nothing to hide, and told why where it is not."""

import json
import stat
from pathlib import Path

import pytest

from runbook_lib.record.closing import NO_KEY, mask_finds
from runbook_lib.record.journal import read
from runbook_lib.record.seal import described, sealed
from runbook_lib.record.verify import verify
from runbook_lib.secrets import Registry
from runbook_lib.sshsig import SigningKey, load_signing_key
from tests.record.sealing import SECRET, allowing, closed, run, sealed_record, signing_key


def proven(record: Path, key: SigningKey) -> bool:
    """Whether every check passes."""
    return all(each.verdict == "pass" for each in verify(record, allowed_signers=allowing(key)))


def told(record: Path, event: str) -> list[str]:
    """The texts of these events."""
    return [str(each["text"]) for each in read(record) if each["event"] == event]


def test_a_run_is_sealed(tmp_path: Path, key: SigningKey, registry: Registry) -> None:
    """The digest that is given is that of the seal, whose files are closed to others; the report names it."""
    record = run(tmp_path, 1)
    ended = closed(record, key, registry)
    assert ended.seal
    assert str(ended) == described(record.folder) == f"seals/0001.json sha256:{ended.seal.digest}"
    assert proven(record.folder, key)
    report = (record.folder / "report.html").read_text()
    assert "seals/0001.json" in report
    assert key.fingerprint in report
    modes = {stat.S_IMODE(each.stat().st_mode) for each in (record.folder / "seals").iterdir()}
    assert (stat.S_IMODE((record.folder / "seals").stat().st_mode), modes) == (0o700, {0o600})


def test_without_a_key_it_says_so(tmp_path: Path, registry: Registry) -> None:
    """Journal and report say that it is not sealed; it is searched all the same."""
    record = run(tmp_path, 1)
    assert closed(record, None, registry).why == NO_KEY
    assert told(record.folder, "unsealed") == [f"not sealed: {NO_KEY}"]
    assert told(record.folder, "gate") == ["secrets and private keys found in the record: none"]
    assert f"Not sealed: {NO_KEY}." in (record.folder / "report.html").read_text()
    assert described(record.folder) == "none"
    assert sealed(record.folder) == ()


def test_a_secret_keeps_it_from_being_sealed(tmp_path: Path, key: SigningKey, registry: Registry) -> None:
    """Named by file and cell in journal and report, and by nothing that helps to find it out."""
    record = run(tmp_path, 1, f"the password is {SECRET}")
    ended = closed(record, key, registry)
    where = "sudo_password in notebooks/20260601T120000Z-300_install_certificate.ipynb, cell 2"
    assert ended.why == f"the record holds {where}"
    assert told(record.folder, "unsealed") == [f"not sealed: {ended.why}"]
    assert where in (record.folder / "report.html").read_text()
    assert sealed(record.folder) == ()
    told_of_it = (record.folder / "journal.jsonl").read_text() + (record.folder / "report.html").read_text()
    assert SECRET not in told_of_it


def test_masked_it_can_be_sealed(tmp_path: Path, key: SigningKey, registry: Registry) -> None:
    """Each repair is journaled with the digests of before and after; the notebook is still one."""
    record = run(tmp_path, 1, f'"{SECRET}"')
    record.add_file("answer.txt", SECRET.encode() + b"\xff")
    mask_finds(record, registry)
    assert closed(record, key, registry).seal
    assert proven(record.folder, key)
    repairs = [each for each in read(record.folder) if each["event"] == "repair"]
    assert [each["file"] for each in repairs] == [
        "files/answer.txt",
        "notebooks/20260601T120000Z-300_install_certificate.ipynb",
    ]
    (notebook,) = (record.folder / "notebooks").iterdir()
    assert json.loads(notebook.read_bytes())["cells"][1]["outputs"][0]["text"] == '"[secret]"'
    assert (record.folder / "files/answer.txt").read_bytes() == b"[secret]\xff"


def test_a_secret_in_the_journal_cannot_be_masked(tmp_path: Path, key: SigningKey, registry: Registry) -> None:
    """Its lines carry one another's digests; the record stays unsealed."""
    record = run(tmp_path, 1)
    record.journal.write("note", text=SECRET)
    mask_finds(record, registry)
    assert "sudo_password in journal.jsonl, line" in closed(record, key, registry).why


def test_one_that_cannot_be_searched_for_is_named(tmp_path: Path, key: SigningKey) -> None:
    """`admin` for the user `admin`: sealed, readable, and the record says what was not looked for."""
    registry = Registry()
    registry.add("admin", name="sudo_password", public=["admin"])
    record = run(tmp_path, 1, "login as admin")
    assert closed(record, key, registry).seal
    (gate,) = (each for each in read(record.folder) if each["event"] == "gate")
    assert gate["unsearched"] == ["sudo_password"]
    assert "login as admin" in next((record.folder / "notebooks").iterdir()).read_text()


def test_a_key_that_does_not_sign(tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that does not hold it: the run has ended as it has, and the record says why it is not sealed."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "no agent"))
    record = run(tmp_path, 1)
    public = signing_key(tmp_path, "agent").path.with_suffix(".pub")
    (tmp_path / "agent").unlink()
    why = closed(record, load_signing_key(public), registry).why
    assert why.startswith("ssh-keygen did not sign: ")
    assert told(record.folder, "unsealed") == [f"not sealed: {why}"]
    assert not (record.folder / "seals").exists() or sealed(record.folder) == ()


def test_a_place_that_cannot_be_written(tmp_path: Path, key: SigningKey, registry: Registry) -> None:
    """The outcome is what it was; nothing half-made is left."""
    record = run(tmp_path, 1)
    (record.folder / "seals").write_text("no folder")
    assert closed(record, key, registry).seal is None
    assert described(record.folder) == "none"


def test_what_was_written_after_a_seal_has_none(tmp_path: Path, key: SigningKey) -> None:
    """The newest seal is named with what it does not cover."""
    record = sealed_record(tmp_path, key, runs=1)
    again = run(record.parent, 2)
    assert described(record) == "none over what was written after seals/0001.json"
    assert closed(again, key).seal
    assert described(record).startswith("seals/0002.json sha256:")
    (record / "seals/0002.json").write_text("{}")
    assert described(record) == "seals/0002.json cannot be read"
