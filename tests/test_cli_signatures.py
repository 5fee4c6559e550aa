"""`runbook verify`, `seal` and `approve`: what is typed, what is answered, and the exit status."""

import getpass
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from runbook_lib.cli import main
from runbook_lib.record.journal import read
from runbook_lib.record.seal import digests, sealed
from runbook_lib.secrets import REGISTRY
from runbook_lib.sshsig import SigningKey
from tests.change.operator import Operator
from tests.embedded import EmbeddedHost
from tests.record.sealing import CHANGE, OPERATOR, SECRET, allowing, closed, run, sealed_record, signing_key


def typed(*words: str | Path, answer: str = "") -> Result:
    """`runbook` with these words."""
    return CliRunner().invoke(main, [str(each) for each in words], input=answer)


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """The operator's key, and beside it a file that allows it."""
    made = signing_key(tmp_path)
    (tmp_path / "allowed").write_text(allowing(made))
    return made


@pytest.fixture
def parameters(tmp_path: Path, key: SigningKey) -> Iterator[Path]:
    """The parameters of a run with a secret, which seals."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o600)
    given = {
        "host": "192.0.2.1",
        "operator": OPERATOR,
        "signing_key": str(key.path),
        "sudo_password": f"file:{tmp_path}/secret",
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(given))
    yield tmp_path / "p.yaml"
    REGISTRY.clear()


def test_a_proven_record(tmp_path: Path, key: SigningKey) -> None:
    """By its folder, or by its id in a records folder; with a digest of one of its seals, as a person copies it."""
    record = sealed_record(tmp_path, key)
    signers = ("--allowed-signers", tmp_path / "allowed")
    ended = typed("verify", record, *signers, "--expect", f"SHA256:{digests(record)[0].upper()}")
    assert (ended.exit_code, "seal 1 of 2" in ended.output) == (0, True), ended.output
    assert "What this cannot prove" in ended.output
    assert ended.output.splitlines()[-1] == "proven"
    assert typed("verify", CHANGE, "--records-dir", record.parent, *signers).exit_code == 0


def test_one_that_is_not(tmp_path: Path, key: SigningKey) -> None:
    """Altered, or of a signer who is not allowed, or without allowed signers at all: exit status 1, and why."""
    record = sealed_record(tmp_path, key)
    ended = typed("verify", record)
    assert (ended.exit_code, "? unknown" in ended.output) == (1, True)
    assert ended.output.splitlines()[-1].startswith("not proven: not looked at")
    (record / "files/certificate-1.pem").write_text("another")
    ended = typed("verify", record, "--allowed-signers", tmp_path / "allowed")
    assert (ended.exit_code, "altered" in ended.output) == (1, True), ended.output
    assert ended.output.splitlines()[-1].startswith("ALTERED: files/certificate-1.pem: altered, keep the record")


def test_one_that_was_never_sealed(tmp_path: Path, key: SigningKey) -> None:
    """The last line says that nobody altered it, and by which command it is sealed; the exit status is that of every record that is not proven."""
    record = run(tmp_path / "records", 1)
    closed(record, None)
    ended = typed("verify", record.folder, "--allowed-signers", key.path.with_name("allowed"))
    assert (ended.exit_code, ended.output.splitlines()[-1]) == (1, "not sealed yet: no seal, run runbook seal")
    assert "ALTERED" not in ended.output


def test_a_page_that_was_altered_is_not_printed(
    tmp_path: Path, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seal is named, and there is no PDF; a page that was never sealed is printed, and that is said."""
    browser = tmp_path / "bin" / "chromium"
    browser.parent.mkdir()
    browser.write_text(
        '#!/bin/sh\nfor each; do case $each in --print-to-pdf=*) echo %PDF >"${each#*=}" ;; esac; done\n'
    )
    browser.chmod(0o700)
    monkeypatch.setenv("PATH", str(browser.parent))
    record, pdf = sealed_record(tmp_path, key), tmp_path / "x.pdf"
    printed = typed("records", "show", record, "--pdf", pdf)
    assert (printed.exit_code, pdf.exists(), "not sealed" in printed.output) == (0, True, False), printed.output
    pdf.unlink()
    (record / "report.html").write_text((record / "report.html").read_text().replace("ada", "eve"))
    refused = typed("records", "show", record, "--pdf", pdf)
    assert (refused.exit_code, "report.html is not as seals/0002.json sealed it" in refused.output) == (1, True)
    assert not pdf.exists()
    closed(run(tmp_path / "records", 3), None)
    printed = typed("records", "show", record, "--pdf", pdf)
    assert (printed.exit_code, pdf.exists()) == (0, True), printed.output
    assert "printed all the same: not sealed: no signing_key was given" in printed.output


def test_a_record_that_is_shown_says_that_it_was_altered(tmp_path: Path, key: SigningKey) -> None:
    """Without keys and without being asked: a file by its seal, the journal by its own lines."""
    record = sealed_record(tmp_path, key)
    assert "not as it was written" not in typed("records", "show", record).output
    (record / "files/certificate-1.pem").write_text("another")
    journal = record / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b"CHG-1", b"CHG-2"))
    said = typed("records", "show", record).output
    assert "not as it was written: files/certificate-1.pem: altered" in said
    assert "does not hang together" in said


