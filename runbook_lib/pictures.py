"""Pictures as SVG text: how long certificates are good, and when a server answered. Pure: no file, no clock, no script, no link.

Each has a ground of its own, so that it reads in a light and in a dark theme and on paper, and says nothing by colour alone.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from runbook_lib.text import plain

WIDTH, LABEL, ROW, FOOT = 760, 250, 44, 30
MOST_ROWS = 40
LONGEST = 34  # characters of a label
INK, FAINT, GOOD, SOON, OVER, NEW = "#1f2328", "#6e7781", "#2f7d3b", "#9a6700", "#b3261e", "#0b5cad"
SOON_DAYS = 30
Place = Callable[[dt.datetime], float]  # where a moment lies from left to right
ANSWERS = ("no answer", "the old certificate", "the new certificate")  # the states of a strip, by number


@dataclass(frozen=True, slots=True)
class Span:
    """A certificate on a time axis.

    Attributes:
        label: Whose it is.
        about: More about it, one short line.
        begin, end: From when to when it is good, UTC; None where it is not known.
    """

    label: str
    about: str
    begin: dt.datetime | None
    end: dt.datetime | None


def validity(title: str, spans: Sequence[Span], now: dt.datetime) -> bytes:
    """A bar a certificate from the day it is good to the day it is not, and today.

    Args:
        title: What it shows, for those who cannot see it too.
        spans: The certificates; more than MOST_ROWS are counted and not drawn.
        now: Today, UTC.

    Returns:
        An SVG document, UTF-8.
    """
    shown = spans[:MOST_ROWS]
    known = [each for each in shown if each.begin and each.end]
    first = min([now, *(each.begin for each in known if each.begin)])
    last = max([now + dt.timedelta(days=1), *(each.end for each in known if each.end)])
    room = WIDTH - LABEL - 20

    def x(at: dt.datetime) -> float:
        return LABEL + room * ((at - first) / (last - first))

    parts = [_row(index, each, now, x) for index, each in enumerate(shown)]
    bottom = len(shown) * ROW + 8
    parts.append(
        f'<line x1="{x(now):.1f}" x2="{x(now):.1f}" y1="4" y2="{bottom}" stroke="{INK}" stroke-dasharray="3 3"/>'
    )
    parts.append(_text(f"today, {now:%Y-%m-%d}", min(x(now), WIDTH - 110), bottom + 14, INK))
    if left := len(spans) - len(shown):
        parts.append(_text(f"{left} more are not drawn", 8, bottom + 14, FAINT))
    words = f"{title}: " + "; ".join(f"{each.label} {until(each, now)}" for each in shown)
    return _document(title, words, bottom + FOOT, parts)


def _row(index: int, each: Span, now: dt.datetime, x: Place) -> str:
    top = index * ROW + 6
    parts = [_text(each.label, 8, top + 15, INK, bold=True), _text(each.about, 8, top + 31, FAINT)]
    said, colour = until(each, now), _colour(each, now)
    if each.begin and each.end:
        begin, end = x(each.begin), x(each.end)
        filled = "none" if each.end <= now else colour  # one that is over is an outline
        parts.append(
            f'<rect x="{begin:.1f}" y="{top + 4}" width="{max(2, end - begin):.1f}" height="12" rx="2" fill="{filled}" stroke="{colour}"/>'
        )
        parts.append(_text(said, min(begin, WIDTH - 230), top + 31, colour))
    else:
        parts.append(_text(said, LABEL, top + 15, colour))
    return "".join(parts)


def until(each: Span, now: dt.datetime) -> str:
    """Until when it is good, and how many days that are."""
    if each.end is None:
        return "not known"
    days = (each.end - now) // dt.timedelta(days=1)
    return f"until {each.end:%Y-%m-%d}, " + (f"{days} days" if each.end > now else f"over for {-days} days")


def _colour(each: Span, now: dt.datetime) -> str:
    if each.end is None or each.end <= now:
        return OVER
    return SOON if each.end - now < dt.timedelta(days=SOON_DAYS) else GOOD


def strip(title: str, segments: Sequence[tuple[int, int, int]]) -> bytes:
    """What a server answered while nginx was restarted, from left to right; where nothing answered is the tallest.

    Args:
        title: What it shows.
        segments: From when to when, in milliseconds, and which of ANSWERS; in order.

    Returns:
        An SVG document, UTF-8.
    """
    end = max([1, *(ended for _, ended, _ in segments)])
    room, looks = WIDTH - 32, ((OVER, 8, 40), (FAINT, 22, 12), (NEW, 22, 26))
    parts, words = [], []
    for begin, ended, state in segments:
        colour, top, height = looks[state]
        left, width = 16 + room * begin / end, max(1.5, room * (ended - begin) / end)
        parts.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}" fill="{colour}"/>')
        words.append(f"{ANSWERS[state]} for {ended - begin} ms")
    legend = ("grey, low: the old certificate", "blue, high: the new one", "red, across: no answer")
    parts += [
        _text(text, 16 + index * 200, 70, looks[state][0])
        for index, (text, state) in enumerate(zip(legend, (1, 2, 0), strict=True))
    ]
    parts.append(_text(f"{end / 1000:.1f} s", WIDTH - 60, 70, INK))
    return _document(title, f"{title}: " + ", ".join(words), 82, parts)


def _text(text: str, x: float, y: float, colour: str, *, bold: bool = False) -> str:
    text = plain(text).replace("\n", " ")
    cut = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{weight}>{escape(cut)}</text>'


def _document(title: str, words: str, height: int, parts: Sequence[str]) -> bytes:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img"'
    said = f"<title>{escape(plain(title))}</title><desc>{escape(plain(words))}</desc>"
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    return f'{head} font-family="sans-serif" font-size="12">{said}{ground}{"".join(parts)}</svg>'.encode()
