"""What is drawn in the page: the certificates before and after, and what nginx answered meanwhile, with the same in words."""

import base64
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.pictures import MOST_STRETCHES
from runbook_lib.record.archive import Record
from runbook_lib.record.report import render
from tests import sinks
from tests.hostile import CORPUS
from tests.record.report import page as written
from tests.record.report.page import AFTER, BEFORE, Page, page_of, recorded

STRIP = [[0, 1180, 1], [1180, 1345, 0], [1345, 9000, 2]]
WITHOUT = "an older record"


def drawings(page: Page) -> list[dict[str, str]]:
    """The pictures of a page, each with its words."""
    return [attributes for tag, attributes in page.tags if tag == "img"]


def seen(picture: dict[str, str]) -> list[str]:
    """The texts that are seen in one."""
    root = ET.fromstring(base64.b64decode(picture["src"].partition(",")[2]))  # noqa: S314 - made by ourselves a moment ago
    return [each.text or "" for each in root.iter() if each.tag.endswith("}text")]


def measured(record: Record) -> None:
    """A run whose probes are kept."""
    written.planned(record)
    record.journal.write("probe", outage_ms=165.0, samples=900, strip=STRIP)
    written.certificate(record, "after", AFTER)
    written.ended(record, "done")


def test_before_and_after_are_drawn_and_told(tmp_path: Path) -> None:
    """Above their table, with what differs named in the words, and until when each is good."""
    page = page_of(recorded(tmp_path, measured))
    changed, _ = drawings(page)
    assert changed["alt"].startswith("certificates before and after: before: name apstra.example.com, issuer ")
    assert "not the same: SAN, SPKI, SHA-256" in changed["alt"]
    for each in (BEFORE, AFTER):
        assert f"until {each.not_after:%Y-%m-%d}, " in changed["alt"]
    assert {"before", "after", "apstra.example.com", "IP:192.0.2.11"} <= set(seen(changed))
    assert page.html.index(changed["src"]) < page.html.index("SHA-256 fingerprint")


def test_what_nginx_answered_is_drawn_and_told(tmp_path: Path) -> None:
    """Beside the outage, with the same number."""
    page = page_of(recorded(tmp_path, measured))
    _, strip = drawings(page)
    assert strip["alt"] == (
        "what nginx answered: 165 ms without an answer, the old certificate for 1,180 ms, no answer for 165 ms, the new certificate for 7,655 ms"
    )
    assert "165 ms without an answer" in seen(strip)
    assert "165 ms without an answer, asked 900 times" in page.text


def test_a_run_that_noted_neither_has_no_picture(tmp_path: Path) -> None:
    """An older record, and one that was refused before it read a certificate: no picture, and nothing that lets one in."""

    def older(record: Record) -> None:
        written.begun(record)
        record.journal.write("probe", outage_ms=165.0, samples=900)
        written.ended(record, "failed", WITHOUT)

    page = page_of(recorded(tmp_path, older))
    assert WITHOUT in page.text
    assert (drawings(page), "img-src" in page.html) == ([], False)


def test_certificates_of_unknown_dates_are_drawn_without_a_bar(tmp_path: Path) -> None:
    """What was noted is text, whatever it says; roles of no version are left to the table."""

    def odd(record: Record) -> None:
        written.begun(record)
        for role in ("before", "after", "<b>another</b>"):
            record.journal.write("certificate", role=role, common_name="a", not_before="x", not_after="soon", sha256="")
        written.ended(record, "done")

    (picture,) = drawings(page_of(recorded(tmp_path, odd)))
    assert picture["alt"].count("not known") == 2
    assert "another" not in picture["alt"]


def hostile_everywhere(record: Record) -> None:
    """Every text of the corpus as every text of a certificate, and as many stretches as nobody measures."""
    written.begun(record)
    text = "".join(each.text for each in CORPUS).encode(errors="replace").decode()
    for role in ("before", "after"):
        record.journal.write(
            "certificate",
            role=role,
            common_name=text,
            not_before=text,
            not_after="9999-12-31T23:59:59+00:00",
            sha256=text,
            issuer=text,
            san=[text] * 9,
            key=text,
        )
    for number in range(3):
        record.journal.write(
            "probe", outage_ms=1.0, samples=1, strip=[[n, n * number, n % 3] for n in range(MOST_STRETCHES * 9)]
        )
    written.ended(record, "done")


def test_hostile_records_are_drawn_as_text_in_a_small_page(tmp_path: Path) -> None:
    """Nothing in a picture acts, and many of them are no large page."""
    folder = recorded(tmp_path, hostile_everywhere)
    page = page_of(folder)
    assert len(drawings(page)) == 4
    assert [fault for fault in sinks.browser(page.html, whole=True) if "picture" in fault] == []
    assert sum(len(each["src"]) for each in drawings(page)) < 150_000
    assert render(folder, "not sealed") == render(folder, "not sealed")


LAST_DAY: dict[str, Callable[[str], str]] = {
    "the last second that there is": lambda line: re.sub(r'"at": ?"[^"]*"', '"at": "9999-12-31T23:59:59Z"', line),
    "no such day": lambda line: re.sub(r'"at": ?"[^"]*"', '"at": "2026-99-99T23:59:59Z"', line),
}


@pytest.mark.parametrize("turn", LAST_DAY.values(), ids=LAST_DAY.keys())
def test_a_page_is_made_whenever_it_was(tmp_path: Path, turn: Callable[[str], str]) -> None:
    """The time of the last event is what another may have written."""
    folder = recorded(tmp_path, measured)
    journal = folder / "journal.jsonl"
    journal.write_text("".join(map(turn, journal.read_text().splitlines(keepends=True))))
    assert json.loads(journal.read_text().splitlines()[-1])["at"].endswith("T23:59:59Z")
    assert "Done" in Page(render(folder, "")).title
