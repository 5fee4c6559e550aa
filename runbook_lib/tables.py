"""Tables of facts, checks, plans and results: pandas for the notebook, plain text for the terminal.

Text from a server, a CA or a file is data: it is escaped for HTML before it is styled, and stripped of control and
bidi characters for the terminal.
"""

import base64
import datetime as dt
import hashlib
import html
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import zip_longest
from textwrap import indent, wrap
from typing import TYPE_CHECKING

from runbook_lib.models import (
    Certificate,
    Check,
    Command,
    CommandResult,
    Facts,
    KeyDigest,
    Plan,
    Served,
    Verdict,
    Visited,
)
from runbook_lib.pictures import WIDTH, Picture, Span, before_and_after, compared, expiry, strip, until
from runbook_lib.secrets import redact
from runbook_lib.text import plain

if TYPE_CHECKING:
    import pandas as pd

MARKS = {Verdict.PASS: "✔ pass", Verdict.FAIL: "✘ FAIL", Verdict.WARN: "! warn", Verdict.UNKNOWN: "? unknown"}
_COLOURS = {
    MARKS[Verdict.PASS]: "background-color: #e3f4e3; color: #14521a",
    MARKS[Verdict.FAIL]: "background-color: #fbe0de; color: #8c1007; font-weight: bold",
    MARKS[Verdict.WARN]: "background-color: #fdf3d3; color: #6b4e00",
    MARKS[Verdict.UNKNOWN]: "background-color: #e8eaf0; color: #39415a",
}
WIDEST = 160
LONGEST = 16 << 10  # characters of a cell; breaking one long word into lines takes time with the square of its length
_SECOND_HALF = "\0"  # of a character that is two cells wide; `plain` has left none in a text


