"""A secret that one run found is not sealed over by the next, which need not know it: a colleague has passwords of their own."""

from pathlib import Path

import pytest

from runbook_lib.record.closing import mask_finds
from runbook_lib.record.journal import read
from runbook_lib.record.seal import sealed
from runbook_lib.secrets import Registry
from runbook_lib.sshsig import SigningKey
from tests.record.sealing import CHANGE, SECRET, closed, run

NOTEBOOK = "notebooks/20260601T120000Z-300_install_certificate.ipynb"


@pytest.fixture
def colleague() -> Registry:
    """Another secret by the same name."""
    made = Registry()
    made.add("another horse altogether", name="sudo_password")
    return made


def test_what_was_found_stands_while_its_file_is_as_it_was(
    tmp_path: Path, key: SigningKey, registry: Registry, colleague: Registry
) -> None:
    """Whoever runs next: the record is not sealed, and the reason names the place, as often as that is tried."""
    assert closed(run(tmp_path, 1, SECRET), key, registry).seal is None
    for number in (2, 3):
        ended = closed(run(tmp_path, number), key, colleague)
        assert ended.seal is None
        assert ended.why == f"the record holds sudo_password in {NOTEBOOK}, cell 2, as an earlier run found"
    assert sealed(tmp_path / CHANGE) == ()


def test_what_was_masked_does_not_stand(
    tmp_path: Path, key: SigningKey, registry: Registry, colleague: Registry
) -> None:
    """Once its file is another one, whoever made it so, nothing stands in the way."""
    record = run(tmp_path, 1, SECRET)
    assert closed(record, key, registry).seal is None
    again = run(tmp_path, 2)
    mask_finds(again, registry)
    assert closed(again, key, colleague).seal


def test_what_stands_in_the_journal_stands_for_ever(
    tmp_path: Path, key: SigningKey, registry: Registry, colleague: Registry
) -> None:
    """Its lines cannot be changed."""
    record = run(tmp_path, 1)
    record.journal.write("note", text=SECRET)
    assert closed(record, key, registry).seal is None
    assert "in journal.jsonl, line" in closed(run(tmp_path, 2), key, colleague).why
    assert [event["event"] for event in read(record.folder)][-1] == "unsealed"
