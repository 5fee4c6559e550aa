"""Approvals of a plan that lie in other records: each is brought over for itself."""

import json
import os
from pathlib import Path

import pytest

from runbook_lib.record.approval import LARGEST_SIGNATURE, NAMESPACE, approvers, bring
from runbook_lib.record.archive import open_record
from runbook_lib.record.journal import read
from runbook_lib.record.seal import digest
from tests.record.sealing import CHANGE, allowing, signing_key

DOCUMENT = json.dumps({"commands": []}).encode()


@pytest.mark.timeout(20)
def test_one_approval_that_cannot_be_read_keeps_no_other_back(tmp_path: Path) -> None:
    """Whoever may write among the records could else stop every restore: a pipe, a folder, a file without end are noted."""
    key = signing_key(tmp_path)
    before = f"approval-{digest(DOCUMENT)[:16]}"
    for name in "abcde":
        (tmp_path / "records" / name / "files").mkdir(parents=True)
    os.mkfifo(tmp_path / f"records/a/files/{before}-ann.sig")
    (tmp_path / f"records/b/files/{before}-bob.sig").mkdir()
    with (tmp_path / f"records/c/files/{before}-cid.sig").open("wb") as file:
        file.truncate(LARGEST_SIGNATURE + 1)
    (tmp_path / f"records/d/files/{before}-dee.sig").symlink_to("nowhere")
    (tmp_path / f"records/e/files/{before}-eve.sig").write_bytes(key.sign(DOCUMENT, NAMESPACE))
    record = open_record(tmp_path / "records", CHANGE, str)
    bring(record, DOCUMENT)
    assert [each.name for each in approvers(record.folder, DOCUMENT, allowing(key, "eve"))] == ["eve"]
    noted = sorted(str(each["text"]) for each in read(record.folder) if each["event"] == "note")
    assert [text.rpartition("-")[2] for text in noted] == [
        "ann.sig: it is no regular file",
        "bob.sig: it is no regular file",
        f"cid.sig: it is larger than {LARGEST_SIGNATURE} bytes",
        "dee.sig: it is a link",
    ]


@pytest.mark.timeout(20)
def test_what_lies_in_the_place_of_an_approval(tmp_path: Path) -> None:
    """A pipe in the record's own files is no file of the same bytes, and nobody waits for it."""
    record = open_record(tmp_path, CHANGE, str)
    os.mkfifo(record.folder / "files" / "x.sig")
    assert record.add_file("x.sig", b"x").name == "x-2.sig"
