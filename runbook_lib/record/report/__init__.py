"""The change record as a change board or an auditor reads it: one page, derived from the record's folder alone.

The page has no script, loads nothing, and is the same whenever it is made from the same folder. Every text in it goes through
`_shown`, which takes out what a reader cannot see and cuts what is too long, and is then escaped.
"""

import base64
import functools
import hashlib
import importlib.resources
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from runbook_lib.models import Check, KeyDigest, Verdict
from runbook_lib.record.archive import counted, told
from runbook_lib.record.events import Line, lines_of
from runbook_lib.record.journal import NAME, Event, JournalUnusable, check_chain, of_kind, runs_of, telling_run, whole
from runbook_lib.record.report.attempts import QUIET, SHORT, attempts, filled, moment, odd_checks, touched
from runbook_lib.record.report.browser import pictures, visits
from runbook_lib.record.report.commands import commands_of
from runbook_lib.record.report.drawings import changed, strips
from runbook_lib.record.report.evidence import Audited, audited, certificates, kept
from runbook_lib.record.report.headline import headline
from runbook_lib.record.summary import fields
from runbook_lib.tables import MARKS, Table, compare_table, fingerprint, milliseconds
from runbook_lib.text import plain

LONGEST = 4000  # characters of one text; the files beside the page have it all
_BARE: Event = {"event": "run", "at": "", "notebook": "a run that cannot be read", "host": "", "operator": ""}
_WORST_FIRST = (Verdict.FAIL, Verdict.UNKNOWN, Verdict.WARN, Verdict.PASS)
_TONES = {
    MARKS[Verdict.PASS]: "good", MARKS[Verdict.FAIL]: "bad", MARKS[Verdict.WARN]: "warn", MARKS[Verdict.UNKNOWN]: "calm",
    "changed": "calm", "not understood": "bad",
}  # fmt: skip


def render(folder: Path, sealing: str) -> str:
    """The whole page.

    Args:
        folder: The record's folder.
        sealing: One sentence about the seal.

    Returns:
        HTML, to be kept in that folder: its links are relative to it.
    """
    lines = lines_of(folder)
    events = [each.event or _BARE for each in lines if each.event or each.begins]
    runs, run = list(runs_of(events)), telling_run(events)
    number = runs.index(run) if run else 0
    approvals = [each for each in events if each["event"] in {"approval", "approved"}]
    changes = not run or run[0]["notebook"] != "audit"
    judged = _judged(run, Audited() if changes else audited(folder))
    summary, templates = fields(folder, run), _templates()
    printed = _in_css(f"{'Change' if changes else 'Audit'} {summary['change']}, ticket {summary['ticket']}")
    style = templates.get_template("report.css").render(printed=printed).encode()
    return templates.get_template("report.html.j2").render(
        style_hash=base64.b64encode(hashlib.sha256(style).digest()).decode(),
        printed=printed,
        tones=_TONES,
        headline=headline(run),
        said=_said(run),
        summary=summary,
        facts=[*_facts(run, summary, approvals, judged["counts"]), ("seal", sealing.partition(". ")[0].rstrip("."))],
        notices=[*_later(runs[number + 1 :]), *_odd(lines)],
        certificates=certificates(folder, run, [event for each in runs[:number] for event in each]),
        visits=visits(run),
        pictures=pictures(folder, run),
        probes=list(zip(of_kind(run, "probe"), strips(run), strict=True)),
        strips=any(strips(run)),
        drawn=changed(run),
        changes=changes,
        approvals=[each for each in approvals if each["event"] == "approved" or each in run] or approvals[-1:],
        **judged,
        compared=_compared(run),
        plan=next((each for each in reversed(run) if each["event"] == "plan"), {}),
        begun=run[0] if run else {},
        commands=commands_of(run, events),
        touched=list(touched(runs, number)),
        odd=odd_checks(runs, number),
        guard="\n".join(line for each in events if each["event"] == "guard" for line in each["lines"]),
        runs=attempts(runs, number),
        files=kept(folder),
        sealing=sealing,
        **_chain(folder),
        lines=len(lines),
        events=_events(lines, number),
    )


