"""An approval that comes after the seal over its plan: proven by itself, and nothing else comes in with it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.models import Verdict
from runbook_lib.record import approval
from runbook_lib.record.archive import open_record
from runbook_lib.record.journal import NAME
from runbook_lib.record.seal import NAMESPACE, digest
from runbook_lib.record.verify import Proof, proof_of, verify
from runbook_lib.sshsig import SigningKey
from tests.record.sealing import CHANGE, allowing, closed, run, signing_key

BOB = "bob@example.net"
DOCUMENT = json.dumps({"commands": []}).encode()
NAMED = f"approval-{digest(DOCUMENT)[:16]}-{BOB}.sig"
PLAN = "plan-900_restore_certificate.json"


@pytest.fixture
def bob(tmp_path: Path) -> SigningKey:
    """Who approves."""
    return signing_key(tmp_path, "bob")


@pytest.fixture
def planned(tmp_path: Path, key: SigningKey) -> Path:
    """A sealed record with a plan, as a restore leaves it that was only planned."""
    record = run(tmp_path / "records", 1)
    kept = record.add_file(PLAN, DOCUMENT)
    record.journal.write("plan", name="restore", sha256=digest(DOCUMENT), way_back="", commands=[], file=kept.name)
    assert closed(record, key).seal
    return record.folder


def approve(folder: Path, bob: SigningKey) -> None:
    """What `runbook approve` does."""
    record, found = open_record(folder.parent, CHANGE, str), approval.last_plan(folder)
    assert found
    approval.approve(record, found[0], DOCUMENT, approver=BOB, key=bob)
    record.journal.close()


def note(folder: Path, event: str, **fields: object) -> None:
    """A line more in the journal."""
    record = open_record(folder.parent, CHANGE, str)
    record.journal.write(event, **fields)
    record.journal.close()


def test_it_is_named_and_the_record_stays_proven(planned: Path, key: SigningKey, bob: SigningKey) -> None:
    """With the lines by which the journal tells of it; by somebody who is not listed it is what nobody sealed."""
    approve(planned, bob)
    approve(planned, bob)  # once more: the same file, and a line more
    checks = verify(planned, allowed_signers=allowing(key) + allowing(bob, BOB))
    assert proof_of(checks) == (Proof.PROVEN, "")
    said = f"nothing but an approval by {BOB} ({bob.fingerprint}), added after the seal"
    assert [each.found for each in checks if each.question == "Is there nothing that was not sealed?"] == [said]
    for signers in (allowing(key), allowing(key) + allowing(bob, "eve"), None):
        assert proof_of(verify(planned, allowed_signers=signers))[0] is not Proof.PROVEN


def test_one_that_was_made_with_ssh_keygen_alone(
    planned: Path, key: SigningKey, bob: SigningKey, tmp_path: Path
) -> None:
    """By somebody who cannot write the record: its plan is handed to them, and the signature is laid beside it."""
    handed = shutil.copy(planned / "files" / PLAN, tmp_path)
    subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", "apstra-runbook-approval", "-f", bob.path, handed],
        check=True,
        capture_output=True,
    )
    shutil.copy(f"{handed}.sig", planned / "files" / NAMED)
    signers = allowing(key) + allowing(bob, BOB)
    assert [each.name for each in approval.approvers(planned, DOCUMENT, signers)] == [BOB]
    assert proof_of(verify(planned, allowed_signers=signers)) == (Proof.PROVEN, "")
    assert proof_of(verify(planned, allowed_signers=allowing(key))) == (Proof.ALTERED, f"files/{NAMED}: added")


def _another(folder: Path, bob: SigningKey) -> None:
    (folder / "files" / "more.txt").write_text("more")
    approve(folder, bob)


def _line(folder: Path, bob: SigningKey) -> None:
    approve(folder, bob)
    note(folder, "note", text="nothing odd")


def _told_otherwise(folder: Path, bob: SigningKey) -> None:
    approve(folder, bob)
    note(folder, "approved", plan=digest(DOCUMENT), approver=BOB, key=bob.fingerprint, file=NAMED, text="and eve, too")


def _more_told(folder: Path, bob: SigningKey) -> None:
    approve(folder, bob)
    text = f"{BOB} ({bob.fingerprint}) approved the plan sha256:{digest(DOCUMENT)}"
    note(
        folder, "approved", plan=digest(DOCUMENT), approver=BOB, key=bob.fingerprint, file=NAMED, text=text, by=["eve"]
    )


def _before_it(folder: Path, bob: SigningKey) -> None:
    note(folder, "note", text="nothing odd")
    approve(folder, bob)


def _report(folder: Path, bob: SigningKey) -> None:
    approve(folder, bob)
    (folder / "report.html").write_text("another")


def _plan(folder: Path, bob: SigningKey) -> None:
    approve(folder, bob)
    (folder / "files" / PLAN).write_text("another")


def _other_plan(folder: Path, bob: SigningKey) -> None:
    other = b"another plan"
    (folder / "files" / "plan-900_restore_certificate-2.json").write_bytes(other)
    (folder / "files" / f"approval-{digest(other)[:16]}-{BOB}.sig").write_bytes(bob.sign(other, approval.NAMESPACE))


def _other_purpose(folder: Path, bob: SigningKey) -> None:
    (folder / "files" / NAMED).write_bytes(bob.sign(DOCUMENT, NAMESPACE))


def _other_name(folder: Path, bob: SigningKey) -> None:
    (folder / "files" / NAMED.replace(BOB, "eve")).write_bytes(bob.sign(DOCUMENT, approval.NAMESPACE))


def _link(folder: Path, bob: SigningKey) -> None:
    outside = folder.parent.parent / "outside.sig"
    outside.write_bytes(bob.sign(DOCUMENT, approval.NAMESPACE))
    (folder / "files" / NAMED).symlink_to(outside)


def _cut_short(folder: Path, bob: SigningKey) -> None:
    approve(folder, bob)
    with (folder / NAME).open("ab") as file:
        file.write(b"{")


@pytest.mark.parametrize(
    "done",
    [
        _another, _line, _told_otherwise, _more_told, _before_it, _report, _plan, _other_plan, _other_purpose, _other_name, _link,
        _cut_short,
    ],
)  # fmt: skip
def test_nothing_else_comes_in_with_it(
    planned: Path, key: SigningKey, bob: SigningKey, done: Callable[[Path, SigningKey], None]
) -> None:
    """Files, lines, fields of a line, the report and the plan are held as without it; what does not prove itself is none."""
    done(planned, bob)
    checks = verify(planned, allowed_signers=allowing(key) + allowing(bob, BOB))
    assert proof_of(checks)[0] is not Proof.PROVEN
    assert any(each.verdict is not Verdict.PASS and "seal" in each.question for each in checks)
