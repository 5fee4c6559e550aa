"""Pictures as SVG: what changed, how long certificates are good, and when a server answered. Pure: no file, no clock, no script, no link.

Each has a ground of its own, so that it reads in a light and in a dark theme and on paper, says nothing by colour alone, and is in words
too. It is narrow, so that it can still be read where a page is as narrow as a phone. What is written in it is cut to its place.
"""

import datetime as dt
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from xml.sax.saxutils import escape

from runbook_lib.text import plain

WIDTH, EDGE, SIZE, BAR = 520, 10, 13, 12  # SIZE is that of letters, BAR how high a bar is
RIGHT, ROOM = WIDTH - EDGE, WIDTH - 2 * EDGE
LONGEST = 200  # characters of one text in words
SAID = {"SPKI": 14, "SHA-256": 14}  # characters of a digest in words; nobody listens to all of them
MOST_ROWS = 40
MOST_LINES = 3  # of one value
MOST_STRETCHES = 200
MOST_WORDS = 12  # stretches that are told one by one
INK, FAINT, LINE, GOOD, SOON, OVER, NEW = "#1f2328", "#59636e", "#d8dee4", "#2f7d3b", "#9a6700", "#b3261e", "#0b5cad"
MARKS = (
    30,
    47,
    100,
    200,
)  # days: the last three are what CA/Browser Forum ballot SC-081v3 lets a certificate live from 2029, 2027 and 2026
FURTHEST = 400  # days; what is good for longer ends open
_PART, _BLOCK = re.compile(r"(?<!\\),"), re.compile("[0-9A-F]{4}")  # of a name (RFC 4514), of a digest
DAY = dt.timedelta(days=1)
Place = tuple[float, float, float]  # where a text begins, has its middle or ends; its base line; and how wide it may be
ANSWERS = ("no answer", "the old certificate", "the new certificate")  # the states of a strip, by number


@dataclass(frozen=True, slots=True)
class Span:
    """A certificate on a time axis.

    Attributes:
        label: Whose it is.
        about: More about it, one short line.
        begin, end: From when to when it is good, UTC; None where it is not known.
        facts: Names and values of what is compared, as `compared` gives them.
    """

    label: str
    about: str
    begin: dt.datetime | None
    end: dt.datetime | None
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture and the same in words.

    Attributes:
        title: What it shows, to stand above it.
        words: The same in words, for those who do not see it.
        data: SVG in UTF-8, or a PNG.
    """

    title: str
    words: str
    data: bytes


def compared(certificate: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What of a certificate is held against another's, a line for each part; its fields are named as in `models.Certificate`."""
    issuer = sorted(_PART.split(certificate.get("issuer", "")), key=lambda part: not part.startswith("CN="))
    values = {
        "name": certificate.get("common_name", ""),
        "issuer": "\n".join(issuer),
        "SAN": "\n".join(certificate.get("san", ())),
        "key": certificate.get("key", ""),
        "SPKI": _BLOCK.sub(r"\g<0> ", certificate.get("spki_sha256", "").upper()),
        "SHA-256": _BLOCK.sub(r"\g<0> ", certificate.get("sha256", "").upper()),
    }
    return tuple((name, value.rstrip() or "none") for name, value in values.items())


def before_and_after(title: str, spans: Sequence[Span], now: dt.datetime) -> Picture:
    """Certificates side by side, what differs in bold, and below how long each is good on one time axis, with today.

    Args:
        title: What it shows.
        spans: The certificates, two as a rule; more than fit beside each other are not drawn.
        now: Today, UTC.
    """
    spans = spans[:3]
    known = [each.facts for each in spans if each.facts]
    rows = [(cells[0][0], [value for _, value in cells]) for cells in zip(*known, strict=False)]
    left, heads = EDGE + 76, [each.label for each in spans if each.facts]
    differing = [name for name, values in rows if len(set(values)) > 1]
    parts, top = [_columns(heads, left, 20, bold=True)] if heads else [], 40 if heads else 4
    for name, values in rows:
        parts.append(_text(name, (EDGE, top, left - EDGE - 6), FAINT))
        for line in zip_longest(*map(_few, values), fillvalue=""):
            parts.append(_columns(line, left, top, bold=name in differing))
            top += 18
    if len(known) > 1:
        parts.append(
            _text("bold: not the same" if differing else "all of it is the same", (left, top + 4, ROOM), FAINT)
        )
        top += 18
    parts += _axis(spans, now, top)
    told = "; ".join(
        f"{_line(each.label)}: "
        + ", ".join(
            filter(
                None, (*(f"{name} {_line(value[: SAID.get(name)])}" for name, value in each.facts), until(each, now))
            )
        )
        for each in spans
    )
    if len(known) > 1:
        told += f"; not the same: {', '.join(differing) or 'nothing'}"
    return _picture(title, told, top + 42 * len(spans) + 24, parts)


