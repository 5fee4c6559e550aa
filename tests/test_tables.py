"""Tables: foreign text is data in both forms, verdicts can be read without colour, and columns fit."""

import datetime as dt
import html.parser
import os
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from wcwidth import wcswidth

from runbook_lib.models import (
    Check,
    Command,
    CommandResult,
    FileFact,
    KeyDigest,
    Plan,
    PlannedCommand,
    Said,
    Served,
    Verdict,
    Visited,
)
from runbook_lib.pictures import Span
from runbook_lib.secrets import MASK, REGISTRY
from runbook_lib.tables import (
    MARKS,
    Table,
    browser_table,
    certificates_table,
    checks_table,
    compare_table,
    expiry_table,
    facts_table,
    fingerprint,
    milliseconds,
    moment,
    plan_table,
    served_table,
    step_table,
    summary_table,
    table,
    with_answers,
)
from tests.pki.authority import DAY, NOW, issue
from tests.steps.facts import NEW, OLD, a_container, a_server, seen, with_change

BAD_HTML = """<img src=x onerror="alert(1)"></td></table></style><script>alert('2')</script>&lt;b&gt;"""
BAD_TERMINAL = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ \u202eevil\u2066 \x9b1m \x07\x08\r\x7f\u2028\u200b\ufeff\ud800\ue000"
BAD = f"{BAD_HTML} {BAD_TERMINAL}"
LEAF = replace(NEW.certificate, common_name=BAD, subject=BAD, issuer=BAD, san=(BAD,), serial=BAD, key=BAD)
COMMAND = Command(BAD, BAD, BAD, BAD_HTML)
CHECK = Check(BAD, BAD, BAD, Verdict.FAIL, BAD, BAD)
FILE = FileFact(BAD, BAD, BAD, BAD, BAD, 1, "")
HOSTILE: dict[str, Callable[[], Table]] = {
    "any": lambda: table(BAD, (BAD, "b"), [(BAD, BAD)], (BAD,)),
    "checks": lambda: checks_table(BAD, [CHECK]),
    "plan": lambda: plan_table(Plan("install", (PlannedCommand(BAD, COMMAND),), BAD, BAD)),
    "step": lambda: step_table(BAD, [CommandResult(COMMAND, 1, BAD, BAD, 0.1)], [CHECK]),
    "browser": lambda: browser_table(BAD, [Visited(BAD, BAD, Said.REFUSED, BAD, (LEAF,), BAD, 200, BAD)], [CHECK]),
    "compare": lambda: compare_table([KeyDigest(BAD, BAD, BAD)], [CHECK]),
    "served": lambda: served_table(BAD, [Served(BAD, BAD, ("pem",), BAD), Served(BAD, BAD, (), "", BAD)], {"pem": LEAF}),
    "certificates": lambda: certificates_table(BAD, {BAD: LEAF, "b": None}),
    "certificates drawn": lambda: certificates_table(BAD, {BAD: LEAF, "b": None}, NOW),
    "expiry": lambda: expiry_table(BAD, [Span(BAD, BAD, NOW, NOW), Span(BAD, BAD, None, None)], NOW),
    "facts": lambda: facts_table(replace(a_server(), host=BAD, hostname=BAD, os=BAD, openssl=BAD, apstra_version=BAD, host_key=BAD, listening=(BAD,),
                                         container=a_container(name=BAD, status=BAD), conf_files=(FILE,))),
    "summary": lambda: summary_table({BAD: BAD}),
}  # fmt: skip
SAFE = frozenset({"style", "table", "caption", "thead", "tbody", "tr", "th", "td"})


