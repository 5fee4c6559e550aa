"""What a run of a change writes into its record besides its commands: how it began, what it found, what others left to be noted."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from runbook_lib import VERSION
from runbook_lib.change.planning import digests_of
from runbook_lib.models import ChangeFolder, Facts, Pair, State, Visited
from runbook_lib.record.archive import Record
from runbook_lib.record.events import ours
from runbook_lib.record.journal import last_run, orphans
from runbook_lib.record.seal import REPORT
from runbook_lib.secrets import REGISTRY
from runbook_lib.session import Prepared


def begin(record: Record, prepared: Prepared, found: ChangeFolder) -> None:
    """The first event of every run: who, what, where, why, and the journal head and the seal found on the server."""
    with suppress(OSError):  # it speaks of the run before, and this one may be killed
        (record.folder / REPORT).unlink(missing_ok=True)
    given, lost = prepared.parameters, orphans(ours(record.folder))
    record.journal.write(
        "run", notebook=prepared.kind, host=given.host, change_id=found.change_id, apply=given.apply,
        operator=prepared.operator, ticket=given.ticket, reason=given.reason, version=VERSION, cites=found.journal_head, cites_seal=found.seal,
    )  # fmt: skip
    if lost:
        what = "; ".join(f"{each['step']}: {each['purpose']}" for each in lost)
        record.journal.write(
            "unknown", orphans=[each["n"] for each in lost], text=f"an earlier run heard no result of: {what}"
        )
    if REGISTRY.unmasked:
        record.journal.write(
            "note",
            text=f"warn: too short or too common to be masked by its text, kept out by where it can flow: {', '.join(sorted(REGISTRY.unmasked))}",
        )


def note_facts(record: Record, facts: Facts, state: State) -> None:
    """What was seen on the server, without the certificates' text, and where the change stands."""
    record.journal.write("facts", **_shown(facts), state=state)


def _shown(facts: Facts) -> dict[str, object]:
    return {
        "hostname": facts.hostname, "host_key": facts.host_key, "os": facts.os, "openssl": facts.openssl,
        "apstra_version": facts.apstra_version, "listening": list(facts.listening),
        "container": asdict(facts.container) if facts.container else None,
        "conf_files": [asdict(each) for each in facts.conf_files],
        "live": digests_of(facts.live), "clock_skew_s": round(facts.clock_skew_s, 1), "free_bytes": dict(facts.free_bytes),
        "served": [{"address": each.address, "vantage": each.vantage, "protocol": each.protocol, "error": each.error} for each in facts.served],
        "listed": [list(each) for each in facts.listed],
    }  # fmt: skip


def note_orphans(record: Record, state: State) -> None:
    """What became of commands whose result no earlier run heard, as it is seen now."""
    closed = [n for event in last_run(ours(record.folder)) if event["event"] == "unknown" for n in event["orphans"]]
    if closed:
        record.journal.write("settled", orphans=closed, text=f"as seen on the server, the change is {state}")


def note_guard(record: Record, found: ChangeFolder) -> None:
    """What the guard on the server wrote down, and this record does not know yet."""
    known = {line for event in ours(record.folder) if event["event"] == "guard" for line in event["lines"]}
    lines = [line for line in found.guard_log if line not in known]
    if lines:
        with suppress(OSError):  # a full disk here must not stand in the way back
            record.journal.write("guard", lines=lines)


def note_certificate(record: Record, role: str, pair: Pair) -> None:
    """Keeps a certificate in the record, with its chain."""
    if pair.chain:
        leaf = {name: value for name, value in asdict(pair.chain[0]).items() if name != "pem"}
        dates = {name: leaf[name].isoformat() for name in ("not_before", "not_after")}
        with suppress(OSError):  # a full disk here changes nothing of what is true on the server
            record.journal.write("certificate", role=role, **(leaf | dates))
            record.add_file(f"certificate-{role}.pem", "".join(each.pem for each in pair.chain).encode())


def note_visits(record: Record, when: str, seen: Sequence[Visited]) -> None:
    """What a browser said `before` or `after`; its pictures are kept as files."""
    for number, each in enumerate(seen, 1):
        name, digest = "", ""
        with suppress(OSError):  # as above
            if each.screenshot:
                name = record.add_file(f"browser-{when}-{number}.png", each.screenshot).name
                digest = hashlib.sha256(each.screenshot).hexdigest()
            record.journal.write(
                "browser", when=when, address=each.address, url=each.url, said=each.said, error=each.error,
                chain=[one.sha256 for one in each.chain], protocol=each.protocol, status=each.status, title=each.title,
                screenshot=name, screenshot_sha256=digest,
            )  # fmt: skip