def _few(value: str) -> list[str]:
    """The first lines of a value, the last of them a count where there are more."""
    lines = value.split("\n")
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], f"and {len(lines) - MOST_LINES + 1} more"]


def _columns(values: Sequence[str], left: float, y: float, *, bold: bool) -> str:
    width, colour = (RIGHT - left) / len(values), INK if bold else FAINT
    return "".join(
        _text(value, (left + index * width, y, width - 8), colour, bold=bold) for index, value in enumerate(values)
    )


def _axis(spans: Sequence[Span], now: dt.datetime, top: float) -> Iterator[str]:
    """A bar each from the day it is good to the day it is not, and today."""
    dates = [now, *(at for each in spans for at in (each.begin, each.end) if at)]
    first, length = min(dates), max(max(dates) - min(dates), DAY)

    def x(at: dt.datetime) -> float:
        return EDGE + ROOM * ((at - first) / length)

    for index, each in enumerate(spans):
        y = top + index * 42
        yield from _headed(each, now, y)
        if each.begin and each.end:
            yield _bar(x(each.begin), x(each.end), y + 24, each, now)
        yield f'<line x1="{x(now):.1f}" x2="{x(now):.1f}" y1="{y + 20}" y2="{y + 40}" stroke="{INK}" stroke-width="2"/>'
    under = min(max(x(now), EDGE + 62), RIGHT - 62)
    yield _text(f"today, {now:%Y-%m-%d}", (under, top + 42 * len(spans) + 14, ROOM), anchor="middle")


def expiry(title: str, spans: Sequence[Span], now: dt.datetime) -> Picture:
    """A bar a server from today to the day its certificate is not good any more, in the order given.

    Args:
        title: What it shows.
        spans: The servers; more than MOST_ROWS are counted and not drawn.
        now: Today, UTC.
    """
    shown, row = spans[:MOST_ROWS], 36
    left = [_days(each.end, now) for each in shown if each.end]
    scale = ROOM / min(FURTHEST, max([MARKS[-1] + 20, *left]))
    bottom = 26 + len(shown) * row
    parts = []
    for mark in (0, *MARKS):
        x = EDGE + mark * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="22" y2="{bottom}" stroke="{LINE}"/>')
        parts.append(_text(str(mark), (x, 16, 60), FAINT, anchor="middle"))
    for index, each in enumerate(shown):
        y = 26 + index * row
        parts += _headed(each, now, y)
        parts.append(_remaining(each, now, y + 21, scale))
    more = f"{len(spans) - len(shown)} more are not drawn" if len(spans) > len(shown) else ""
    parts.append(_text(f"days from today, {now:%Y-%m-%d}", (EDGE, bottom + 18, ROOM), FAINT))
    parts.append(_text(more, (RIGHT, bottom + 18, ROOM), anchor="end"))
    words = [f"{_line(each.label)}: {until(each, now)}" for each in shown]
    return _picture(title, "; ".join(filter(None, (*words, more))), bottom + 28, parts)


def _remaining(each: Span, now: dt.datetime, y: float, scale: float) -> str:
    if each.end is None:  # a line of dots: nothing is known
        return f'<line x1="{EDGE}" x2="{RIGHT}" y1="{y + 5}" y2="{y + 5}" stroke="{FAINT}" stroke-width="2" stroke-dasharray="2 6"/>'
    if each.end <= now:
        return _bar(EDGE, RIGHT, y, each, now)
    right = EDGE + _days(each.end, now) * scale
    bar = _bar(EDGE, min(RIGHT, right), y, each, now)
    return (
        bar
        if right <= RIGHT + 1
        else f'{bar}<rect x="{RIGHT - 16}" y="{y - 1}" width="4" height="{BAR + 2}" fill="#ffffff"/>'
    )


def _headed(each: Span, now: dt.datetime, y: float) -> list[str]:
    """Whose a bar is, and on the other side until when."""
    said = until(each, now)
    return [
        _text(each.label, (EDGE, y + 16, ROOM - _wide(said) - 12), bold=True),
        _text(said, (RIGHT, y + 16, ROOM), _colour(each, now), anchor="end"),
    ]


def _bar(left: float, right: float, y: float, each: Span, now: dt.datetime) -> str:
    """What is over is an outline of dashes, without colour too."""
    over, colour = each.end is not None and each.end <= now, _colour(each, now)
    looks = f'fill="none" stroke="{colour}" stroke-dasharray="4 3"' if over else f'fill="{colour}"'
    return f'<rect x="{left:.1f}" y="{y}" width="{max(2, right - left):.1f}" height="{BAR}" {looks}/>'


def until(each: Span, now: dt.datetime) -> str:
    """Until when it is good, and how many days that are; what is said of it where that is not known."""
    if each.end is None:
        return _line(each.about) or "not known"
    days = (each.end - now) // DAY
    return f"until {each.end:%Y-%m-%d}, " + (f"{days:,} days" if each.end > now else f"over for {-days:,} days")


