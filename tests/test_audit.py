"""What an audit hands on: rows, CSV that is no formula, Prometheus labels that hold, a page without script."""

import csv
import dataclasses
import io
import json
import re
from typing import Any

import pytest

from runbook_lib.audit import COLUMNS, Audit
from runbook_lib.models import Check, Facts, Served, Verdict
from runbook_lib.steps import server
from tests.pki.authority import DAY, NOW, Issued, issue, name_of
from tests.steps.facts import NEW, OLD, a_server, parameters, seen
from tests.test_tables import SAFE, parsed

HOSTILE = """<script>alert(1)</script>"'\\\n\x1b[31m\u202e"""
PROMETHEUS = re.compile(r'^[a-z_]+\{([a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,|(?=\})))+\} -?[0-9]+$')


def audited(*served: Served, **changed: Any) -> Audit:  # noqa: ANN401 - handed on to a typed constructor
    """An audit of a server with these handshakes."""
    facts: Facts = a_server(served=served, **changed)
    return Audit(facts, server.checks(facts, parameters()))


def as_read(text: str) -> list[dict[str, str]]:
    """CSV as a program reads it."""
    return list(csv.DictReader(io.StringIO(text)))


def named(common_name: str) -> Issued:
    """A certificate of that common name."""
    return issue(subject=name_of(common_name))


def test_a_row_a_handshake() -> None:
    """Every vantage point, with what was seen there or why nothing was; days are whole and of the server's reading."""
    rows = audited(seen("a", OLD), seen("b", vantage="direct", error="refused")).rows()
    leaf = OLD.certificate
    assert rows == [
        {
            "server": "apstra.example.com", "address": "a", "seen from": "server", "common name": "apstra.example.com",
            "SAN": "DNS:apstra.example.com IP:192.0.2.10", "issuer": leaf.issuer, "not after": "2027-05-31T12:00:00+00:00", "days left": 364,
            "key": "ec-p256", "sha256": leaf.sha256, "chain": 1, "error": "",
        },
        dict.fromkeys(COLUMNS, "") | {"server": "apstra.example.com", "address": "b", "seen from": "direct", "chain": 0, "error": "refused"},
    ]  # fmt: skip


def test_a_certificate_that_cannot_be_read_is_a_row_too() -> None:
    """What came was counted; nothing is made up about it."""
    (row,) = audited(Served("a", "server", ("no certificate",), "TLSv1.3")).rows()
    assert (row["chain"], row["common name"], row["sha256"]) == (1, "", "")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "=cmd|' /C calc'!A0", "\x1b[0m=1", "\u202e=1", "\r=1"]


@pytest.mark.parametrize("text", FORMULAS)
def test_csv_text_is_no_formula(text: str) -> None:
    """Wherever it comes from, and when what stood before it is stripped; it gets an apostrophe in front."""
    facts = audited(seen(text, named(text.strip("\t\r") or "x")), Served(text, text, (), "", text), host=text)
    for row in as_read(facts.csv()):
        for name, value in row.items():
            assert not value.startswith(("=", "+", "@", "\t", "\r")), name
            assert not value.startswith("-") or name == "days left"
            assert "\x1b" not in value
            assert "\u202e" not in value


def test_csv_numbers_stay_numbers() -> None:
    """The days since a certificate expired are negative and no formula."""
    leaf = issue(not_before=NOW - 400 * DAY, days=390)
    (row,) = as_read(audited(seen("a", leaf)).csv())
    assert (row["days left"], row["chain"]) == ("-10", "1")


def test_csv_says_what_the_rows_say() -> None:
    """Quotes, commas and line feeds in a value end neither its cell nor its row."""
    wanted = 'a,"b"\nc'
    text = audited(seen(wanted, OLD), seen("b", NEW)).csv()
    rows = as_read(text)
    assert text.startswith(",".join(COLUMNS) + "\n")
    assert [row["address"] for row in rows] == [wanted, "b"]
    assert rows[0]["SAN"] == "DNS:apstra.example.com IP:192.0.2.10"