class Tags(html.parser.HTMLParser):
    """What a browser would make of it: elements, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    """The page as a browser reads it."""
    tags = Tags()
    tags.feed(page)
    tags.close()
    return tags


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_foreign_text_is_no_html(make: Callable[[], Table]) -> None:
    """In every table, wherever the text stands: title, heading, cell. It is shown as itself and is nothing more."""
    shown = make()
    tags = parsed(shown._repr_html_())
    drawn = {"src", "alt", "width", "style"} if shown.pictures else set()
    assert tags.elements <= SAFE | ({"figure", "figcaption", "img"} if shown.pictures else set())
    assert tags.attributes <= {"id", "class", "type", "colspan", "rowspan"} | drawn
    assert BAD_HTML in tags.text


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("form", ["terminal", "HTML"])
def test_foreign_text_controls_nothing(make: Callable[[], Table], form: str) -> None:
    """No escape, bidi control, carriage return or invisible character is left in either form."""
    shown = repr(make()) if form == "terminal" else make()._repr_html_()
    assert not set(shown) & set("\x1b\x07\x08\r\x7f\x9b\u202e\u2066\u2028\u200b\ufeff\ud800\ue000")
    assert "[31m" not in shown
    assert "]0;" not in shown
    shown.encode()


@pytest.mark.parametrize("verdict", Verdict)
def test_a_verdict_is_read_without_colour(verdict: Verdict) -> None:
    """Each has a sign and a word of its own, in the terminal and in HTML with its styles taken away; colours only add to it."""
    shown = checks_table("t", [Check("q?", "e", "f", verdict, "s", "do this")])
    assert MARKS[verdict] in repr(shown)
    page = shown._repr_html_()
    assert MARKS[verdict] in re.sub(r"<style.*?</style>", "", page, flags=re.DOTALL)
    assert "background-color" in page
    signs, words = zip(*(mark.split(" ", 1) for mark in MARKS.values()), strict=True)
    assert len(set(signs)) == len(set(words)) == len(Verdict)
    assert MARKS[Verdict.FAIL].endswith("FAIL")


def test_failed_checks_come_first_and_say_what_to_do() -> None:
    """The order of the others stays; what to do is shown for all but a pass."""
    given = [Check(str(n), "e", "f", verdict, "s", f"do {n}") for n, verdict in enumerate((Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN, Verdict.FAIL))]  # fmt: skip
    rows = checks_table("t", given).rows
    assert [row[1] for row in rows] == ["2", "4", "0", "1", "3"]
    assert [row[4] for row in rows] == ["do 2", "do 4", "", "do 1", "do 3"]


KEYS: dict[str, tuple[tuple[KeyDigest, ...], Verdict]] = {
    "the same": ((KeyDigest("a", "11", "11"), KeyDigest("b", "11", "11")), Verdict.PASS),
    "another in one file": ((KeyDigest("a", "11", "11"), KeyDigest("b", "22", "22")), Verdict.FAIL),
    "another for one program": ((KeyDigest("a", "11", "22"),), Verdict.FAIL),
    "another, and one not read": ((KeyDigest("a", "11", "11"), KeyDigest("b", "22", "")), Verdict.FAIL),
    "one not read": ((KeyDigest("a", "11", "11"), KeyDigest("b", "", "11")), Verdict.UNKNOWN),
    "none read": ((KeyDigest("a", "", ""), KeyDigest("b", "", "")), Verdict.UNKNOWN),
}


@pytest.mark.parametrize("case", KEYS.values(), ids=KEYS)
def test_keys_are_marked_as_they_are(case: tuple[tuple[KeyDigest, ...], Verdict]) -> None:
    """A digest that could not be taken is unknown: never a pass, and no failure either."""
    digests, verdict = case
    assert {row[0] for row in compare_table(digests, ()).rows} == {MARKS[verdict]}


def test_a_fingerprint_is_read_in_blocks() -> None:
    """Upper-case hex, four letters a block, four blocks a line, all of it; nothing is `none`."""
    digest = NEW.certificate.sha256
    shown = fingerprint(digest)
    assert shown.replace(" ", "").replace("\n", "").lower() == digest
    assert [re.fullmatch(r"([0-9A-F]{4} ){3}[0-9A-F]{4}", line) is not None for line in shown.split("\n")] == [True] * 4
    assert fingerprint("") == "none"


def widest(shown: Table) -> int:
    """Cells of the terminal that the widest line takes."""
    return max(wcswidth(line) for line in repr(shown).splitlines())


LONG = "a long text of many words that must be broken somewhere " * 5
FITTING: dict[str, Callable[[], Table]] = {
    "checks": lambda: checks_table("t", [Check(LONG, LONG, LONG, Verdict.FAIL, LONG, LONG)]),
    "one long word": lambda: table("t", ("a", "b"), [("x" * 500, "y" * 500)]),
    "step": lambda: step_table("t", [CommandResult(Command(LONG, "x"), 0, "", "", 0.1)], []),
    "compare": lambda: compare_table([KeyDigest("nginx.key", "0" * 64, "0" * 64)], [Check(LONG, LONG, LONG, Verdict.PASS)]),
    "served": lambda: served_table("t", [seen("apstra.example.com", NEW)], {NEW.pem.decode(): NEW.certificate}),
    "certificates": lambda: certificates_table("t", {"before": OLD.certificate, "after": replace(LEAF, common_name="日本語" * 20, subject=LONG, issuer=LONG, san=(LONG,), serial="1", key="k")}),
    "facts": lambda: facts_table(with_change()),
    "summary": lambda: summary_table({"reason": LONG, "record": "/a" * 100}),
}  # fmt: skip


@pytest.mark.parametrize("columns", [80, 110, 160, 400])
@pytest.mark.parametrize("make", FITTING.values(), ids=FITTING)
def test_a_table_fits_the_terminal(make: Callable[[], Table], columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, or than what can be read at all."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((columns, 24)))
    assert widest(make()) <= min(columns, 160)


def test_columns_stand_below_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A character that is two cells wide moves nothing that stands right of it, broken over lines or not."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((40, 24)))
    rows = [("日本語", "x"), ("a日" * 20, "x\nx\nx"), ("plain", "x"), ("日" * 30, "x"), ("a\tb", "x")]
    lines = repr(table("t", ("name", "mark"), rows, keep=("mark",))).splitlines()[3:]
    assert {wcswidth(line) for line in lines if line.endswith("x")} == {37}
    assert (
        "".join(line.removesuffix("x").strip() for line in lines)
        == "日本語" + "a日" * 20 + "plain" + "日" * 30 + "a       b"
    )


def test_narrow_columns_keep_their_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wide column gives way, so that a verdict or a name is never broken in two."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((80, 24)))
    shown = repr(table("t", ("verdict", "what"), [("✔ pass", LONG)]))
    assert "✔ pass" in shown
    assert max(map(len, shown.splitlines())) > 70


def test_a_table_without_rows_is_its_headings() -> None:
    """Nothing found is no error."""
    empty = table("nothing", ("a", "b"), [])
    assert repr(empty).splitlines()[:2] == ["nothing", "a  b"]
    assert parsed(empty._repr_html_()).text.split()[-3:] == ["nothing", "a", "b"]
    assert list(empty.frame.columns) == ["a", "b"]


def test_numbers_stay_as_they_are_written() -> None:
    """A serial number or a version that looks like a number is not made one."""
    shown = repr(table("t", ("serial", "version"), [("0012345678901234567890", "1.10"), ("1e5", "0x10")]))
    assert all(each in shown for each in ("0012345678901234567890", "1.10", "1e5", "0x10"))


def test_a_plan_can_be_copied_from_the_terminal() -> None:
    """The whole script, unbroken, with its number, step, purpose and undo; what goes to standard input is named by its size."""
    script = "set -e; " + "x" * 300 + "\ncd /y"
    plan = Plan("install", (PlannedCommand("swap", Command("swap it", script, "undo it", "ä")),), "f" * 64, "back")
    lines = repr(plan_table(plan)).splitlines()
    assert lines == [
        f"plan sha256:{'f' * 64}", "1. swap: swap it", f"     {script.splitlines()[0]}", "     cd /y", "     (standard input: 2 bytes)", "   undo: undo it",
    ]  # fmt: skip
    assert plan_table(plan).rows == (("1", "swap", "swap it", f"{script}\n(standard input: 2 bytes)", "undo it"),)


def test_an_empty_plan_says_so() -> None:
    """Nothing to do is said in the title."""
    assert plan_table(Plan("install", (), "f" * 64, "")).title == f"plan sha256:{'f' * 64} (nothing to do)"


def test_a_step_that_had_nothing_to_do_says_so() -> None:
    """One row, in words."""
    assert step_table("t", [], []).rows == (("", "nothing to do", "", "done before"),)


@pytest.mark.parametrize(("status", "mark"), {0: Verdict.PASS, 1: Verdict.FAIL, 124: Verdict.FAIL}.items())
def test_a_command_is_marked_by_its_status(status: int, mark: Verdict) -> None:
    """0 passed; the status and the time it took are shown."""
    (row,) = step_table("t", [CommandResult(Command("swap", "x"), status, "", "", 0.0344)], []).rows
    assert row == (MARKS[mark], "swap", "exit status 0", f"exit status {status}, 34 ms")


def test_what_is_served_is_a_row_a_handshake() -> None:
    """A handshake that failed shows why, a certificate that cannot be read says so, neither shows another's."""
    certificate = NEW.certificate
    rows = served_table(
        "t",
        [seen("a", NEW), seen("b", vantage="direct", error="refused"), seen("c", OLD)],
        {NEW.pem.decode(): certificate},
    ).rows
    assert rows[0] == (
        "a",
        "server",
        "apstra.example.com",
        certificate.not_after.date().isoformat(),
        fingerprint(certificate.sha256),
        "1",
        "TLSv1.3",
    )
    assert rows[1] == ("b", "direct", "refused", "", "", "", "")
    assert rows[2] == ("c", "server", "unreadable", "", "", "", "")


