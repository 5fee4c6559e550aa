"""Pictures: what they say in words, that text stays text, and that nothing but shapes and letters is in them."""

import datetime as dt
import xml.etree.ElementTree as ET

import pytest

from runbook_lib.pictures import (
    EDGE,
    MARKS,
    MOST_ROWS,
    MOST_STRETCHES,
    MOST_WORDS,
    RIGHT,
    WIDTH,
    Picture,
    Span,
    before_and_after,
    compared,
    expiry,
    strip,
)
from tests.hostile import CORPUS, LARGE

NOW = dt.datetime(2026, 11, 25, tzinfo=dt.UTC)
SVG = "{http://www.w3.org/2000/svg}"
ALLOWED = {"svg", "title", "desc", "rect", "line", "text"}
ATTRIBUTES = {
    "width", "height", "viewBox", "role", "font-family", "font-size", "font-weight", "text-anchor", "x", "y", "x1", "x2", "y1", "y2", "fill",
    "stroke", "stroke-width", "stroke-dasharray",
}  # fmt: skip
Box = tuple[float, float]


def days(number: float) -> dt.datetime:
    """So many days from now."""
    return NOW + dt.timedelta(days=number)


def drawn(picture: Picture) -> ET.Element:
    """The picture, of which every part is one that does nothing and lies within it; its words are in it."""
    root = ET.fromstring(picture.data)  # noqa: S314 - made by ourselves a moment ago
    assert (root.get("role"), root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")) == (
        "img",
        picture.title,
        picture.words,
    )
    for each in root.iter():
        assert each.tag.removeprefix(SVG) in ALLOWED
        assert set(each.attrib) <= ATTRIBUTES
        edges = [float(each.get(name, 0)) for name in ("x", "x1", "x2")]
        assert 0 <= min(edges) <= max(*edges, edges[0] + float(each.get("width", 0))) <= WIDTH
        assert "url" not in "".join(each.attrib.values())
    return root


def texts(root: ET.Element) -> list[str]:
    """Every text that is seen."""
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def bold(root: ET.Element) -> set[str]:
    """The texts that stand out."""
    return {each.text or "" for each in root.iter(f"{SVG}text") if each.get("font-weight")}


def shapes(root: ET.Element) -> list[ET.Element]:
    """The bars, the ground among them first left out."""
    return list(root.iter(f"{SVG}rect"))[1:]


def bars(root: ET.Element) -> list[Box]:
    """From where to where each bar reaches."""
    return [(float(each.get("x", 0)), float(each.get("x", 0)) + float(each.get("width", 0))) for each in shapes(root)]


CERTIFICATE = {
    "common_name": "apstra", "issuer": r"O=A\, B,CN=Old", "san": ("DNS:apstra",), "key": "rsa-2048", "spki_sha256": "ef" * 32, "sha256": "ab" * 32,
}  # fmt: skip
OLD = compared(CERTIFICATE)
NEW = compared(
    {**CERTIFICATE, "issuer": r"O=A\, B,CN=New", "san": ("DNS:apstra", "IP:192.0.2.1"), "sha256": "ab" * 31 + "00"}
)


def test_what_differs_stands_out() -> None:
    """In bold what is not the same in both, and only that; the words name it."""
    before, now = Span("before", "", days(-300), days(-3), OLD), Span("now", "", days(-1), days(89), NEW)
    picture = before_and_after("before and after", [before, now], NOW)
    root = drawn(picture)
    digests = {each for each in bold(root) if each.startswith("ABAB ABAB ABAB")}
    assert bold(root) - {"before", "now", ""} - digests == {
        "CN=Old",
        "CN=New",
        r"O=A\, B",
        "DNS:apstra",
        "IP:192.0.2.1",
    }
    assert digests  # they differ in what is not seen here
    assert not {each for each in bold(root) if each.startswith("EFEF")}
    assert texts(root).count("rsa-2048") == 2
    assert picture.words.endswith("; not the same: issuer, SAN, SHA-256")
    assert (
        "before: name apstra, issuer CN=Old O=A\\, B, SAN DNS:apstra, key rsa-2048, SPKI EFEF EFEF EFEF, SHA-256 ABAB ABAB ABAB, until"
        in picture.words
    )
    assert "until 2026-11-22, over for 3 days; now: name apstra" in picture.words