LABELS = {
    'a"b': r"a\"b",
    "a\\b": r"a\\b",
    "a\nb": r"a\nb",
    'a\\"b\\n': r"a\\\"b\\n",
    'x"} 1\nfake{a="b': r"x\"} 1\nfake{a=\"b",
    "\x1b[31ma\u202e\rb": "ab",
    "2001:db8::1": "2001:db8::1",
}


@pytest.mark.parametrize(("text", "written"), LABELS.items())
def test_prometheus_labels_are_escaped(text: str, written: str) -> None:
    """A value ends neither its label nor its line, so that no sample can be made up."""
    lines = audited(seen(text, OLD), host=text).prometheus().splitlines()
    samples = [line for line in lines if not line.startswith("#") and not line.startswith("apstra_audit_success")]
    assert len(samples) == 2
    assert f'apstra_audit_success{{server="{written}"}} 1' in lines
    assert all(PROMETHEUS.fullmatch(line) for line in samples)
    assert all(f'server="{written}",address="{written}",vantage="server"' in line for line in samples)


def test_prometheus_tells_expiry_and_reachability() -> None:
    """A handshake that failed is a 0 and has no expiry; every family is declared once, before its samples."""
    labels = '{{server="apstra.example.com",address="{}",vantage="{}"}}'
    assert audited(seen("a", OLD), seen("b", vantage="direct", error="x")).prometheus().splitlines() == [
        "# TYPE apstra_certificate_not_after_seconds gauge",
        f"apstra_certificate_not_after_seconds{labels.format('a', 'server')} {OLD.certificate.not_after.timestamp():.0f}",
        "# TYPE apstra_audit_success gauge",
        'apstra_audit_success{server="apstra.example.com"} 1',
        "# TYPE apstra_certificate_served gauge",
        f"apstra_certificate_served{labels.format('a', 'server')} 1",
        f"apstra_certificate_served{labels.format('b', 'direct')} 0",
    ]


def test_the_page_runs_nothing_and_loads_nothing() -> None:
    """A strict policy before any content, and foreign text in it that is text."""
    found = audited(seen(HOSTILE, named(HOSTILE.replace("\n", " ")[:60])), host=HOSTILE, hostname=HOSTILE, os=HOSTILE)
    found = dataclasses.replace(found, checks=(Check(HOSTILE, HOSTILE, HOSTILE, Verdict.FAIL, HOSTILE, HOSTILE),))
    page = found.html()
    assert page.startswith(
        '<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
    )
    tags = parsed(page)
    assert tags.elements <= SAFE | {"meta", "title", "figure", "figcaption", "img"}
    assert not {each for each in tags.attributes if each.startswith("on") or each == "href"}
    assert re.findall(r'src="([^;"]*)', page) == ["data:image/svg+xml"]
    assert not re.search(r"url\(|@import|\x1b|\u202e", page)
    assert "<script>alert(1)</script>" in tags.text


def test_json_holds_rows_and_judgements() -> None:
    """The same values as the rows, and a verdict a check, in words."""
    found = audited(seen("a", OLD))
    read = json.loads(found.json())
    assert read["served"] == found.rows()
    assert [each["verdict"] for each in read["checks"]] == [str(each.verdict) for each in found.checks]
    assert set(read["checks"][0]) == {"question", "expected", "found", "verdict"}


def test_the_tables_of_an_audit() -> None:
    """What is served, what was found, what is to be said of it: each with the server's name."""
    found = audited(seen("a", OLD), seen("b", error="refused"))
    assert [row[0] for row in found.served().rows] == ["a", "b"]
    assert len(found.judged().rows) == len(found.checks)
    assert all("apstra.example.com" in each.title for each in (found.served(), found.found(), found.judged()))
