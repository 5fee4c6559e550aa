"""The reader: what a server serves, what lies in its files, and what is to be said of both. It changes nothing."""

import asyncio
import csv
import datetime as dt
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runbook_lib import tables
from runbook_lib.models import Certificate, Check, Facts, Outcome, Served, Verdict, judged
from runbook_lib.pictures import Span
from runbook_lib.pki.certificates import read_certificates
from runbook_lib.record.journal import read
from runbook_lib.record.listing import list_records
from runbook_lib.server.survey import read_facts
from runbook_lib.server.views import Views
from runbook_lib.session import Prepared, open_session
from runbook_lib.steps import server
from runbook_lib.tables import Table
from runbook_lib.text import plain

COLUMNS = (
    "server",
    "address",
    "seen from",
    "common name",
    "SAN",
    "issuer",
    "not after",
    "days left",
    "key",
    "sha256",
    "chain",
    "error",
)
# what a spreadsheet takes for the begin of a formula, wide letters and what stands behind blanks too (OWASP, CSV injection)
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")  # noqa: RUF001 - wide letters are meant


@dataclass(frozen=True)
class Audit:
    """What was read from one server.

    Attributes:
        facts: All facts, with a handshake an address and vantage point.
        checks: The judgements over them.
    """

    facts: Facts
    checks: tuple[Check, ...]

    def rows(self) -> list[dict[str, object]]:
        """One row a handshake, the values as they are."""
        return [self._row(each) for each in self.facts.served]

    def _row(self, seen: Served) -> dict[str, object]:
        leaf = _leaf(seen)
        row: dict[str, object] = dict.fromkeys(COLUMNS, "")
        row |= {
            "server": self.facts.host,
            "address": seen.address,
            "seen from": seen.vantage,
            "chain": len(seen.chain),
            "error": seen.error,
        }
        if leaf:
            row |= {
                "common name": leaf.common_name, "SAN": " ".join(leaf.san), "issuer": leaf.issuer, "not after": leaf.not_after.isoformat(),
                "days left": (leaf.not_after - self.facts.now) // dt.timedelta(days=1), "key": leaf.key, "sha256": leaf.sha256,
            }  # fmt: skip
        return row

    def served(self) -> Table:
        """What every handshake saw."""
        leaves = {each.chain[0]: leaf for each in self.facts.served if (leaf := _leaf(each))}
        return tables.served_table(f"{self.facts.host}: what is served", self.facts.served, leaves)

    def expiry(self) -> Table:
        """Until when each certificate is good that a handshake saw, as a picture too."""
        found = {(each.address, leaf.sha256 if (leaf := _leaf(each)) else ""): leaf for each in self.facts.served}
        spans = [
            Span(address, f"{leaf.common_name}, {leaf.issuer}", leaf.not_before, leaf.not_after)
            if leaf
            else Span(address, "no certificate seen", None, None)
            for (address, _), leaf in found.items()
        ]
        return tables.expiry_table(f"{self.facts.host}: until when", spans, self.facts.now)

    def found(self) -> Table:
        """The server as found."""
        return tables.facts_table(self.facts)

    def judged(self) -> Table:
        """The checks, the failed ones first."""
        return tables.checks_table(f"{self.facts.host}: what is to be said of it", self.checks)

    def json(self) -> str:
        """The rows and checks as JSON in ASCII, so that a terminal obeys nothing in it."""
        checks = [
            {"question": c.question, "expected": c.expected, "found": c.found, "verdict": c.verdict}
            for c in self.checks
        ]
        return json.dumps({"served": self.rows(), "checks": checks}, indent=1)

    def csv(self) -> str:
        """The rows as CSV; a cell that a spreadsheet would take for a formula is prefixed with an apostrophe."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.rows():
            writer.writerow({name: _harmless(value) for name, value in row.items()})
        return text.getvalue()

    def prometheus(self) -> str:
        """Expiry and reachability in the Prometheus text exposition format."""
        lines = ["# TYPE apstra_certificate_not_after_seconds gauge"]
        lines += [f"apstra_certificate_not_after_seconds{_of(self.facts.host, each)} {leaf.not_after.timestamp():.0f}"
                  for each in self.facts.served if (leaf := _leaf(each))]  # fmt: skip
        lines += _reached(self.facts.host, reached=True)
        lines.append("# TYPE apstra_certificate_served gauge")
        lines += [
            f"apstra_certificate_served{_of(self.facts.host, each)} {int(bool(each.chain))}"
            for each in self.facts.served
        ]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """The tables as one page without script."""
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        body = "".join(each._repr_html_() for each in (self.expiry(), self.served(), self.judged(), self.found()))
        return f'<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}"><title>Audit</title>{body}\n'


def unreached(host: str) -> str:
    """The metrics of a server that could not be audited, so that none of an earlier audit are taken for today's."""
    return "\n".join(_reached(host, reached=False)) + "\n"


def _reached(host: str, *, reached: bool) -> tuple[str, ...]:
    label = _labels({"server": host})
    return ("# TYPE apstra_audit_success gauge", f"apstra_audit_success{label} {int(reached)}")


def _leaf(seen: Served) -> Certificate | None:
    try:
        return read_certificates(seen.chain[0].encode())[0] if seen.chain else None
    except ValueError:
        return None


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value  # a number is no formula: an expired certificate has negative days left
    text = plain(value)
    return f"'{text}" if _FORMULA.match(text) else text


def _of(server: str, seen: Served) -> str:
    return _labels({"server": server, "address": seen.address, "vantage": seen.vantage})


def _labels(values: Mapping[str, str]) -> str:
    escaped = {
        name: plain(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for name, value in values.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"


async def audit(prepared: Prepared) -> Audit:
    """Reads one server over SSH and by handshakes from here; changes nothing.

    Raises:
        Refused: The server could not be reached or read.
    """
    given = prepared.parameters
    session = await open_session(prepared)
    try:
        facts = await read_facts(session.shell, given, session.connection.host_key, [])
        views = Views(given, session.connection)
        seen, version = await asyncio.gather(views.look(facts.listening), views.api_version(facts.listening))
    finally:
        await session.close()
    facts = replace(facts, served=(*facts.served, *seen), apstra_version=version)
    return Audit(facts, (*server.checks(facts, given), *_as_recorded(facts, prepared.records)))


def _as_recorded(facts: Facts, records: Path) -> tuple[Check, ...]:
    """What the last change that is recorded here installed, against what lies there: state_dir may be as new as an upgraded server."""
    question = "Is the live certificate the one that the last record here says was installed?"
    try:
        found = list_records(records)
    except OSError as error:
        why = f"{records} cannot be read: {error.strerror}"
        return (Check(question, "the same", why, Verdict.UNKNOWN, "records_dir", "name another records_dir"),)
    for each in reversed(found):
        if each.server != facts.host or each.outcome != Outcome.DONE:
            continue
        installed = [
            event
            for event in read(records / each.change_id)
            if event["event"] == "certificate" and event.get("role") == "after" and event.get("sha256")
        ]
        if not installed:
            continue
        now = facts.live.chain[0].sha256 if facts.live.chain else ""
        return (
            judged(
                question, f"{installed[-1].get('common_name')} of {each.change_id}",
                "the same" if now == installed[-1]["sha256"] else "another", good=now == installed[-1]["sha256"], bad=Verdict.WARN, source="records_dir",
                todo="a colleague's change, an upgrade or a person put another there: compare with the other records",
            ),
        )  # fmt: skip
    return ()