def test_certificates_stand_side_by_side() -> None:
    """A property a row; a certificate that is not there is `none` in each."""
    shown = certificates_table("t", {"before": None, "after": NEW.certificate})
    cells = {row[0]: row[1:] for row in shown.rows}
    assert set(cells) == {
        "common name",
        "subject",
        "issuer",
        "SAN",
        "valid from",
        "valid until",
        "key",
        "serial",
        "SHA-256 fingerprint",
        "SPKI SHA-256",
    }
    assert {row[1] for row in shown.rows} == {"none"}
    assert cells["SAN"][1] == "DNS:apstra.example.com\nIP:192.0.2.10"
    assert cells["valid from"][1] == "2026-05-31 12:00:00 UTC"


def test_a_certificate_without_names_says_none() -> None:
    """An empty cell could be taken for one that was not read."""
    bare = replace(issue(san=()).certificate, common_name="")
    cells = {row[0]: row[1] for row in certificates_table("t", {"a": bare}).rows}
    assert (cells["common name"], cells["SAN"]) == ("none", "none")


def test_the_facts_of_a_server() -> None:
    """What an operator copies into the ticket, and words where there is nothing."""
    cells = {row[0]: row[1] for row in facts_table(with_change()).rows}
    assert cells["server"] == "apstra.example.com (aos-server)"
    assert cells["container"] == "aos_nginx_1, running"
    assert cells["open changes"] == "20260601T120000Z-1a2b3c"
    assert "nginx.key  mode 600  owner 0:0" in cells["files"]
    bare = {row[0]: row[1] for row in facts_table(a_server(container=None, listening=(), apstra_version="")).rows}
    assert (bare["container"], bare["listens on"], bare["Apstra"], bare["open changes"]) == (
        "none",
        "nothing",
        "version not readable",
        "none",
    )


