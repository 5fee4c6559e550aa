"""Secrets that are taken out of a record after it was sealed: named for ever, and no cover for anything else."""

import hashlib
from pathlib import Path

import pytest

from runbook_lib.models import Check, Verdict
from runbook_lib.record.closing import mask_finds
from runbook_lib.record.verify import altered, verify
from runbook_lib.secrets import Registry
from runbook_lib.sshsig import SigningKey
from tests.record.sealing import CHANGE, OPERATOR, SECRET, allowing, closed, run

FILE = "files/answer.txt"


def digest(record: Path) -> str:
    """SHA-256 of the file as it lies there."""
    return hashlib.sha256((record / FILE).read_bytes()).hexdigest()


def not_passed(record: Path, key: SigningKey) -> list[Check]:
    """The checks that did not pass."""
    return [each for each in verify(record, allowed_signers=allowing(key)) if each.verdict is not Verdict.PASS]


@pytest.fixture
def sealed(tmp_path: Path, key: SigningKey) -> Path:
    """A record in whose file a secret was sealed, of which nobody knew then."""
    record = run(tmp_path, 1)
    record.add_file("answer.txt", f"it is {SECRET}".encode())
    assert closed(record, key).seal
    return record.folder


def repaired(record: Path, key: SigningKey | None, registry: Registry, number: int = 2) -> str:
    """Masks it and closes the record; returns why it is not sealed, or nothing."""
    opened = run(record.parent, number)
    assert mask_finds(opened, registry) == (FILE,)
    return closed(opened, key, registry).why


def test_a_repair_is_named_and_is_no_proof(sealed: Path, key: SigningKey, registry: Registry) -> None:
    """Which file, when, both digests and who sealed it so; all else is proven, and stays so with the next seal."""
    before = digest(sealed)
    assert repaired(sealed, key, registry) == ""
    assert closed(run(sealed.parent, 3), key, registry).seal
    (check,) = not_passed(sealed, key)
    assert (check.question, check.verdict) == ("Is everything that was sealed as it was?", Verdict.WARN)
    told, _, rest = check.found.partition("(repair, last ")
    assert told == f"{FILE}: altered, as the journal says "
    assert (
        rest[20:]
        == f", before sha256 {before}, after sha256 {digest(sealed)}), sealed so by {OPERATOR} in seals/0002.json"
    )
    assert "cannot be proven" in check.todo
    assert altered(sealed) == (check.found,)
    assert altered(sealed, repairs=False) == ()


def test_two_repairs_of_a_file(sealed: Path, key: SigningKey, registry: Registry) -> None:
    """The second begins where the first ended; both seals before are answered for."""
    assert repaired(sealed, key, registry) == ""
    opened = run(sealed.parent, 3)
    opened.journal.write("repair", file=FILE, before=digest(sealed), after=hashlib.sha256(b"all of it").hexdigest())
    (sealed / FILE).write_bytes(b"all of it")
    assert closed(opened, key, registry).seal
    (check,) = not_passed(sealed, key)
    assert check.verdict is Verdict.WARN
    assert check.found.count(f"{FILE}: altered, as the journal says") == 2
    assert check.found.count("in seals/0003.json") == 2


def test_without_a_seal_after_it(sealed: Path, key: SigningKey, registry: Registry) -> None:
    """It says so, and the journal's lines are named as well."""
    assert repaired(sealed, None, registry) != ""
    found = {each.question: each.found for each in not_passed(sealed, key)}
    assert found["Is everything that was sealed as it was?"].startswith(f"{FILE}: altered, as the journal says (repair")
    assert found["Is everything that was sealed as it was?"].endswith(", not sealed since")
    assert "journal.jsonl: " in found["Is there nothing that was not sealed?"]
    assert found["Is there nothing that was not sealed?"].endswith("report.html: written anew after that")


def test_a_repair_covers_nothing_else(sealed: Path, key: SigningKey, registry: Registry) -> None:
    """What is altered afterwards is altered, and is not sealed over; so is another file beside it, whatever it is called."""
    assert repaired(sealed, key, registry) == ""
    kept = (sealed / FILE).read_bytes()
    (sealed / FILE).write_bytes(b"another answer")
    assert f"{FILE}: altered" in closed(run(sealed.parent, 3), key, registry).why
    verdicts = {each.question: (each.verdict, each.found) for each in not_passed(sealed, key)}
    assert verdicts["Is everything that was sealed as it was?"] == (
        Verdict.FAIL,
        f"{FILE}: altered",
    )
    (sealed / FILE).write_bytes(kept)
    (sealed / "files/certificate-1.pem").write_text("another")
    (check,) = (each for each in not_passed(sealed, key) if "as it was" in each.question)
    assert (check.verdict, "files/certificate-1.pem: altered" in check.found) == (Verdict.FAIL, True)


@pytest.mark.parametrize("field", ["file", "before", "after"])
def test_a_repair_that_does_not_fit_explains_nothing(sealed: Path, key: SigningKey, field: str) -> None:
    """Another file, or digests that do not lead from what was sealed to what is there."""
    event = {"file": FILE, "before": digest(sealed), "after": hashlib.sha256(b"forged").hexdigest()}
    opened = run(sealed.parent, 2)
    opened.journal.write("repair", **event | {field: "files/other" if field == "file" else "0" * 64})
    (sealed / FILE).write_bytes(b"forged")
    assert closed(opened, key).why == f"the record is not as it was sealed: {FILE}: altered"
    assert sealed.name == CHANGE
