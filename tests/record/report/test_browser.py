"""What a browser said, as the page shows it."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.record.archive import Record
from runbook_lib.record.report.browser import ROOM
from tests.record.report.page import begun, ended, page_of, recorded

PNG = b"\x89PNG\r\n\x1a\n"
CHAIN = ["ab" * 32, "cd" * 32]


def said(record: Record, when: str, picture: bytes = b"", **more: Any) -> None:  # noqa: ANN401 - any fields
    """One visit, with its picture."""
    name = record.add_file(f"browser-{when}-1.png", picture).name if picture else ""
    told: dict[str, Any] = {
        "address": "192.0.2.10", "url": "https://192.0.2.10/", "said": "accepted", "error": "", "chain": CHAIN, "protocol": "TLS 1.3",
        "status": 200, "title": "Sign in", "screenshot": name, "screenshot_sha256": hashlib.sha256(picture).hexdigest(),
    }  # fmt: skip
    record.journal.write("browser", when=when, **(told | more))


def test_before_and_after_stand_side_by_side(tmp_path: Path) -> None:
    """What it said, the leaf it saw, the page, and the two pictures with words for who does not see them."""

    def write(record: Record) -> None:
        begun(record)
        refused = {"said": "refused", "error": "net::ERR_CERT_AUTHORITY_INVALID", "status": None, "title": ""}
        said(record, "before", PNG + b"1", **refused)
        said(record, "after", PNG + b"2")
        ended(record, "done")

    page = page_of(recorded(tmp_path, write))
    for text in ("refused\nnet::ERR_CERT_AUTHORITY_INVALID\nTLS 1.3", "ABAB ABAB ABAB ABAB", "HTTP 200\nSign in"):
        assert text in page.text
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [each["alt"] for each in pictures] == [
        "What the browser showed before: 192.0.2.10, refused",
        "What the browser showed after: 192.0.2.10, accepted",
    ]
    assert {"files/browser-before-1.png", "files/browser-after-1.png", "#browser"} <= set(page.links)
    assert "after: 192.0.2.10: accepted, TLS 1.3, HTTP 200, Sign in" in page.text


def test_a_record_without_a_browser_speaks_of_none(tmp_path: Path) -> None:
    """And its page may load no picture."""
    page = page_of(recorded(tmp_path, begun))
    assert "browser" not in page.text
    assert "img-src" not in page.html


def test_pictures_make_no_large_page(tmp_path: Path) -> None:
    """What there is no room for is linked; many visits stay below 300 kB."""

    def write(record: Record) -> None:
        begun(record)
        for number in range(8):
            said(record, "after", PNG + bytes([number]) * (ROOM // 3))
        ended(record, "done")

    page = page_of(recorded(tmp_path, write))
    assert [tag for tag, _ in page.tags].count("img") == 2
    assert len([each for each in page.links if each.startswith("files/browser-after-1")]) == 8 + 8
    assert len(page.html) < 300_000


@pytest.mark.parametrize("name", ["../journal.jsonl", "nginx.crt", "browser-after-1.png/../x", "/etc/passwd"])
def test_a_picture_that_is_no_file_of_ours(tmp_path: Path, name: str) -> None:
    """A journal that names another file is shown as it stands, and nothing of that file is."""

    def write(record: Record) -> None:
        begun(record)
        said(record, "after", screenshot=name)
        ended(record, "done")

    page = page_of(recorded(tmp_path, write))
    assert "1 of the 3 lines of the journal is no event" in page.text
    assert "img" not in {tag for tag, _ in page.tags}


def test_a_picture_that_was_changed_is_not_shown(tmp_path: Path) -> None:
    """Its digest stands in the journal."""

    def write(record: Record) -> None:
        begun(record)
        said(record, "after", PNG)
        (record.folder / "files/browser-after-1.png").write_bytes(PNG + b"forged")
        ended(record, "done")

    page = page_of(recorded(tmp_path, write))
    assert "img" not in {tag for tag, _ in page.tags}
    assert "Sign in" in page.text
