"""The page of a record that others had their hands in: hostile texts, odd names, and lines that no run wrote."""

import json
import os
import random
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.record.archive import Record
from runbook_lib.record.journal import NAME, Event, read
from runbook_lib.record.report import LONGEST
from tests.pki.authority import issue
from tests.record.report import page as written
from tests.record.report.page import begun, check, checks, ended, page_of, recorded

HOSTILE = {
    "a script": "<script>alert(1)</script>",
    "an image": '<img src=x onerror="alert(1)">',
    "the end of the style": "</style><script>alert(1)</script>",
    "the end of an attribute": "\"><a href='javascript:alert(1)' onclick=alert(1)>x</a>",
    "the end of a cell": "</td></tr></table></pre></details><iframe src=//evil.example></iframe>",
    "a comment": "<!-- x --><!doctype x><?php x ?><![CDATA[ x ]]>",
    "a template": "{{ 7 * 7 }}{% include 'report.css' %}{# x #}",
    "entities": "&lt;script&gt;&#60;b&#62;&amp;",
    "URLs": "javascript:alert(1) data:text/html,<b>x vbscript:x //evil.example",
    "terminal controls": "\x1b[31mred\x1b[0m\x1b]8;;https://evil.example\x07link\x1b]8;;\x07\x00\x08\r",
    "turned text": "\u202egnp.exe\u202c \u2066a\u2069 \u200bz\u200d \ufeff \u2028\u2029",
    "lone surrogates": "\ud800x\udfff",
    "no end": "A" * 1_000_000,
    "many lines": "\n" * 100_000,
}


def everywhere(record: Record, text: str) -> None:
    """A run in which every text that may come from elsewhere is this one."""
    begun(record, text, host=text, operator=text, ticket=text, reason=text)
    leaf = {"common_name": text, "subject": text, "issuer": text, "san": [text], "serial": text, "key": text}
    days = {"not_before": text, "not_after": text, "sha256": text, "spki_sha256": text}
    for role in ("before", text):
        record.journal.write("certificate", role=role, **leaf, **days)
    record.journal.write(
        "facts",
        hostname=text,
        state=text,
        host_key=text,
        os=text,
        apstra_version=text,
        container={"name": text, "status": text},
    )
    checks(
        record,
        text,
        *(
            {**check(text, verdict), "expected": text, "found": text, "source": text, "todo": text}
            for verdict in ("pass", "fail")
        ),
    )
    command = {"step": text, "purpose": text, "script": text, "undo": text}
    record.journal.write(
        "plan",
        name=text,
        sha256=text,
        way_back=f"ssh {text}",
        commands=[{**command, "stdin": text}, {**command, "step": "2"}],
    )
    record.journal.write("intent", step="install", purpose=f"arm the guard {text}", script=text, undo=text)
    record.journal.write("intent", **command)
    record.journal.write("result", step=text, purpose=text, status=0, duration_s=1, stdout=text, stderr=text)
    record.journal.write("compare", digests=[[text, text, text]])
    record.journal.write("guard", lines=[text])
    record.journal.write("approval", text=text)
    record.journal.write("settled", orphans=[1], text=text)
    record.journal.write("file", name=text, bytes=1)
    record.journal.write("other", **{text: text, "more": {text: [text]}})
    ended(record, "refused", text)
    begun(record, text, operator=text)
    ended(record, "refused", text)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_no_text_is_more_than_text(tmp_path: Path, text: str) -> None:
    """Wherever it stands, also in a line that no run wrote and in what is said of the seal, nothing of it acts or hides."""
    folder = recorded(tmp_path, lambda record: everywhere(record, text))
    with (folder / NAME).open("ab") as journal:
        journal.write(
            json.dumps({"event": "end", "at": text, "what": text}, ensure_ascii=False).encode(errors="surrogatepass")
            + b"\n"
        )
        journal.write(text.replace("\n", "\r").encode(errors="surrogatepass"))
    page = page_of(folder, text)
    if len(text) < 200 and text.isprintable():
        assert page.text.count(text) > 30