def _days(end: dt.datetime, now: dt.datetime) -> float:
    return (end - now) / DAY


def _colour(each: Span, now: dt.datetime) -> str:
    if each.end is None:
        return FAINT
    return OVER if each.end <= now else SOON if _days(each.end, now) < MARKS[0] else GOOD


def strip(title: str, outage: str, stretches: Sequence[tuple[int, int, int]]) -> Picture:
    """What a server answered while nginx was restarted, from left to right; where nothing answered is the tallest.

    Of what went on before the first change and after the last no more is drawn than makes these easy to see.

    Args:
        title: What it shows.
        outage: How long the longest time without an answer was, as it is written elsewhere.
        stretches: From when to when, in milliseconds, and which of ANSWERS; in order.
    """
    shown = stretches[:MOST_STRETCHES]
    first, last = (shown[0][0], max(shown[-1][1], shown[0][0] + 1)) if shown else (0, 1)
    if len(shown) > 1:
        margin = max(250, (shown[-1][0] - shown[0][1]) // 2)
        first, last = max(first, shown[0][1] - margin), min(last, shown[-1][0] + margin)
    looks = ((OVER, 24, 40), (FAINT, 46, 18), (NEW, 36, 28))  # colour, top and height of each state

    def x(at: int) -> float:
        return EDGE + ROOM * min(1, max(0, (at - first) / max(1, last - first)))

    parts = [f'<line x1="{EDGE}" x2="{RIGHT}" y1="64.5" y2="64.5" stroke="{FAINT}"/>']
    for begin, ended, state in shown:
        colour, top, height = looks[state]
        width = min(max(1.5, x(ended) - x(begin)), RIGHT - x(begin) + 1)
        parts.append(f'<rect x="{x(begin):.1f}" y="{top}" width="{width:.1f}" height="{height}" fill="{colour}"/>')
    parts += [_text(f"{outage} without an answer", (WIDTH / 2, 16, ROOM), bold=True, anchor="middle"),
              _text(f"{first / 1000:,.2f} s", (EDGE, 80, 100), FAINT), _text(f"{last / 1000:,.2f} s", (RIGHT, 80, 100), FAINT, anchor="end")]  # fmt: skip
    legend = ((1, "low: old certificate"), (2, "high: new certificate"), (0, "tall: no answer"))
    parts += [
        _text(text, (EDGE + index * ROOM / 3, 102, ROOM / 3 - 6), looks[state][0])
        for index, (state, text) in enumerate(legend)
    ]
    words = [f"{ANSWERS[state]} for {ended - begin:,} ms" for begin, ended, state in stretches]
    if len(words) > MOST_WORDS:
        words[MOST_WORDS:] = [f"and {len(words) - MOST_WORDS} stretches more"]
    return _picture(title, ", ".join((f"{_line(outage)} without an answer", *words)), 112, parts)


def _text(text: str, place: Place, colour: str = INK, *, bold: bool = False, anchor: str = "start") -> str:
    x, y, room = place
    weight = ' font-weight="bold"' if bold else ""
    cut = escape(_cut(text, room / 1.12 if bold else room))
    return f'<text x="{x:.1f}" y="{y:g}" fill="{colour}" text-anchor="{anchor}"{weight}>{cut}</text>'


def _line(text: str) -> str:
    """A text in one line, cut where it is longer than anyone reads or hears to its end."""
    return " ".join(plain(text[:LONGEST]).split()) + "…" * (len(text) > LONGEST)


def _cut(text: str, room: float) -> str:
    """As much of a text as there is room for, with an ellipsis where something is left out."""
    text = _line(text)
    if _wide(text) <= room:
        return text
    while text and _wide(f"{text}…") > room:
        text = text[:-1]
    return f"{text}…"


def _wide(text: str) -> float:
    """How wide a text is in DejaVu Sans, which is wider than other fonts without serifs, in pixels; bold an eighth wider."""
    return SIZE * sum(map(_advance, text))


def _advance(each: str) -> float:
    if unicodedata.east_asian_width(each) in {"W", "F"} or each in "MWmw@%=+…" or not each.isascii():
        return 1.0
    return 0.42 if each in "ijlrtf.,:;'|!()[]-/ " else 0.79 if each.isupper() else 0.64


def _picture(title: str, words: str, height: float, parts: Sequence[str]) -> Picture:
    title = _line(title)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:g}" viewBox="0 0 {WIDTH} {height:g}" role="img"'
    said = f"<title>{escape(title)}</title><desc>{escape(words)}</desc>"
    ground = f'<rect width="{WIDTH}" height="{height:g}" fill="#ffffff"/>'
    data = f'{head} font-family="sans-serif" font-size="{SIZE}">{said}{ground}{"".join(parts)}</svg>'
    return Picture(title, words, data.encode())