def test_all_of_them(tmp_path: Path, key: SigningKey) -> None:
    """A row each; one that is not proven makes the whole not proven."""
    record = sealed_record(tmp_path, key)
    words = ("verify", "--all", "--records-dir", record.parent, "--allowed-signers", tmp_path / "allowed")
    assert typed(*words).exit_code == 0
    other = run(tmp_path / "elsewhere", 1)
    closed(other, None)
    other.folder.rename(record.with_name("20260601T120000Z-ffffff"))
    ended = typed(*words)
    assert (ended.exit_code, "2 records, 1 proven" in ended.output, "no seal" in ended.output) == (1, True, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify"], "give one record"),
        (["verify", "--all", "--expect", "0" * 64], "give one record"),
        (["verify", "none"], "is no record"),
        (["verify", ".", "--expect", "123"], "no SHA-256 digest"),
        (["verify", ".", "--allowed-signers", "none"], "none cannot be used: No such file"),
        (["verify", ".", "--allowed-signers", "empty"], "names no signer"),
        (["approve", ".", "--signing-key", "none", "--approver", "a b"], "write letters, digits"),
    ],
)
def test_what_cannot_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str) -> None:
    """Exit status 2, and what to write."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("")
    closed(run(tmp_path / "records", 1), None)
    ended = typed(*[str(tmp_path / "records" / CHANGE) if each == "." else each for each in words])
    assert (ended.exit_code, says in ended.output) == (2, True), ended.output


def test_a_killed_run_is_sealed_later(tmp_path: Path, parameters: Path) -> None:
    """With the parameters of the run, whose secrets are searched for; without a key it says what is missing."""
    record = run(tmp_path / "records", 1)
    record.journal.close()
    ended = typed("seal", record.folder, "-f", parameters, "-p", "signing_key", "")
    assert (ended.exit_code, "signing_key: is empty" in ended.output) == (2, True)
    ended = typed("seal", record.folder, "-f", parameters)
    assert ended.exit_code == 0, ended.output
    assert f"seal: seals/0001.json sha256:{digests(record.folder)[0]}" in ended.output
    assert "it is sealed" in typed("seal", record.folder, "-f", parameters).output
    assert len(sealed(record.folder)) == 1
    (record.folder / "files/certificate-1.pem").write_text("another")
    run(tmp_path / "records", 2).journal.close()
    ended = typed("seal", record.folder, "-f", parameters)
    assert (ended.exit_code, "files/certificate-1.pem: altered" in ended.output) == (3, True), ended.output


def test_a_secret_is_masked_on_request(tmp_path: Path, parameters: Path) -> None:
    """Refused first, with the place; `--mask` takes it out, and the journal says so."""
    record = run(tmp_path / "records", 1, f"it is {SECRET}")
    record.journal.close()
    ended = typed("seal", record.folder, "-f", parameters)
    assert (ended.exit_code, "sudo_password in notebooks/" in ended.output, "--mask" in ended.output) == (3, True, True)
    assert SECRET not in ended.output
    assert sealed(record.folder) == ()
    assert typed("seal", record.folder, "-f", parameters, "--mask").exit_code == 0
    assert [each["file"] for each in read(record.folder) if each["event"] == "repair"]
    assert typed("verify", record.folder, "--allowed-signers", tmp_path / "allowed").exit_code == 0


def test_a_secret_in_a_sealed_record_is_masked_on_request(tmp_path: Path, key: SigningKey, parameters: Path) -> None:
    """One that nobody knew of when it was sealed: masked and sealed anew; verify names the repair and does not call it proven."""
    record = run(tmp_path / "records", 1, f"it is {SECRET}")
    assert closed(record, key).seal
    assert "it is sealed" in typed("seal", record.folder, "-f", parameters).output
    masked = typed("seal", record.folder, "-f", parameters, "--mask")
    assert (masked.exit_code, "seal: seals/0002.json" in masked.output) == (0, True), masked.output
    assert SECRET not in "".join(each.read_text() for each in (record.folder / "notebooks").iterdir())
    again = typed("seal", record.folder, "-f", parameters, "--mask")
    assert (again.exit_code, "nothing was found" in again.output) == (0, True)
    assert len(sealed(record.folder)) == 2
    verified = typed("verify", record.folder, "--allowed-signers", tmp_path / "allowed")
    assert (verified.exit_code, "\nnot proven: " in verified.output, "! warn" in verified.output) == (1, True, True), (
        verified.output
    )
    assert "(repair," in verified.output


async def test_a_plan_is_approved_on_a_yes(practice: EmbeddedHost, tmp_path: Path, key: SigningKey) -> None:
    """The commands are shown first; a no signs nothing; without a plan there is nothing to approve."""
    operator = Operator(practice, tmp_path)
    operator.given |= {"signer": "self-signed"}
    requested = await operator.run("request")
    assert requested.record
    words = ("approve", requested.record, "--signing-key", key.path, "--approver", "bob@example.net")
    assert (typed(*words).exit_code, "there is no plan" in typed(*words).output) == (3, True)
    planned = await operator.run("install", apply=False)
    assert planned.record
    no = typed(*words, answer="n\n")
    assert ("guard.sh swap" in no.output, list((planned.record / "files").glob("*.sig"))) == (True, [])
    yes = typed(*words, answer="y\n")
    assert (yes.exit_code, f"approved: plan sha256:{planned.plan_sha256}" in yes.output) == (0, True), yes.output
    assert re.search(rf'^host +"{operator.given["host"]}"$', yes.output, re.MULTILINE)  # as the signed bytes say it
    assert len(list((planned.record / "files").glob("*.sig"))) == 1
    assert ("server" in yes.output, "certificate before" in yes.output) == (True, True)
    own = typed(*words[:-1], getpass.getuser())
    assert (own.exit_code, "runs this change" in own.output) == (2, True)
    other = typed(*words[:2], "--signing-key", tmp_path / "allowed", "--approver", "bob")
    assert (other.exit_code, "is no SSH key" in other.output) == (2, True)