def test_times_are_shown_in_utc() -> None:
    """Whatever zone they come in, and durations in whole milliseconds."""
    assert moment(NOW) == "2026-06-01 12:00:00 UTC"
    assert moment(NOW.astimezone(dt.timezone(dt.timedelta(hours=9)))) == "2026-06-01 12:00:00 UTC"
    assert (milliseconds(93.4), milliseconds(None)) == ("93 ms", "unknown")


def test_a_table_is_a_pandas_frame_too() -> None:
    """The same cells, for whoever wants to go on with them."""
    frame = table("t", ("a", "b"), [(1, "x")]).frame
    assert frame.to_dict("list") == {"a": ["1"], "b": ["x"]}


def test_a_terminal_shows_words_as_they_are() -> None:
    """What looks like a truth value or a number is text like any other."""
    shown = repr(table("t", ("a", "b"), [("apply", "False"), ("apply", "True"), ("number", "007")], keep=("b",)))
    assert [line.split()[-1] for line in shown.splitlines()[3:]] == ["False", "True", "007"]


def test_no_formula_is_made_of_a_command() -> None:
    """JupyterLab hands what stands between two dollar signs to MathJax, but for elements of these classes."""
    assert 'class="mathjax_ignore tex2jax_ignore"' in table("t", ("a",), [("$each | $x",)])._repr_html_()