def test_a_certificate_may_say_what_it_likes(tmp_path: Path) -> None:
    """Its names come from whoever made it."""
    name = '<b onclick="x">\u202e'
    leaf = issue(name, san=["DNS:x.example"]).certificate

    def write(record: Record) -> None:
        begun(record)
        written.certificate(record, "before", leaf)

    assert '<b onclick="x">' in page_of(recorded(tmp_path, write)).text


def test_a_long_text_is_cut_and_the_rest_counted(tmp_path: Path) -> None:
    """Nobody has to scroll through a megabyte, and nobody is led to believe that this was all."""

    def write(record: Record) -> None:
        begun(record)
        record.journal.write("note", text="a" * (LONGEST + 1234))
        record.journal.write("intent", step="install", purpose="x", script="b" * LONGEST)

    page = page_of(recorded(tmp_path, write))
    assert f"{'a' * LONGEST} [1,234 more characters are left out here]" in page.text
    assert "b" * LONGEST in page.text
    assert page.text.count("left out here") == 1


NAMES = [
    "plain.pem", "a b.txt", 'quote".txt', "it's.txt", "50%.txt", "a#b?c=d&e.txt", "javascript:alert(1)", "<img src=x onerror=y>", "é.txt", "line\nend.txt",
    "\u202egpj.exe", b"\xff\xfe.bin".decode(errors="surrogateescape"), 'certificate-".pem', "-rf", "data:text,html",
]  # fmt: skip


def test_links_lead_to_files_of_the_record_and_nowhere_else(tmp_path: Path) -> None:
    """Each by its quoted name, whatever it is called; a link, a pipe and a folder are none."""
    folder = recorded(tmp_path, begun)
    for place in ("files", "notebooks", "."):
        for name in NAMES:
            (folder / place / name).write_bytes(b"x")
    (folder / "notebooks" / "20260601T120005Z-300_install.ipynb").write_text("{}")
    (folder / "files" / "secret").symlink_to("/etc/passwd")
    (folder / "files" / "certificate-linked.pem").symlink_to("/etc/passwd")
    (folder / "elsewhere").symlink_to("/etc", target_is_directory=True)
    (folder / "files" / "deeper").mkdir()
    os.mkfifo(folder / "files" / "pipe")
    (folder / "report.html").write_text("an earlier one")
    page = page_of(folder)
    found = [urllib.parse.unquote(each, errors="surrogateescape") for each in page.links if not each.startswith("#")]
    files = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file() and not each.is_symlink()}
    assert set(found) == files - {"report.html"}
    assert found.count("notebooks/20260601T120005Z-300_install.ipynb") == 2
    for each in ("files/secret", "elsewhere", "files/pipe", "files/deeper"):
        assert each in page.text
    assert page.text.count("no regular file") == 5
    assert "passwd" not in page.text


WRONG: dict[str, Any] = {
    "nothing": None, "a number": 5, "a large number": 10**400, "text": "x", "a truth": True, "a list": [], "a list of lists": [[["x"]]], "a mapping": {"x": 1},
}  # fmt: skip


def an_event_of_each_kind(folder: Path) -> list[Event]:
    """What the journals of two runs hold, without what the journal adds."""

    def write(record: Record) -> None:
        written.done(record)
        written.rolled_back(record)
        record.journal.write("unknown", orphans=[3], text="x")
        record.journal.write("settled", orphans=[3], text="x")

    kinds: dict[str, Event] = {event["event"]: event for event in read(recorded(folder, write))}
    return list(kinds.values())


