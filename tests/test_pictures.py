"""Pictures: what they say in words, that text stays text, and that nothing but shapes and letters is in them."""

import datetime as dt
import xml.etree.ElementTree as ET

import pytest

from runbook_lib.pictures import MOST_ROWS, WIDTH, Span, strip, validity
from tests.hostile import BROWSER

NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
SVG = "{http://www.w3.org/2000/svg}"
ALLOWED = {"svg", "title", "desc", "rect", "line", "text"}
Box = tuple[float, float]


def days(number: float) -> dt.datetime:
    """So many days from now."""
    return NOW + dt.timedelta(days=number)


def drawn(data: bytes) -> ET.Element:
    """The picture, of which every part is one that does nothing."""
    root = ET.fromstring(data)  # noqa: S314 - made by ourselves a moment ago
    for each in root.iter():
        assert each.tag.removeprefix(SVG) in ALLOWED
        assert not [name for name in each.attrib if name.startswith("on") or "href" in name or name == "style"]
    return root


def texts(root: ET.Element) -> list[str]:
    """Every text that is seen."""
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def bars(root: ET.Element) -> list[Box]:
    """From where to where each bar reaches; the ground is none."""
    boxes = [(float(each.get("x", 0)), float(each.get("width", 0))) for each in root.iter(f"{SVG}rect")]
    return [(left, left + width) for left, width in boxes if width < WIDTH]


def test_a_bar_lies_where_its_days_are() -> None:
    """One that began earlier begins further left; what is over ends before today's line, and says so."""
    spans = [Span("old", "", days(-300), days(-3)), Span("new", "", days(-1), days(89))]
    root = drawn(validity("before and after", spans, NOW))
    (old_left, old_right), (new_left, new_right) = bars(root)
    (line,) = root.iter(f"{SVG}line")
    today = float(line.get("x1", 0))
    assert old_left < old_right < today
    assert old_right < new_left < today < new_right <= WIDTH
    assert "until 2026-11-22, over for 3 days" in texts(root)
    assert "until 2027-02-22, 89 days" in texts(root)
    fills = [each.get("fill") for each in root.iter(f"{SVG}rect")][1:]
    assert fills[0] == "none" != fills[1]  # told apart without colour, too


def test_one_that_was_not_seen_has_no_bar() -> None:
    """A server that did not answer is a row that says so."""
    root = drawn(validity("expiry", [Span("a", "no answer", None, None)], NOW))
    assert bars(root) == []
    assert "not known" in texts(root)


def test_more_than_can_be_read_are_counted() -> None:
    """Rows up to a number, and how many there are besides."""
    spans = [Span(f"server-{n}", "", days(-1), days(n + 1)) for n in range(MOST_ROWS + 7)]
    root = drawn(validity("expiry", spans, NOW))
    assert len(bars(root)) == MOST_ROWS
    assert "7 more are not drawn" in texts(root)


def test_the_strip_tells_what_answered() -> None:
    """Each stretch as wide as it was long, no answer the tallest, and all of it in words."""
    root = drawn(strip("outage", [(0, 500, 1), (500, 1000, 0), (1000, 2000, 2)]))
    (one, none, two) = bars(root)
    assert two[1] - two[0] == pytest.approx(2 * (none[1] - none[0]), rel=0.01)
    assert one[1] == pytest.approx(none[0], abs=0.2)
    heights = [float(each.get("height", 0)) for each in root.iter(f"{SVG}rect")][1:]
    assert max(heights) == heights[1]
    said = root.findtext(f"{SVG}desc") or ""
    assert "the old certificate for 500 ms, no answer for 500 ms, the new certificate for 1000 ms" in said


def test_nothing_was_seen_at_all() -> None:
    """An empty strip and no certificates are pictures all the same."""
    drawn(strip("outage", []))
    drawn(validity("expiry", [], NOW))


@pytest.mark.parametrize("hostile", [str(each) for each in BROWSER], ids=str)
def test_hostile_text_is_a_text(hostile: str) -> None:
    """In a label, what stands below it, and the title: no element comes of it, and the same text gives the same picture."""
    data = validity(hostile, [Span(hostile, hostile, days(-1), days(1))], NOW)
    drawn(data)
    drawn(strip(hostile, [(0, 1, 0)]))
    assert data == validity(hostile, [Span(hostile, hostile, days(-1), days(1))], NOW)