@functools.cache
def _templates() -> Environment:
    """The page and its style, which lie beside this module."""
    parts = importlib.resources.files("runbook_lib.record.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: parts.joinpath(name).read_text("utf-8")),
        autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {"told": told, "milliseconds": milliseconds}
    return environment


def _shown(value: object) -> object:
    """A value as it may stand in the page; what a macro of the template has made is left as it is."""
    if hasattr(value, "__html__"):
        return value
    text = str(value)
    left = len(text) - LONGEST
    return plain(text[:LONGEST]) + (f" [{left:,} more characters are left out here]" if left > 0 else "")


def _said(run: Sequence[Event]) -> str:
    """What the run itself said at its end, and what it told a person to do."""
    ends: list[Event] = [{}, *of_kind(run, "end")]
    end = ends[-1]
    what, todo = end.get("what", ""), end.get("todo", "")
    return f"{what}\nwhat to do: {todo}".lstrip() if todo and todo not in what else str(what)


def _facts(
    run: Sequence[Event], summary: dict[str, str], approvals: Sequence[Event], checks: str
) -> list[tuple[str, str]]:
    """What, where, who, when; without what is not known."""
    begun, found = (next(of_kind(run, name), {}) for name in ("run", "facts"))
    container = found.get("container") or {}
    applied = {"True": ", applied", "False": ", not applied"}.get(summary["apply"], "")
    known = {
        "server": summary["server"],
        "when": summary["when"],
        "operator": summary["operator"],
        "run": f"{begun['notebook']}{applied}" if run else "",
        "ticket": summary["ticket"],
        "reason": summary["reason"],
        "approval": next(
            (told(each) for each in (*reversed(list(of_kind(run, "approval"))), *approvals[-1:])), "none recorded"
        ),
        "outage": summary["outage"],
        "checks": checks or "none",
        "container": f"{container['name']}, {container['status']}" if container else "",
        "Apstra": _version(found.get("apstra_version", "")),
        "system": found.get("os", ""),
        "host key": found.get("host_key", ""),
        "runbooks": begun.get("version", ""),
    }
    without = {"approval", "outage"} if begun.get("notebook") == "audit" else set()
    return [(name, value) for name, value in known.items() if value and name not in without]


def _version(answered: str) -> str:
    """The version in what Apstra's API answered; all of it where there is none in it."""
    try:
        return str(json.loads(answered)["version"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return answered


def _later(runs: Sequence[Sequence[Event]]) -> Iterator[str]:
    for run in runs:
        said = next((event["what"] for event in of_kind(run, "end") if event.get("what")), "").partition("\n")[0]
        yield (
            f"A later run, {run[0]['notebook']} at {moment(run[0])} UTC by {run[0]['operator']}, ended {headline(run).outcome}"
            f"{said and ': '}{said}. It left the change as it was."
        )


def _odd(lines: Sequence[Line]) -> Iterator[str]:
    if odd := sum(not each.event for each in lines):
        yield (
            f"{odd} of the {len(lines)} lines of the journal {'is no event' if odd == 1 else 'are no events'} as this version writes "
            "them; under Events they stand as they are."
        )


def _judged(run: Sequence[Event], audit: Audited) -> dict[str, Any]:
    """The checks, worst first and those that passed apart, and what an audit saw served."""
    noted = [(event["step"], _check(each)) for event in of_kind(run, "checks") for each in event["checks"]]
    ranked = sorted(
        [*noted, *(("audit", each) for each in audit.checks)], key=lambda c: _WORST_FIRST.index(c[1].verdict)
    )
    steps: dict[Check, dict[str, None]] = {}  # what several steps found alike stands once
    for step, check in ranked:
        steps.setdefault(check, {})[step] = None
    rows = [
        (MARKS[c.verdict], ", ".join(s), c.question, c.expected, c.found, c.todo, c.source) for c, s in steps.items()
    ]
    passed = [row for row in rows if row[0] == MARKS[Verdict.PASS]]
    columns = ("verdict", "step", "question", "expected", "found", "what to do", "rule from")
    return {
        "counts": counted([check.verdict for _, check in ranked]),
        "failed": filled("checks that did not pass, the worst first", columns, rows[: len(rows) - len(passed)]),
        "passed": filled("checks that passed", columns, [(*row[:5], "", row[6]) for row in passed]),
        "served": _served(audit),
    }


def _served(audit: Audited) -> Table:
    """What the handshakes of an audit saw, a row each."""
    plainly = ("address", "seen from", "common name", "issuer", "not after", "days left", "sha256", "error")
    rows = [{name: each.get(name, "") for name in plainly} for each in audit.served]
    for row in rows:
        row["not after"] = str(row["not after"])[:19].replace("T", " ")
        row["sha256"] = fingerprint(str(row["sha256"])) if row["sha256"] else ""
    columns = (*plainly[:4], "good until (UTC)", "days left", "SHA-256 fingerprint", "error")
    return replace(
        filled("what each handshake saw", columns, [tuple(row.values()) for row in rows]), monospace=columns[6:7]
    )


def _check(noted: Event) -> Check:
    return Check(
        noted["question"], noted["expected"], noted["found"], Verdict(noted["verdict"]), noted.get("source", ""), noted.get("todo", "")
    )  # fmt: skip


def _compared(run: Sequence[Event]) -> Table:
    """The public key of key, CSR and certificate, as two programs read it."""
    noted = [event["digests"] for event in of_kind(run, "compare")]
    columns = ("verdict", "what", "read by openssl on the server", "read by cryptography here")
    return replace(
        compare_table([KeyDigest(*each) for each in noted[-1]] if noted else [], ()),
        columns=columns,
        monospace=columns[2:],
    )


def _events(lines: Sequence[Line], number: int) -> Table:
    """Every line of the run that is told, and of the others those that no table of the page speaks for."""
    run, rows = -1, []
    for index, each in enumerate(lines, 1):
        run += each.begins
        if not each.event:
            rows.append((str(index), "", "not understood", each.text))
        elif run in {number, -1} or each.event["event"] not in QUIET:
            rows.append((str(index), moment(each.event), each.event["event"], told(each.event)))
    return filled("lines of the journal, in its order", ("line", "when (UTC)", "event", "what"), rows)


def _in_css(text: str) -> str:
    r"""A text as it may stand within quotes in a style sheet: all but letters and digits as `\hex ` (CSS Syntax, 4.3.7)."""
    return "".join(
        each if each.isascii() and each.isalnum() else f"\\{ord(each):x} "
        for each in plain(text[:SHORT])
        if each != "\0"
    )


def _chain(folder: Path) -> dict[str, str]:
    """What can be said of the journal as a whole, and the hash of its last line."""
    try:
        *lines, torn = whole(folder).split(b"\n")
        check_chain(lines, Path(NAME))
    except OSError as error:
        return {"journal": f"{NAME} cannot be read: {error.strerror}.", "head": ""}
    except JournalUnusable as error:
        return {"journal": f"{error.what}.", "head": ""}
    more = " and one that was cut short" if torn else ""
    return {
        "journal": f"When this page was made, {NAME} held {len(lines):,} lines{more}; each carries the hash of the one before.",
        "head": hashlib.sha256(lines[-1]).hexdigest() if lines else "",
    }