def variants(event: Any, value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    """The event with each of its values, however deep, replaced by this one, or left out."""
    if isinstance(event, Mapping):
        inner = [{**event, name: each} for name in event for each in variants(event[name], value)]
        return [value, *inner, *({key: event[key] for key in event if key != name} for name in event)]
    if isinstance(event, list):
        return [value, *([each, *event[1:]] for each in variants(event[0], value))] if event else [value]
    return [value]


@pytest.mark.parametrize("value", WRONG.values(), ids=WRONG)
def test_no_line_of_a_journal_ends_the_telling(tmp_path: Path, value: object) -> None:
    """Every field of every event, left out or of another kind: what is no event of ours stands as it is, the others are told."""
    lines = [json.dumps(each) for event in an_event_of_each_kind(tmp_path / "whole") for each in variants(event, value)]
    random.Random(5).shuffle(lines)
    folder = recorded(tmp_path / "broken", written.done)
    with (folder / NAME).open("a") as journal:
        journal.write("\n".join(lines) + "\n")
    page = page_of(folder)
    assert "lines of the journal are no events as this version writes them" in page.text
    assert page.text.split("Every event")[-1].count("not understood") > 40


def test_each_line_alone_does_not_end_the_telling_either(tmp_path: Path) -> None:
    """Where it stands in the only run, and nothing after it."""
    folder = tmp_path / "20260601T120000Z-1a2b3c"
    folder.mkdir()
    event_kinds = an_event_of_each_kind(tmp_path / "whole")
    run = json.dumps(next(each for each in event_kinds if each["event"] == "run"))
    for event in event_kinds:
        for line in {json.dumps(each) for each in variants(event, None)}:
            (folder / NAME).write_text(f"{run}\n{line}\n")
            page_of(folder)


RAW: dict[str, tuple[bytes, str]] = {
    "no text": (b"\xff\xfe\x00 binary", "binary"),
    "no event": (b'{"n": 1}', '{"n": 1}'),
    "a list": (b"[1, 2]", "[1, 2]"),
    "a time of no form": (b'{"event": "note", "at": "yesterday", "text": "<b>x</b>"}', '"yesterday", "text": "<b>x</b>"}'),
    "a kind that is no text": (b'{"event": ["run"], "at": "2026-06-01T12:00:00Z"}', '{"event": ["run"]'),
    "brackets without end": (b"[" * 100_000, "[" * LONGEST + " [96,000 more characters are left out here]"),
    "brackets to the end": (b"[" * 100_000 + b"]" * 100_000, "[" * LONGEST + " [196,000 more characters are left out here]"),
    "a deep event": (b'{"event": "x", "at": "2026-06-01T12:00:00Z", "y": ' + b"[" * 900 + b"]" * 900 + b"}", "[" * 900 + "]" * 900),
    "no number": (b'{"event": "probe", "at": "2026-06-01T12:00:00Z", "outage_ms": NaN, "samples": 1}', '"outage_ms": NaN'),
    "a number without end": (b'{"event": "probe", "at": "2026-06-01T12:00:00Z", "outage_ms": 1e999, "samples": 1}', '"outage_ms": 1e999'),
    "the same name twice": (b'{"event": "note", "at": "2026-06-01T12:00:00Z", "at": 5}', '"at": 5}'),
    "an empty line": (b"", ""),
}  # fmt: skip


@pytest.mark.parametrize(("line", "shown"), RAW.values(), ids=RAW)
def test_a_line_that_is_no_event_stands_as_it_is(tmp_path: Path, line: bytes, shown: str) -> None:
    """Between events that are told all the same."""
    folder = recorded(tmp_path, written.done)
    journal = folder / NAME
    journal.write_bytes(line + b"\n" + journal.read_bytes())
    page = page_of(folder)
    assert page.title == "Done: the new pair is live and confirmed"
    assert page.text.count("not understood") == 1
    assert "1 of the 24 lines of the journal is no event as this version writes them" in page.text
    assert shown in page.text.split("Every event")[-1]


def test_a_run_that_cannot_be_read_is_a_run(tmp_path: Path) -> None:
    """What stands after it is not told of the run before it."""
    folder = recorded(tmp_path, written.done)
    with (folder / NAME).open("a") as journal:
        journal.write('{"event": "run", "at": "2026-06-02T12:00:00Z", "host": 5}\n')
        journal.write('{"event": "end", "at": "2026-06-02T12:00:01Z", "outcome": "waiting", "what": ""}\n')
    page = page_of(folder)
    assert page.title == "Waiting for the CA"
    assert "a run that cannot be read" in page.text


def test_files_in_place_of_folders_and_nothing_at_all(tmp_path: Path) -> None:
    """A folder that holds no record has a page that says so."""
    (tmp_path / "files").write_text("x")
    assert "The journal holds no run." in page_of(tmp_path).text
    assert "The journal holds no run." in page_of(tmp_path / "absent").text