def test_no_secret_is_drawn() -> None:
    """In a picture it could not be masked any more, and could not be seen to be there."""
    secret = "Tr0ub4dor-drawn"
    REGISTRY.add(secret, name="ssh_password")
    try:
        leaf, span = (
            replace(LEAF, common_name=secret, issuer=f"CN={secret}", san=(secret,)),
            Span(secret, secret, NOW, None),
        )
        tables = (certificates_table("t", {secret: leaf}, NOW), expiry_table("t", [span], NOW))
    finally:
        REGISTRY.clear()
    for each in (picture for shown in tables for picture in shown.pictures):
        assert MASK in each.words
        assert secret not in each.words + each.data.decode()


def test_what_ends_first_stands_first() -> None:
    """In the table as in its picture: what is over, then what is not known, then by the days that are left."""
    ends = {"far": 90, "over": -1, "near": 3, "gone": None}
    spans = [Span(name, "", NOW, None if each is None else NOW + each * DAY) for name, each in ends.items()]
    shown = expiry_table("t", spans, NOW)
    assert [row[0] for row in shown.rows] == ["over", "gone", "near", "far"]
    (picture,) = shown.pictures
    assert [each.partition(":")[0] for each in picture.words.split("; ")] == ["over", "gone", "near", "far"]


def test_what_nginx_answered_is_a_row_and_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """One picture each time that it was measured; nothing where it was not."""
    monkeypatch.setenv("COLUMNS", "160")
    shown = certificates_table("t", {"before": None, "now": LEAF}, NOW)
    assert with_answers(shown, []) == shown
    twice = with_answers(shown, [(20.4, [(0, 10, 1), (10, 30, 0), (30, 40, 2)]), (None, [(0, 5, 0)])])
    words = (
        "20 ms without an answer, the old certificate for 10 ms, no answer for 20 ms, the new certificate for 10 ms",
        "unknown without an answer, no answer for 5 ms",
    )
    assert twice.rows[-1] == ("nginx answered", "", "\n".join(words))
    assert len(twice.pictures) == len(shown.pictures) + 2
    assert "the old certificate for 10 ms" in repr(twice)


def test_pictures_stand_below_the_table() -> None:
    """In a notebook, with words that are text whoever wrote them; a terminal shows none."""
    seen = Visited("<b>$x</b>", "https://a/", Said.ACCEPTED, chain=(), title="<i>\x1b[31m", screenshot=b"\x89PNG")
    check = Check("Does it?", "accepted", "accepted", Verdict.PASS)
    shown = browser_table("as a browser sees it", [seen], [check])
    page = shown._repr_html_()
    assert 'src="data:image/png;base64,iVBORw==" alt="&lt;b&gt;$x&lt;/b&gt;: accepted"' in page
    assert 'class="mathjax_ignore tex2jax_ignore"><figcaption>' in page
    assert not re.search(r"<b>|<i>|\x1b", page)
    assert "PNG" not in repr(shown)