def test_what_stayed_the_same_does_not_stand_out() -> None:
    """A run that changed nothing shows so; a certificate alone is held against none."""
    same = before_and_after("t", [Span(name, "", days(-1), days(9), OLD) for name in ("before", "now")], NOW)
    assert bold(drawn(same)) == {"before", "now"}
    assert "all of it is the same" in texts(drawn(same))
    alone = before_and_after("t", [Span("before", "none", None, None), Span("now", "", days(-1), days(9), OLD)], NOW)
    assert bold(drawn(alone)) == {"before", "now"}
    assert "not the same" not in alone.words + "".join(texts(drawn(alone)))
    assert alone.words.startswith("before: none; now: name apstra")


def test_many_names_are_counted() -> None:
    """A few lines of a value, and how many more there are."""
    many = compared({"san": [f"DNS:{n}.example" for n in range(9)]})
    shown = texts(drawn(before_and_after("t", [Span("now", "", days(-1), days(1), many)], NOW)))
    assert [each for each in shown if "example" in each] == ["DNS:0.example", "DNS:1.example"]
    assert "and 7 more" in shown


def test_a_bar_lies_where_its_days_are() -> None:
    """One that began earlier begins further left; what is over ends before today's line, and is an outline."""
    root = drawn(before_and_after("t", [Span("old", "", days(-300), days(-3)), Span("new", "", days(-1), days(89))], NOW))  # fmt: skip
    (old_left, old_right), (new_left, new_right) = bars(root)
    (today,) = {float(each.get("x1", 0)) for each in root.iter(f"{SVG}line")}
    assert old_left < old_right < today
    assert old_right < new_left < today < new_right <= WIDTH
    fills = [each.get("fill") for each in shapes(root)]
    assert fills[0] == "none" != fills[1]  # told apart without colour, too


def test_expiry_is_as_long_as_there_are_days_left() -> None:
    """Bars begin today; marks stand at their days; what is over, what is not known and what ends soon differ, and all say it."""
    spans = [
        Span("over", "", days(-90), days(-2)),
        Span("gone", "no certificate seen", None, None),
        Span("near", "", days(-9), days(47)),
        Span("far", "", days(-9), days(200)),
    ]
    picture = expiry("expiry", spans, NOW)
    root = drawn(picture)
    over, near, far = bars(root)
    marks = [float(each.get("x1", 0)) for each in root.iter(f"{SVG}line") if not each.get("stroke-dasharray")]
    assert (over[0], near[0], far[0]) == (EDGE, EDGE, EDGE)
    assert [near[1], far[1]] == pytest.approx([marks[2], marks[4]], abs=0.2)
    assert len([each for each in root.iter(f"{SVG}line") if each.get("stroke-dasharray")]) == 1
    assert [each.get("fill") == "none" for each in shapes(root)] == [True, False, False]
    assert {*map(str, MARKS), "over", "no certificate seen", "until 2027-01-11, 47 days"} <= set(texts(root))
    assert picture.words == (
        "over: until 2026-11-23, over for 2 days; gone: no certificate seen; near: until 2027-01-11, 47 days; far: until 2027-06-13, 200 days"
    )


def test_one_that_is_good_for_long_leaves_room_for_the_others() -> None:
    """Ten years end open at the edge, and twenty days can still be seen."""
    root = drawn(expiry("t", [Span("lab", "", days(-1), days(3650)), Span("b", "", days(-1), days(20))], NOW))
    lab, gap, other = bars(root)
    assert lab[1] == RIGHT > gap[1] > gap[0] > lab[0]
    assert other[1] - other[0] > 20


def test_more_than_can_be_read_are_counted() -> None:
    """Rows up to a number, and how many there are besides, in the words too."""
    spans = [Span(f"server-{n}", "", days(-1), days(n + 1)) for n in range(MOST_ROWS + 7)]
    picture = expiry("expiry", spans, NOW)
    assert len(bars(drawn(picture))) == MOST_ROWS
    assert "7 more are not drawn" in texts(drawn(picture))
    assert picture.words.endswith("; 7 more are not drawn")


