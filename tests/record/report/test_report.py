"""The change record as a page: what a board reads of every kind of run, and that it is there whole."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.models import Outcome
from runbook_lib.record.archive import Record
from runbook_lib.record.journal import NAME, orphans, read, runs_of
from runbook_lib.record.report import render
from runbook_lib.record.report.attempts import attempts, odd_checks
from runbook_lib.tables import fingerprint
from runbook_lib.text import plain
from tests.record.report import page as written
from tests.record.report.page import (
    AFTER,
    BEFORE,
    CHANGE,
    COMMANDS,
    WAY_BACK,
    begun,
    check,
    checks,
    ended,
    page_of,
    recorded,
)


def ending(outcome: str, notebook: str = "install") -> Callable[[Record], None]:
    """A run of one event and its end."""

    def write(record: Record) -> None:
        begun(record, notebook)
        ended(record, outcome, "what it said")

    return write


def killed(record: Record) -> None:
    """A run that was killed before it began a command."""
    written.planned(record)


def half_way(record: Record) -> None:
    """A run that was killed while nginx restarted."""
    written.armed(record)
    written.ran(record, "swap the pair")
    written.intent(record, "restart nginx")


def stood_in(record: Record) -> None:
    """A run that was killed when it had begun to put an old pair back that no guard watched any more."""
    begun(record)
    record.journal.write("intent", step="roll back", purpose="roll back: the old pair comes back", script="x", undo="")


CUT_OFF = "The journal holds no end of this run"
ON_GUARD = "The guard had been armed"
UNTOUCHED = "This run had not touched the live pair."
HEADLINES: dict[str, tuple[Callable[[Record], None], str, list[str], list[str]]] = {
    "installed": (written.done, "Done: the new pair is live and confirmed", ["outcome: done"], [CUT_OFF]),
    "requested": (ending("done", "request"), "Done: the new certificate is signed and staged", ["The live pair was not touched"], []),
    "restored": (ending("done", "restore"), "Done: the recorded pair is live again and confirmed", [], []),
    "audited": (ending("done", "audit"), "Done: the server was audited", ["Nothing was changed"], ["Way back"]),
    "of another kind": (ending("done", "renew"), "Done", [], []),
    "nothing to do": (ending("nothing-to-do"), "Nothing to do", ["is there already"], []),
    "planned": (ending("planned"), "Planned, not applied", ["ran none of them"], []),
    "unusable": (ending("unusable"), "Not begun: the parameters could not be used", [], []),
    "waiting": (ending("waiting", "request"), "Waiting for the CA", ["exit status 4"], []),
    "refused": (written.refused, "Refused: the live pair was not touched", ["1 check failed", "exit status 3"], []),
    "rolled back": (written.rolled_back, "Rolled back: the old pair is serving", ["nginx serves that pair again", "why: restart nginx failed"], []),
    "failed": (ending("failed"), "Failed", [UNTOUCHED, "what it said"], [CUT_OFF, ON_GUARD]),
    "unknown": (ending("unknown"), "Unknown: a person must look at the server", ["exit status 6"], [CUT_OFF]),
    "killed early": (killed, "Failed", [CUT_OFF, UNTOUCHED], [ON_GUARD]),
    "killed while armed": (half_way, "Unknown: a person must look at the server", [CUT_OFF, ON_GUARD], [UNTOUCHED]),
    "killed on the way back": (stood_in, "Unknown: a person must look at the server", [CUT_OFF], [ON_GUARD, UNTOUCHED]),
    "killed when confirmed": (written.confirmed, "Done: the new pair is live and confirmed", [CUT_OFF], []),
    "no run": (lambda _: None, "Failed", ["The journal holds no run."], []),
}  # fmt: skip


@pytest.mark.parametrize("case", HEADLINES.values(), ids=HEADLINES)
def test_the_headline_says_what_it_means(
    tmp_path: Path, case: tuple[Callable[[Record], None], str, list[str], list[str]]
) -> None:
    """Each outcome in words that need no knowledge of the runbooks, and nothing claimed that is not known."""
    write, title, there, not_there = case
    page = page_of(recorded(tmp_path, write))
    assert page.title == title
    assert [each for each in there if each not in page.text] == []
    assert [each for each in not_there if each in page.text] == []


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_headline(tmp_path: Path, outcome: Outcome) -> None:
    """A new one is given its words before a record can end with it."""
    page = page_of(recorded(tmp_path, ending(outcome)))
    assert f"outcome: {outcome} exit status {outcome.exit_code}" in page.text
    assert page.title


def test_what_where_who_and_when(tmp_path: Path) -> None:
    """All that a board asks first, and the way back to be copied."""
    page = page_of(recorded(tmp_path, written.done), "covered by seals/0002.json, signed by ada")
    for each in ("apstra (aos-server)", "ada", "CHG-1", "it runs out", "install, applied", "aos_nginx_1, running", "SHA256:abc", "165 ms without an answer",
                 f"sha256:{'f' * 64}", "26 pass", WAY_BACK, "covered by seals/0002.json, signed by ada", "2026-06-01T12:00:09Z confirmed", "asked 1,026 times",
                 "runbook verify DIR --allowed-signers FILE", "The journal holds no approval."):  # fmt: skip
        assert each in page.text
    assert re.search(r"Apstra\s*4\.2\.0\s", page.text)


def rows_of(html: str) -> dict[str, list[str]]:
    """The rows of the certificates by their property, each with its cells."""
    table = html.split('<section id="certificates">')[1].partition("</section>")[0]
    rows = re.findall(r'<th scope="row" role="rowheader">(.*?)</th>(.*?)</tr>', table, re.DOTALL)
    return {name: [re.sub("<.*?>", "", each) for each in re.findall(r"<td.*?</td>", cells, re.DOTALL)] for name, cells in rows}  # fmt: skip


def test_the_certificates_stand_side_by_side(tmp_path: Path) -> None:
    """Before and after, each row with the word for whether it changed."""
    rows = rows_of(page_of(recorded(tmp_path, written.done)).html)
    assert rows["common name"] == ["apstra.example.com", "apstra.example.com", "the same"]
    assert rows["SAN"] == ["DNS:apstra.example.com\nIP:192.0.2.10", "DNS:apstra.example.com\nIP:192.0.2.11", "changed"]
    assert rows["SHA-256 fingerprint"] == [fingerprint(BEFORE.sha256), fingerprint(AFTER.sha256), "changed"]
    assert rows["public key (SPKI), SHA-256"][:2] == [fingerprint(BEFORE.spki_sha256), fingerprint(AFTER.spki_sha256)]
    assert rows["valid until"][0] == f"{BEFORE.not_after:%Y-%m-%d %H:%M:%S} UTC"
    assert rows["file"] == ["certificate-before.pem, 1 certificate", "certificate-after.pem, 1 certificate", ""]


def test_a_certificate_whose_file_is_gone_is_shown_as_noted(tmp_path: Path) -> None:
    """Also where the file cannot be read as one, and where the journal notes little of it."""

    def write(record: Record) -> None:
        begun(record)
        written.certificate(record, "before", BEFORE, keep=False)
        short = {"common_name": "apstra", "not_after": "2027-06-01T12:00:00+00:00", "sha256": "ab" * 32}
        record.journal.write("certificate", role="after", **short)
        record.add_file("certificate-after.pem", b"no certificate")

    rows = rows_of(page_of(recorded(tmp_path, write)).html)
    assert rows["SHA-256 fingerprint"] == [fingerprint(BEFORE.sha256), fingerprint("ab" * 32), "changed"]
    assert rows["valid until"] == [f"{BEFORE.not_after:%Y-%m-%d %H:%M:%S} UTC", "2027-06-01 12:00:00 UTC", "changed"]
    assert rows["issuer"] == [BEFORE.issuer, "not noted", "changed"]
    assert rows["file"][:2] == ["not in the record", "not in the record"]


def test_what_was_to_be_installed_is_shown_where_nothing_was(tmp_path: Path) -> None:
    """An earlier run staged it; the live certificate is said to be unchanged."""

    def write(record: Record) -> None:
        begun(record, "request")
        record.add_file("certificate-staged.pem", AFTER.pem.encode())
        ended(record, "done")
        written.rolled_back(record)

    page = page_of(recorded(tmp_path, write))
    assert rows_of(page.html)["SHA-256 fingerprint"][1] == fingerprint(AFTER.sha256)
    assert ">staged</th>" in page.html
    assert "The live certificate after this run: unchanged." in page.text


def test_checks_that_did_not_pass_come_first(tmp_path: Path) -> None:
    """The worst of them at the top, with what to do and where the rule comes from; then all that passed."""
    page = page_of(recorded(tmp_path, written.refused))
    assert "1 fail, 1 unknown, 1 warn, 1 pass." in page.text
    section = page.text.split("rule from", 1)[1]
    order = [section.index(each) for each in ("Is it whole?", "Is it known?", "Is it open?", "Is it there?")]
    assert order == sorted(order)
    assert {"✘ FAIL", "? unknown", "! warn", "✔ pass"} <= set(re.findall(r'<span class="badge \w+">(.*?)</span>', page.html))  # fmt: skip
    assert all(each in section for each in ("torn", "mend it", "vendor's step 5"))


def test_what_several_steps_found_alike_stands_once(tmp_path: Path) -> None:
    """With the names of all of them; what they found differently stands apart."""

    def write(record: Record) -> None:
        begun(record)
        for step, found in (("compare", "yes"), ("install", "yes"), ("confirm", "no")):
            checks(record, step, check("Is it in date?", found=found))

    page = page_of(recorded(tmp_path, write))
    assert "3 pass." in page.text
    assert page.text.count("Is it in date?") == 2
    assert "compare, install" in page.text


def command_of(html: str, purpose: str) -> str:
    """What is shown of one command, as text."""
    (found,) = re.findall(rf"<li>\s*<div class=\"line\">\s*<h4>{re.escape(purpose)}</h4>.*?</li>", html, re.DOTALL)
    return re.sub("<.*?>", "", found)


def test_every_command_is_there_with_how_it_ended(tmp_path: Path) -> None:
    """Step, script, undo, when, for how long and the exit status; one that failed is told apart by word."""
    html = page_of(recorded(tmp_path, written.rolled_back)).html
    for purpose in list(COMMANDS)[:4]:
        step, script, undo, (_, seconds) = COMMANDS[purpose]
        shown = command_of(html, purpose)
        status = "✘ exit status 1" if purpose == "restart nginx" else "✔ exit status 0"
        for each in (
            step,
            script.replace("&", "&amp;").replace(">", "&gt;"),
            undo,
            status,
            f"{seconds * 1000:,.0f} ms",
            "nginx: ok",
        ):
            assert each in shown
        assert re.search(r"\d\d:\d\d:\d\d\.\d{3}", shown)
    assert "the guard&#39;s text" in command_of(html, "put the guard in place")
    assert "✔ exit status 0" in command_of(html, "roll back: the old pair comes back")
    assert "not run" in command_of(html, "keep the new pair, disarm the guard")
    assert "exit status" not in command_of(html, "keep the new pair, disarm the guard")


def test_a_command_that_was_not_heard_of_is_unknown(tmp_path: Path) -> None:
    """And what a later run saw of it stands beside it."""

    def write(record: Record) -> None:
        half_way(record)
        begun(record)
        (lost,) = orphans(read(record.folder))
        record.journal.write("unknown", orphans=[lost["n"]], text="an earlier run heard no result")
        record.journal.write("settled", orphans=[lost["n"]], text="as seen on the server, the change is rolled-back")
        ended(record, "nothing-to-do")

    shown = command_of(page_of(recorded(tmp_path, write)).html, "restart nginx")
    assert "? unknown" in shown
    assert (
        "no result was heard: what it did is unknown. Later: as seen on the server, the change is rolled-back." in shown
    )


def test_a_result_that_nothing_began_is_shown_too(tmp_path: Path) -> None:
    """On a full disk an intent may be missing, and its result is not given to another."""

    def write(record: Record) -> None:
        begun(record)
        written.intent(record, "swap the pair")
        record.journal.write("result", step="roll back", purpose="roll back", status=7, duration_s=1)

    html = page_of(recorded(tmp_path, write)).html
    assert "? unknown" in command_of(html, "swap the pair")
    assert "✘ exit status 7" in command_of(html, "roll back")


@pytest.mark.parametrize(
    ("digests", "verdict"),
    [(["ab", "ab"], "✔ pass"), (["ab", "cd"], "✘ FAIL"), (["ab", ""], "? unknown"), (["", ""], "? unknown")],
)
def test_the_public_keys_are_compared(tmp_path: Path, digests: list[str], verdict: str) -> None:
    """What could not be read is no agreement."""

    def write(record: Record) -> None:
        begun(record)
        record.journal.write("compare", digests=[["nginx.key", *digests]])

    section = page_of(recorded(tmp_path, write)).html.split('<section id="compare">')[1].partition("</section>")[0]
    assert verdict in section
    assert "nginx.key" in section


def test_the_run_that_made_a_difference_is_told_in_full(tmp_path: Path) -> None:
    """A later one that was refused is named at the top; all stand in the table of runs, and all their events at the end."""

    def write(record: Record) -> None:
        written.done(record)
        begun(record, "restore", operator="grace")
        ended(record, "refused", "1 check failed\nserver: apstra")

    page = page_of(recorded(tmp_path, write))
    assert page.title == "Done: the new pair is live and confirmed"
    assert re.search(r"A later run, restore at \S+ \S+ UTC by grace, ended refused: 1 check failed. It left the change as it was.", page.text)  # fmt: skip
    assert "1, told above" in page.text
    assert page.text.split("Every event")[-1].count("restore on apstra") == 1


def tried(record: Record) -> None:
    """What comes before a change is done: a run that was refused, two that were planned, one that was rolled back."""
    written.refused(record)
    for _ in range(2):
        written.planned(record)
        ended(record, "planned", "apply is False: nothing was changed")
    written.rolled_back(record)
    written.done(record)


def section_of(html: str, name: str) -> str:
    """The text of one section, with a bar between two cells."""
    return re.sub("<[^>]*>", "|", html.split(f'<section id="{name}">')[1].partition("</section>")[0])


def test_every_attempt_is_a_line(tmp_path: Path) -> None:
    """When, what, how it ended and why; what it ran is counted, and what did not end well is named."""
    rows = attempts(list(runs_of(read(recorded(tmp_path, tried)))), 4)
    column = {name: [row[n] for row in rows.rows] for n, name in enumerate(rows.columns)}
    assert column["attempt"] == ["1", "2", "3", "4", "5, told above"]
    assert column["outcome"] == ["refused", "planned", "planned", "rolled-back", "done"]
    assert column["why"][:3] == ["1 check failed", *["apply is False: nothing was changed"] * 2]
    assert column["commands"][:3] == ["none", "none of 5", "none of 5"]
    assert column["commands"][3:] == ["5; restart nginx: ✘ exit status 1", "5"]
    assert "ticket" not in column


def test_what_did_not_pass_in_other_attempts_is_told_in_short(tmp_path: Path) -> None:
    """The worst first, once for all attempts that found it alike, and nothing of what passed or of the run that is told."""

    def write(record: Record) -> None:
        tried(record)
        written.refused(record)

    section = section_of(page_of(recorded(tmp_path, write)).html, "checks").partition(
        "What did not pass in the other attempts"
    )
    assert "26 pass, in the attempt that is told here." in section[0]
    assert [section[2].index(each) for each in ("Is it whole?", "Is it known?", "Is it open?")] == sorted(
        section[2].index(each) for each in ("Is it whole?", "Is it known?", "Is it open?")
    )
    assert section[2].count("Is it whole?") == 1
    assert "|1, 6|" in section[2]
    assert "Is it there?" not in section[2]
    assert odd_checks([], 0).rows == ()


def test_the_commands_of_other_attempts_take_a_line(tmp_path: Path) -> None:
    """Without their scripts, and only where they touched the live pair; the run that is told has all of its own."""
    html = page_of(recorded(tmp_path, tried)).html
    section = section_of(html, "commands")
    assert section.count("docker restart aos_nginx_1") == 1
    assert section.count("in short") == 1
    assert "✘ exit status 1" in section.partition("in short")[2]


def test_the_events_of_other_attempts_are_those_that_no_table_tells(tmp_path: Path) -> None:
    """Their begin and end and what somebody did; the page says how many lines the journal has."""

    def write(record: Record) -> None:
        written.refused(record)
        record.journal.write("approved", text="bob approved the plan")
        written.done(record)

    folder = recorded(tmp_path, write)
    section = section_of(page_of(folder).html, "events")
    lines = read(folder)
    first, last = runs_of(lines)
    shown = len(last) + sum(each["event"] in {"run", "end", "approved"} for each in first)
    assert f"{shown} of {len(lines)} lines of the journal" in section
    assert "bob approved the plan" in section
    assert section.count("|install on apstra, apply True, operator ada, ticket CHG-1|") == 2


def test_sixteen_attempts_are_not_much_more_than_one(tmp_path: Path) -> None:
    """Each takes a row or a few, whatever it ran."""

    def sixteen(record: Record) -> None:
        for _ in range(3):
            tried(record)
        written.done(record)

    one, many = (
        len(page_of(recorded(tmp_path / name, write)).html) for name, write in (("1", written.done), ("16", sixteen))
    )
    assert many < 2 * one


@pytest.mark.parametrize("ticket", ["CHG-1", 'x"; } * { display: none } /*', "</style><b>", "\\22", "é\n\x1b"])
def test_every_printed_page_bears_change_and_ticket(tmp_path: Path, ticket: str) -> None:
    """In the margin, as a text of the style sheet that nothing in a ticket can end; the hash of the policy is of that style."""

    def write(record: Record) -> None:
        record.journal.write("run", notebook="install", host="apstra", operator="ada", ticket=ticket, apply=True)
        ended(record, "done")

    html = page_of(recorded(tmp_path, write)).html
    (content,) = re.findall(r'@bottom-left \{ content: "([^"]*)"; font: 8pt', html)
    assert re.fullmatch(r"([A-Za-z0-9]|\\[0-9a-f]+ )*", content)
    said = re.sub(r"\\([0-9a-f]+) ", lambda found: chr(int(found[1], 16)), content)
    assert said == f"Change {CHANGE}, ticket {plain(ticket)}"
    assert html.count("<style>") == html.count("</style>") == 1


def test_an_approval_is_told(tmp_path: Path) -> None:
    """That of the run at the top, by its text; all of them under the plan, one of another form by all its fields."""

    def write(record: Record) -> None:
        begun(record)
        record.journal.write("approval", text="advisory: no policy file")
        ended(record, "waiting")
        record.journal.write("approved", by="grace", plan="sha256:ff", rules={"two": True})

    text = page_of(recorded(tmp_path, write)).text
    assert re.search(r"approval\s*advisory: no policy file", text)
    assert 'approved: by: grace; plan: sha256:ff; rules: {"two": true}' in text


def test_the_plan_leads_to_its_bytes(tmp_path: Path) -> None:
    """Where they are in the record, so that the hash can be taken again."""

    def write(record: Record) -> None:
        begun(record)
        for name in ("plan.json", "gone.json"):
            record.journal.write("plan", sha256="f" * 64, way_back="", commands=[], file=name)
        record.add_file("plan.json", b"{}")

    folder = recorded(tmp_path, write)
    assert "It is the SHA-256 of" not in page_of(folder).text
    (folder / "files" / "gone.json").write_text("{}")
    assert "It is the SHA-256 of files/gone.json." in page_of(folder).text


def test_an_event_of_a_kind_not_known_here_is_not_dropped(tmp_path: Path) -> None:
    """It stands among the others with all its fields."""

    def write(record: Record) -> None:
        begun(record)
        record.journal.write("weather", sky="grey", degrees=11)

    assert "sky: grey; degrees: 11" in page_of(recorded(tmp_path, write)).text


AUDITED = {
    "served": [{"server": "apstra", "address": "192.0.2.10", "seen from": "direct", "common name": "apstra.example.com", "days left": 0,
                "not after": "2027-06-01T12:00:00+00:00", "sha256": "ab" * 32, "error": ""}],
    "checks": [{"question": "Is it in date?", "expected": "yes", "found": "for 0 days", "verdict": "warn"}],
}  # fmt: skip


def test_an_audit_shows_what_it_found(tmp_path: Path) -> None:
    """What is served and the checks; nothing of plans and commands, of which an audit has none."""

    def write(record: Record) -> None:
        record.journal.write("run", notebook="audit", host="apstra", operator="ada", ticket="", reason="")
        record.add_file("audit.json", json.dumps(AUDITED).encode())
        ended(record, "done")

    page = page_of(recorded(tmp_path, write))
    for each in (
        "192.0.2.10",
        "direct",
        "apstra.example.com",
        "Is it in date?",
        "for 0 days",
        "1 warn.",
        "2027-06-01 12:00:00",
        fingerprint("ab" * 32),
    ):
        assert each in page.text
    assert re.search(r'data-label="days left" class="number">0</td>', page.html)
    assert not [each for each in ("Every command", "approval", "outage") if each in page.text]
    assert "error" not in page.text


@pytest.mark.parametrize(
    "data", [None, b"", b"{", b"[]", b'{"served": [1]}', b'{"checks": [{"verdict": "good"}]}', b"\xff" * 9]
)
def test_an_audit_without_its_file_is_shown_all_the_same(tmp_path: Path, data: bytes | None) -> None:
    """A run and its end, and the files as they are."""

    def write(record: Record) -> None:
        begun(record, "audit")
        if data is not None:
            record.add_file("audit.json", data)
        ended(record, "done")

    page = page_of(recorded(tmp_path, write))
    assert page.title == "Done: the server was audited"
    assert ("files/audit.json" in page.text) is (data is not None)


def test_the_page_is_the_same_each_time(tmp_path: Path) -> None:
    """It is made of the folder alone, whatever the clock says; a report that lies there already changes nothing."""
    folder = recorded(tmp_path, written.done)
    first = render(folder, "not sealed")
    (folder / "report.html").write_text(first)
    assert render(folder, "not sealed") == first
    assert str(tmp_path) not in first


def test_an_ordinary_change_is_a_small_page(tmp_path: Path) -> None:
    """It can be sent by mail."""

    def write(record: Record) -> None:
        written.done(record)
        written.done(record)

    assert len(page_of(recorded(tmp_path, write)).html.encode()) < 100_000


def test_the_journal_is_held_against_its_own_chain(tmp_path: Path) -> None:
    """The page says with which line it ends, that one was cut short, or where it does not hang together."""
    folder = recorded(tmp_path, ending("done"))
    journal = folder / NAME
    assert (
        "When this page was made, journal.jsonl held 2 lines; each carries the hash of the one before."
        in page_of(folder).text
    )
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"n": 3')
    assert "held 2 lines and one that was cut short; each" in page_of(folder).text
    journal.write_bytes(whole.replace(b"it runs out", b"it ran out"))
    assert "journal.jsonl does not hang together at line 2." in page_of(folder).text
    journal.unlink()
    assert "journal.jsonl cannot be read: No such file or directory." in page_of(folder).text


def test_the_page_can_be_read_by_who_does_not_see_it(tmp_path: Path) -> None:
    """The language, headings that skip no level, captions, and headings of columns and rows that are told to be such."""
    page = page_of(recorded(tmp_path, written.done))
    assert ("html", {"lang": "en"}) in page.tags
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))
    tags = [tag for tag, _ in page.tags]
    assert tags.count("caption") == tags.count("table") > 4
    assert all(attributes.get("scope") in {"row", "col"} for tag, attributes in page.tags if tag == "th")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {each[1:] for each in page.links if each.startswith("#")} == ids