@dataclass(frozen=True)
class Table:
    """A table that shows itself: styled HTML in a notebook, aligned text in a terminal.

    Attributes:
        title: One line above the table.
        columns: The headings.
        rows: The cells, every one text.
        monospace: Headings of columns that are shown letter by letter.
        keep: Headings of columns that a terminal never breaks.
        text: What a terminal shows instead of columns, where these would be too narrow to be read.
        pictures: What a notebook shows below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    monospace: tuple[str, ...] = ()
    text: str = ""
    keep: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()

    @property
    def frame(self) -> "pd.DataFrame":
        """The same as a pandas DataFrame."""
        import pandas as pd  # noqa: PLC0415 - a quarter of a second that a command line should not pay

        return pd.DataFrame(list(self.rows), columns=list(self.columns))

    def _repr_html_(self) -> str:
        styler = self.frame.style.format(escape="html").format_index(escape="html", axis="columns")
        styler = styler.set_uuid(hashlib.sha256(repr(self).encode()).hexdigest()[:8])  # the same table, the same HTML
        # JupyterLab would set what stands between two $ as a formula
        styler = styler.set_table_attributes('class="mathjax_ignore tex2jax_ignore"')
        styler = styler.hide(axis="index").set_caption(html.escape(self.title))
        exact = [index for index, name in enumerate(self.columns) if name in self.monospace]
        rules = [
            ("td, th", "text-align: left; vertical-align: top; white-space: pre-wrap"),
            ("caption", "text-align: left; font-weight: bold; white-space: pre-wrap; overflow-wrap: anywhere"),
        ]
        rules += [(f"td.col{index}", "font-family: monospace; overflow-wrap: anywhere") for index in exact]
        styler = styler.set_table_styles([{"selector": selector, "props": props} for selector, props in rules])
        return styler.map(lambda cell: _COLOURS.get(cell, "")).to_html() + "".join(map(_figure, self.pictures))

    def __repr__(self) -> str:
        if self.text:
            return f"{self.title}\n{self.text}"
        width = min(shutil.get_terminal_size((110, 24)).columns, WIDEST)
        rows = [[_spaced(cell) for cell in row] for row in (self.columns, *self.rows)]
        widths = _widths(rows, width, [index for index, name in enumerate(self.columns) if name in self.keep])
        rows.insert(1, ["-" * each for each in widths])
        lines = ("  ".join(map(str.ljust, line, widths)).rstrip() for row in rows for line in _lines(row, widths))
        return "\n".join([self.title, *lines]).replace(_SECOND_HALF, "")


def _figure(picture: Picture) -> str:
    kind, width = ("svg+xml", WIDTH) if picture.data.startswith(b"<svg") else ("png", 512)
    source = f"data:image/{kind};base64,{base64.b64encode(picture.data).decode()}"
    title, words = html.escape(picture.title), html.escape(picture.words)
    image = f'<img src="{source}" alt="{words}" width="{width}" style="border: 1px solid; max-width: 100%">'
    return f'<figure class="mathjax_ignore tex2jax_ignore"><figcaption>{title}</figcaption>{image}</figure>'


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterable[Sequence[str]]:
    return zip_longest(*map(_folded, row, widths), fillvalue="")


def _spaced(text: str) -> str:
    """Text that is as long as it is wide on a terminal, where a character of East Asia takes two cells."""
    text = text.expandtabs()
    return text if text.isascii() else "".join(map(_cells, text))


def _cells(character: str) -> str:
    return character + _SECOND_HALF * (unicodedata.east_asian_width(character) in {"W", "F"})


def _folded(cell: str, limit: int) -> list[str]:
    """The lines of a cell, none wider than the limit."""
    if len(cell) <= limit and "\n" not in cell:
        return [cell]
    return [part for line in cell.split("\n") for part in ([line] if len(line) <= limit else _wrapped(line, limit))]


@lru_cache(1024)  # a long table has the same words in many rows
def _wrapped(line: str, limit: int) -> list[str]:
    """The line in several; one that was broken within a wide character is one cell longer, and has room for it."""
    parts = wrap(line, limit - (_SECOND_HALF in line))
    return [_spaced(part.replace(_SECOND_HALF, "")) for part in parts]


def _widths(rows: Sequence[Sequence[str]], width: int, keep: Sequence[int]) -> list[int]:
    """Column widths that fit: narrow columns keep theirs, the wide ones share what is left."""
    natural = [
        max(len(line) for cell in column for line in (cell.split("\n") if "\n" in cell else (cell,)))
        for column in zip(*rows, strict=True)
    ]
    wide = set(range(len(natural))) - set(keep)
    left = width - 2 * (len(natural) - 1) - sum(natural[index] for index in keep)
    while wide and (fitting := {index for index in wide if natural[index] <= left // len(wide)}):
        left -= sum(natural[index] for index in fitting)
        wide -= fitting
    return [min(each, max(8, left // len(wide))) if index in wide else each for index, each in enumerate(natural)]


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    monospace: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> Table:
    """A table of anything, every cell made plain text; without secrets, which could not be found any more where a terminal breaks a line."""
    cells = tuple(tuple(_cut(_told(cell)) for cell in row) for row in rows)
    return Table(plain(title), tuple(map(plain, columns)), cells, tuple(map(plain, monospace)), keep=tuple(keep))


def _told(text: object) -> str:
    return redact(plain(text))


def _cut(text: str) -> str:
    left = len(text) - LONGEST
    return f"{text[:LONGEST]} [{left:,} more characters are left out here]" if left > 0 else text


def fingerprint(digest: str) -> str:
    """A SHA-256 as people compare it: upper-case hex in blocks of four, four blocks a line."""
    blocks = [digest[start : start + 4].upper() for start in range(0, len(digest), 4)]
    return "\n".join(" ".join(blocks[start : start + 4]) for start in range(0, len(blocks), 4)) or "none"


def checks_table(title: str, checks: Sequence[Check]) -> Table:
    """Checks, the failed ones first."""
    ranked = sorted(checks, key=lambda check: check.verdict is not Verdict.FAIL)
    rows = (
        (MARKS[c.verdict], c.question, c.expected, c.found, c.todo if c.verdict is not Verdict.PASS else "")
        for c in ranked
    )
    return table(title, ("verdict", "question", "expected", "found", "what to do"), rows)


def plan_table(plan: Plan) -> Table:
    """The commands that apply runs, each with its undo; in a terminal one below the other, to be read and copied."""
    rows = tuple(
        (index, each.step, each.command.purpose, _script(each.command), each.command.undo)
        for index, each in enumerate(plan.commands, 1)
    )
    title = f"plan sha256:{plan.sha256}" + ("" if plan.commands else " (nothing to do)")
    shown = table(title, ("", "step", "what for", "command", "undo"), rows, ("command", "undo"))
    text = (
        f"{n}. {step}: {purpose}\n{indent(script, '     ')}\n   undo: {undo}"
        for n, step, purpose, script, undo in shown.rows
    )
    return replace(shown, text="\n".join(text))


def _script(command: Command) -> str:
    given = f"{len(command.stdin.encode())} bytes" if command.stdin else "a secret" * bool(command.secret_stdin)
    return command.script + (f"\n(standard input: {given})" if given else "")


def step_table(title: str, results: Sequence[CommandResult], checks: Sequence[Check]) -> Table:
    """What a step did and what was found afterwards."""
    done = (
        (MARKS[Verdict.FAIL if result.status else Verdict.PASS], result.command.purpose, "exit status 0",
         f"exit status {result.status}, {result.duration_s * 1000:.0f} ms")
        for result in results
    )  # fmt: skip
    judged = ((MARKS[check.verdict], check.question, check.expected, check.found) for check in checks)
    rows = [*done, *judged] or [("", "nothing to do", "", "done before")]
    return table(title, ("verdict", "what", "expected", "found"), rows)


def compare_table(digests: Sequence[KeyDigest], checks: Sequence[Check]) -> Table:
    """The public keys side by side, then the judgements over the pair."""
    values = {digest for each in digests for digest in (each.server, each.here)}
    verdict = Verdict.FAIL if len(values - {""}) > 1 else Verdict.UNKNOWN if "" in values else Verdict.PASS
    keys = (
        (
            MARKS[verdict],
            f"public key of {each.file}",
            fingerprint(each.server),
            fingerprint(each.here),
        )
        for each in digests
    )
    judged = ((MARKS[check.verdict], check.question, check.expected, check.found) for check in checks)
    columns = ("verdict", "what", "openssl on the server / expected", "cryptography here / found")
    return table("key, CSR and certificate compared", columns, [*keys, *judged], columns[2:])


def served_table(title: str, served: Sequence[Served], leaves: Mapping[str, Certificate]) -> Table:
    """What handshakes saw, a row an address and vantage point; `leaves` holds the certificates by their PEM text."""

    def row(each: Served) -> tuple[object, ...]:
        leaf = leaves.get(each.chain[0]) if each.chain else None
        if leaf is None:
            return (each.address, each.vantage, each.error or "unreadable", "", "", "", "")
        days = leaf.not_after.date().isoformat()
        return (
            each.address,
            each.vantage,
            leaf.common_name,
            days,
            fingerprint(leaf.sha256),
            len(each.chain),
            each.protocol,
        )

    columns = ("address", "seen from", "common name", "good until", "SHA-256 fingerprint", "chain", "protocol")
    return table(title, columns, map(row, served), ("SHA-256 fingerprint",))


def expiry_table(title: str, spans: Sequence[Span], now: dt.datetime) -> Table:
    """Until when certificates are good, the first to end first: in words, and as a picture."""
    spans = sorted(
        (replace(each, label=_told(each.label), about=_told(each.about)) for each in spans),
        key=lambda each: each.end or now,
    )
    rows = ((each.label, each.about, until(each, now)) for each in spans)
    shown = table(title, ("address", "certificate", "good"), rows)
    return replace(shown, pictures=(expiry("how many days each certificate is still good", spans, now),))


def browser_table(title: str, seen: Sequence[Visited], checks: Sequence[Check]) -> Table:
    """What a browser made of each address, with the judgement over it; its pictures stand below."""
    rows = (
        (MARKS[check.verdict], each.address, _stacked(each.said, each.error, each.protocol),
         fingerprint(each.chain[0].sha256) if each.chain else "none", _stacked(*(one.common_name or one.subject for one in each.chain)),
         _stacked(f"HTTP {each.status}" * bool(each.status), each.title), check.todo)
        for each, check in zip(seen, checks, strict=True)
    )  # fmt: skip
    columns = ("verdict", "address", "the browser says", "leaf it saw, SHA-256", "chain", "page", "what to do")
    said = ((_told(f"{each.address}: {each.said}"), each.screenshot) for each in seen if each.screenshot)
    pictures = tuple(Picture(words, words, screenshot) for words, screenshot in said)
    return replace(table(title, columns, rows, columns[3:4], keep=columns[2:3]), pictures=pictures)


def _stacked(*lines: str) -> str:
    return "\n".join(filter(None, lines))


def certificates_table(
    title: str, certificates: Mapping[str, Certificate | None], now: dt.datetime | None = None
) -> Table:
    """Certificates side by side, a column each, a row a property; with the time, a picture of what differs and how long each is good."""
    names = tuple(certificates)
    properties: dict[str, Callable[[Certificate], str]] = {
        "common name": lambda c: c.common_name or "none",
        "subject": lambda c: c.subject,
        "issuer": lambda c: c.issuer,
        "SAN": lambda c: "\n".join(c.san) or "none",
        "valid from": lambda c: moment(c.not_before),
        "valid until": lambda c: moment(c.not_after),
        "key": lambda c: c.key,
        "serial": lambda c: c.serial,
        "SHA-256 fingerprint": lambda c: fingerprint(c.sha256),
        "SPKI SHA-256": lambda c: fingerprint(c.spki_sha256),
    }
    rows = (
        (name, *(read(c) if (c := certificates[each]) else "none" for each in names))
        for name, read in properties.items()
    )
    shown = table(title, ("", *names), rows, names)
    if now is None:
        return shown
    spans = [_span(_told(name), certificate) for name, certificate in certificates.items()]
    return replace(shown, pictures=(before_and_after(title, spans, now),))


def _span(name: str, certificate: Certificate | None) -> Span:
    if certificate is None:
        return Span(name, "none", None, None)
    facts = tuple((fact, _told(value)) for fact, value in compared(asdict(certificate)))
    return Span(name, "", certificate.not_before, certificate.not_after, facts)


def with_answers(shown: Table, measured: Sequence[tuple[float | None, Sequence[tuple[int, int, int]]]]) -> Table:
    """A table with what nginx answered while it was changed, as pictures and in a last row; each an outage (ms) and its stretches."""
    pictures = tuple(strip("what nginx answered meanwhile", milliseconds(outage), each) for outage, each in measured)
    if not pictures:
        return shown
    row = ["nginx answered", *[""] * (len(shown.columns) - 2), "\n".join(each.words for each in pictures)]
    return replace(shown, rows=(*shown.rows, tuple(row)), pictures=(*shown.pictures, *pictures))


def facts_table(facts: Facts) -> Table:
    """The server in a few rows."""
    rows = {
        "server": f"{facts.host} ({facts.hostname})",
        "host key": facts.host_key,
        "system": facts.os,
        "openssl": facts.openssl,
        "Apstra": facts.apstra_version or "version not readable",
        "container": f"{facts.container.name}, {facts.container.status}" if facts.container else "none",
        "listens on": ", ".join(facts.listening) or "nothing",
        "files": "\n".join(
            f"{e.name}  mode {e.mode}  owner {e.owner}:{e.group}  {e.sha256[:16] or e.kind}" for e in facts.conf_files
        ),
        "kept in state_dir": f"{len(facts.listed)} change{'' if len(facts.listed) == 1 else 's'}, {facts.state_bytes >> 10} KiB",
        "open changes": ", ".join(each.change_id for each in facts.changes if not each.decided) or "none",
    }
    return table(f"{facts.host} as found at {moment(facts.now)}", ("fact", "value"), rows.items(), ("value",))


def summary_table(rows: Mapping[str, object]) -> Table:
    """The fields of a change to be pasted into a ticket."""
    return table("summary", ("field", "value"), rows.items())


def milliseconds(measured: float | None) -> str:
    """A duration in milliseconds as people read it; None is what could not be measured."""
    return "unknown" if measured is None else f"{measured:.0f} ms"


def moment(at: dt.datetime) -> str:
    """A time as people read it, UTC to the second."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