def test_the_strip_tells_what_answered() -> None:
    """Each stretch as wide as it was long, no answer the tallest, its time written, and all of it in words."""
    picture = strip(
        "outage", "500 ms", [(0, 600, 1), (600, 1100, 0), (1100, 1200, 2), (1200, 1300, 1), (1300, 1400, 2)]
    )
    root = drawn(picture)
    _, none, new, old, _ = bars(root)
    assert none[1] - none[0] == pytest.approx(5 * (new[1] - new[0]), rel=0.02)
    assert (none[1], new[1]) == pytest.approx((new[0], old[0]), abs=0.2)
    heights = [float(each.get("height", 0)) for each in shapes(root)]
    assert heights[1] > heights[2] > heights[3]
    assert "500 ms without an answer" in texts(root)
    assert picture.words == (
        "500 ms without an answer, the old certificate for 600 ms, no answer for 500 ms, "
        "the new certificate for 100 ms, the old certificate for 100 ms, the new certificate for 100 ms"
    )


def test_a_short_outage_of_a_long_run_can_be_seen() -> None:
    """A hundred milliseconds in half a minute take a good part of the width; the scale says from when to when that is."""
    root = drawn(strip("t", "100 ms", [(0, 10_000, 1), (10_000, 10_100, 0), (10_100, 30_000, 2)]))
    left, right = bars(root)[1]
    assert right - left > WIDTH / 8
    assert {"9.75 s", "10.35 s"} <= set(texts(root))


def test_no_more_of_a_strip_is_drawn_or_said_than_can_be_read() -> None:
    """A journal that something else wrote may hold any number of them, in any order, of any length."""
    wild = [(10**12 * (n % 2), n, n % 3) for n in range(MOST_STRETCHES + 9)]
    picture = strip("t", "unknown", wild)
    assert len(bars(drawn(picture))) == MOST_STRETCHES
    assert picture.words.endswith(f"and {len(wild) - MOST_WORDS} stretches more")


FIRST, LAST = dt.datetime.min.replace(tzinfo=dt.UTC), dt.datetime.max.replace(tzinfo=dt.UTC)


@pytest.mark.parametrize("now", [NOW, FIRST, LAST])
def test_any_time_and_none_at_all(now: dt.datetime) -> None:
    """No certificates, no stretches, and the first and last moments that there are: pictures all the same."""
    drawn(strip("t", "unknown", []))
    for spans in ([], [Span("a", "", FIRST, LAST)], [Span("a", "", LAST, FIRST)], [Span("a", "", now, now)]):
        drawn(expiry("t", spans, now))
        drawn(before_and_after("t", spans, now))


@pytest.mark.parametrize("hostile", [each.text for each in CORPUS], ids=[each.name for each in CORPUS])
def test_hostile_text_is_a_text(hostile: str) -> None:
    """Wherever it stands no element comes of it, and the same text gives the same picture."""
    span = Span(
        hostile, hostile, days(-1), days(1), compared({**dict.fromkeys(CERTIFICATE, hostile), "san": [hostile]})
    )
    for each in (before_and_after, expiry):
        picture = each(hostile, [span, Span(hostile, hostile, None, None)], NOW)
        drawn(picture)
        assert picture == each(hostile, [span, Span(hostile, hostile, None, None)], NOW)
    drawn(strip(hostile, hostile, [(0, 1, 0)]))


@pytest.mark.parametrize("letter", ["W", "i", "日", "\u0301", "a b "])
def test_a_text_is_cut_to_its_place(letter: str) -> None:
    """However wide its letters are and however long it is, it does not run into what stands beside it."""
    span = Span(letter * LARGE, "", days(-1), days(100))
    picture = expiry("t", [span], NOW)
    shown = [each for each in texts(drawn(picture)) if each.endswith("…")]
    assert [len(each) for each in shown] == [pytest.approx(30, abs=29)]
    assert len(picture.data) < 10_000
