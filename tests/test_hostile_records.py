"""Records that others had their hands in, and command lines that a shell filled in with their names: told as text, and none ends a command."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from runbook_lib.jupyter.ending import Ending
from runbook_lib.models import Outcome
from runbook_lib.record.approval import approve, last_plan
from runbook_lib.record.archive import Record, open_record
from runbook_lib.record.gate import search
from runbook_lib.record.seal import digest
from runbook_lib.secrets import Registry
from runbook_lib.sshsig import NotSigned, SigningKey
from runbook_lib.terminal import tell_what_now
from tests import sinks
from tests.change.operator import Operator
from tests.embedded import EmbeddedHost
from tests.hostile import CORPUS, file_names, lost
from tests.record.sealing import CHANGE, OPERATOR, allowing, closed, run, sealed_record, signing_key
from tests.sinks import typed

if TYPE_CHECKING:
    from runbook_lib.jupyter.recorder import Recorder
    from runbook_lib.session import Prepared

AT = "2026-06-01T12:00:00Z"
SLASH = "\N{DIVISION SLASH}"  # in the names of files
NESTED = "[" * 100_000
LARGE = 10**400
Json = dict[str, Any]


def event(kind: object, at: object = AT, **fields: object) -> bytes:
    """A line of a journal, whoever wrote it."""
    return json.dumps({"event": kind, "at": at, **fields}).encode()


RUN = event("run", notebook="install", host="127.0.0.1", operator="ada", apply=True)
DONE = event("end", outcome="done", what="", todo="")
# what stands in the journal of a replacement of this server
ODD: dict[str, list[bytes]] = {
    "brackets without end": [NESTED.encode()],
    "brackets in an event": [event("x", y=0).replace(b"0}", b"[" * 990 + b"]" * 990 + b"}")],
    "nested a thousand times": [event("x", y=0).replace(b"0}", NESTED.encode() + b"]" * 100_000 + b"}")],
    "no text at the end": [event("end", outcome="done", what=5)],
    "no outcome of ours": [event("end", outcome="\x1b[31m\u202e")],
    "no outcome": [event("end")],
    "a large duration": [event("result", step="a", purpose="b", status=0, duration_s=LARGE)],
    "a large outage": [event("probe", outage_ms=LARGE, samples=1)],
    "an outage in words": [event("probe", outage_ms="x", samples=1)],
    "a run at 5": [event("run", at=5, notebook="install", host="127.0.0.1", operator="o")],
    "a run at a list": [event("run", at=[1], notebook="install", host="127.0.0.1", operator="o")],
    "a run of other kinds": [event("run", at=AT, notebook=None, host={"a": 1}, operator=[], ticket=["x"], reason=5)],
    "no kind of event": [event(["run"]), event({"run": 1}), event(None), event(5)],
    "empty facts": [event("facts")],
    "facts of a list": [event("facts", hostname=["x"])],
    "an empty certificate": [event("certificate")],
    "a certificate of numbers": [event("certificate", role="after", common_name=[1], not_after=5, sha256=7)],
    "a certificate without a name": [event("certificate", role="after")],
    "a guard of numbers": [event("guard", lines=5)],
    "checks of numbers": [event("checks", step="x", checks=[5])],
    "digests of lists": [event("compare", digests=[[[1], [2], [3]]])],
    "an empty plan": [event("plan")],
    "a plan of numbers": [event("plan", commands=5, sha256=5, way_back=5, name=5)],
    "NaN": [b'{"event": "probe", "at": "x", "outage_ms": NaN, "samples": Infinity}'],
    "no JSON": [b"\x00\xff\x1b]52;c;x\x07 \x9b31m"],
}  # fmt: skip


def told(*line: object, ends: tuple[int, ...]) -> str:
    """What a command shows; it ends so, by itself, and a terminal obeys nothing in it."""
    ended = typed(*line)
    assert ended.exit_code in ends, (line, ended.output[-2000:], ended.exception)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    assert not list(sinks.terminal(ended.output)), line
    assert "Traceback" not in ended.output
    return ended.output


def odd_records(folder: Path) -> dict[str, Path]:
    """A record for each odd line, in a run that was done."""
    made = {}
    for number, (name, lines) in enumerate(ODD.items()):
        made[name] = folder / f"20260601T12{number:04}Z-{number:06x}"
        made[name].mkdir(parents=True)
        (made[name] / "journal.jsonl").write_bytes(b"".join(line + b"\n" for line in (RUN, *lines, DONE)))
        (made[name] / "journal.jsonl").open("ab").write(b"".join(line + b"\n" for line in (lines[0], RUN, *lines)))
    return made


def test_odd_lines_end_no_command(practice: EmbeddedHost, tmp_path: Path) -> None:
    """List, show and verify tell the record; an audit of the server that they speak of is made all the same."""
    records = odd_records(tmp_path / "records")
    whole = sealed_record(tmp_path / "other", signing_key(tmp_path), 1)
    listed = told("records", "list", "--records-dir", tmp_path / "records", ends=(0,))
    assert all(each.name in listed for each in records.values())
    for folder in records.values():
        assert "\nevery event of the record\n" in told("records", "show", folder, ends=(0,))
        told("records", "diff", folder, whole, ends=(0, 2))
        told("records", "diff", whole, folder, "--json", ends=(0, 2))
        assert "does not hang together at line" in told("verify", folder, ends=(1,))
    assert "0 proven" in told("verify", "--all", "--records-dir", tmp_path / "records", ends=(1,))
    file = tmp_path / "parameters.yaml"
    file.write_text(yaml.safe_dump(Operator(practice, tmp_path).given))
    told("audit", "-f", file, ends=(0,))


def test_texts_in_a_journal(tmp_path: Path) -> None:
    """In events as this version writes them, and in others: each arrives where the record is told."""
    for number, each in enumerate(CORPUS):
        text, folder = each.text, tmp_path / f"20260601T12{number:04}Z-{number:06x}"
        folder.mkdir()
        lines = [
            event("run", notebook=text, host=text, operator=text, ticket=text, reason=text, apply=text),
            event("certificate", role="before", common_name=text, not_after=text, sha256=text),
            event("facts", hostname=text, state=text),
            event("plan", name="install", sha256=text, way_back=f"ssh {text}", commands=[]),
            event("intent", step="install", purpose=f"arm the guard {text}"),
            event("guard", lines=[text]),
            event(text, **{text: text}),
            event("end", outcome="done", what=text, todo=text),
        ]
        (folder / "journal.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        shown = told("records", "show", folder, ends=(0,))
        assert not lost(
            shown.partition("by hand the old pair comes back with: ssh ")[2].partition("every event")[0], [each]
        )
        assert not lost(shown.partition("every event of the record")[2], [each])
    assert not lost(told("records", "list", "--records-dir", tmp_path, ends=(0,)), CORPUS)


def test_names_of_files_and_folders(tmp_path: Path) -> None:
    """Show and verify name every file, whatever it is called and wherever it was put; so do they a folder."""
    key = signing_key(tmp_path)
    record = sealed_record(tmp_path, key, 1)
    names = file_names()
    for name in names:
        (record / "files" / name).write_text("x")
        shutil.copytree(record, tmp_path / "elsewhere" / name, ignore=lambda *_: ["files"])
    for line, ends in ((("records", "show", record), 0), (("verify", record), 1)):
        assert not lost(told(*line, ends=(ends,)), names.values(), slash=SLASH)
    for name, each in names.items():
        folder = tmp_path / "elsewhere" / name
        assert not lost(told("verify", folder, ends=(1,)), [each], slash=SLASH)
        assert not lost(told("records", "show", folder, ends=(0,)), [each], slash=SLASH)
    assert "0 records" in told("records", "list", "--records-dir", tmp_path / "elsewhere", ends=(0,))


LINES: tuple[Callable[[str, Path], tuple[object, ...]], ...] = (
    lambda text, _: (text,),
    lambda text, _: ("records", text),
    lambda text, _: ("verify", f"no{text}"),
    lambda text, _: ("verify", "x", text),
    lambda text, _: ("verify", f"--{text}"),
    lambda text, record: ("verify", record, "--allowed-signers", f"/no{text}"),
    lambda text, record: ("verify", record, "--expect", text),
    lambda text, _: ("verify", "--all", "--records-dir", f"/no{text}"),
    lambda text, _: ("records", "list", "--records-dir", f"/no{text}"),
    lambda text, _: ("records", "show", f"no{text}"),
    lambda text, _: ("seal", f"no{text}"),
    lambda text, record: ("approve", record, "--approver", f"a {text}", "--signing-key", "x"),
    lambda text, _: ("approve", f"no{text}", "--approver", "a", "--signing-key", f"/no{text}"),
    lambda text, _: ("audit", "-f", f"/no{text}"),
    lambda text, _: ("audit", "-p", text, "1"),
    lambda text, _: ("audit", "-p", "host", text),
    lambda text, _: ("audit", "-y", f"{text}: [1"),
    lambda text, _: ("trust", f"-{text}"),
)  # fmt: skip


def test_command_lines(tmp_path: Path) -> None:
    """A shell fills in names that others chose: what is wrong with the line is said, 2, and no more."""
    record = sealed_record(tmp_path, signing_key(tmp_path), 1)
    for each in CORPUS:
        for line in LINES:
            if "\0" not in each.text and each.text != "half\ud83dletter":
                told(*line(each.text, record), ends=(2,))
        if "\0" not in each.text and "/" not in each.text:
            assert not lost(told("verify", "--", "x", each.text, ends=(2,)), [each])


def test_the_name_of_a_record_in_a_question(tmp_path: Path) -> None:
    """Before a plan is approved, the person is asked about it by its folder."""
    key = signing_key(tmp_path)
    for name, each in file_names().items():
        folder = tmp_path / name
        (folder / "files").mkdir(parents=True)
        (folder / "files" / "plan.json").write_bytes(b"{}")
        plan = event("plan", name=each.text, sha256=digest(b"{}"), way_back=each.text, commands=[], file="plan.json")
        (folder / "journal.jsonl").write_bytes(plan + b"\n")
        shown = told("approve", folder, "--approver", "bob", "--signing-key", key.path, ends=(3,))
        assert not lost(shown, [each], slash=SLASH)


SEALS: dict[str, Callable[[Json], object]] = {
    "half a line": lambda seal: seal["predicate"]["journal"].update(lines=1.5),
    "lines before the first": lambda seal: seal["predicate"]["journal"].update(lines=-5),
    "lines without end": lambda seal: seal["predicate"]["journal"].update(lines=LARGE),
    "no number of lines": lambda seal: seal["predicate"]["journal"].update(lines=float("nan")),
    "nested lines": lambda seal: seal["predicate"]["journal"].update(lines=NESTED),
    "an operator": lambda seal: seal["predicate"].update(operator="\x1b]52;c;YQ==\x07\u202e"),
    "a list of operators": lambda seal: seal["predicate"].update(operator=["x"]),
    "a name before": lambda seal: seal["predicate"].update(before="x"),
    "a change": lambda seal: seal["predicate"].update(change_id="\x1b]52;c;YQ==\x07\u202e"),
    "a path": lambda seal: seal["subject"].append({"name": "../../../\x1b[31m", "digest": {"sha256": "x"}}),
    "a number for a name": lambda seal: seal["subject"].append({"name": 5, "digest": {"sha256": "x"}}),
    "a number for a subject": lambda seal: seal["subject"].append(5),
    "pairs": lambda seal: seal.update(predicate=[["journal", {"lines": 1}], ["operator", "x"]]),
}  # fmt: skip


@pytest.mark.parametrize("change", SEALS.values(), ids=SEALS)
def test_seals_that_are_none(tmp_path: Path, change: Callable[[Json], object]) -> None:
    """Are not proven, and that is said."""
    key = signing_key(tmp_path)
    record = sealed_record(tmp_path, key, 1)
    (tmp_path / "allowed").write_text(allowing(key))
    seal = json.loads((record / "seals" / "0001.json").read_bytes())
    change(seal)
    (record / "seals" / "0001.json").write_text(json.dumps(seal).replace(f'"{NESTED}"', NESTED + "]" * len(NESTED)))
    assert "✘ FAIL" in told("verify", record, "--allowed-signers", tmp_path / "allowed", ends=(1,))


FILES: dict[str, tuple[str, bytes]] = {
    "nested cells": ("x.ipynb", b'{"cells": ' + NESTED.encode() + b"]" * len(NESTED) + b"}"),
    "deep cells": ("x.ipynb", b'{"cells": [' + b"[" * 900 + b"]" * 900 + b"]}"),
    "nested lines": ("x.jsonl", NESTED.encode() + b"\n"),
    "begins like a key": ("x.txt", b"MIIBAgEA " * 20_000),
    "may begin like a key": ("x.txt", b"MAAA " * 40_000),
    "a key begun again and again": ("x.txt", b"-----BEGIN " * 20_000),
}  # fmt: skip


@pytest.mark.parametrize("file", FILES.values(), ids=FILES)
def test_files_that_keep_the_gate_busy(tmp_path: Path, file: tuple[str, bytes]) -> None:
    """It looks through them in a time that goes with their length, and the record is sealed."""
    record = run(tmp_path, 1)
    (record.folder / "files" / file[0]).write_bytes(file[1])
    begun = time.monotonic()
    assert search(record.folder, Registry()) == ()
    assert time.monotonic() - begun < 15
    assert closed(record, signing_key(tmp_path)).seal


def test_what_a_notebook_says_at_its_end(tmp_path: Path) -> None:
    """Why a record is not sealed names a file, and the front end obeys nothing in that name."""
    record = run(tmp_path, 1)
    (record.folder / "files" / "\x1b]52;c;YQ==\x07\u202etxt.key").write_text("-----BEGIN PRIVATE KEY-----")
    recorder = cast("Recorder", SimpleNamespace(finish=lambda: None, complete=True))
    ending = Ending(
        recorder, cast("Prepared", SimpleNamespace(operator=OPERATOR, signing=signing_key(tmp_path))), record
    )
    said, leave = ending(False) or ("", None)  # noqa: FBT003 - as the recorder calls it
    if leave:
        leave.close()
    assert "seal: none: the record holds a private key in files/txt.key" in said
    assert not list(sinks.terminal(said))


def planned(folder: Path, commands: list[Json], shown: list[Json], file: str = "") -> tuple[Record, SigningKey]:
    """A record with a plan of these commands, whose journal shows those."""
    record = open_record(folder / "records", CHANGE, str)
    document = json.dumps({"commands": commands}).encode()
    kept = record.add_file("plan.json", document)
    record.journal.write(
        "plan", name="install", sha256=digest(document), way_back="", commands=shown, file=file or kept.name
    )
    return record, signing_key(folder)


def command(script: str) -> Json:
    """A command as the journal shows it."""
    return {
        "step": "install",
        "purpose": "p",
        "script": script,
        "undo": "",
        "stdin": "",
        "time_limit_s": 30,
        "secret_stdin": "",
    }


def test_nobody_signs_what_was_not_shown(tmp_path: Path) -> None:
    """Who may write into the record could show other commands in the journal than the plan holds."""
    ours = [{k: v for k, v in command(f"sh /x/<change-id>/guard.sh {n}").items() if k != "secret_stdin"} for n in "ab"]
    true = [command(f"sh /x/{CHANGE}/guard.sh {n}") for n in "ab"]
    for name, shown in {
        "another": [true[0], command("true")],
        "one less": true[:1],
        "none": [],
        "numbers": 5,
        "true": true,
    }.items():
        record, key = planned(tmp_path / name, ours, cast("list[Json]", shown))
        found = last_plan(record.folder)
        assert found
        if name == "true":
            approve(record, found[0], found[1].read_bytes(), approver="bob", key=key)
        else:
            with pytest.raises(NotSigned, match="holds other commands than the journal shows"):
                approve(record, found[0], found[1].read_bytes(), approver="bob", key=key)
        record.journal.close()


@pytest.mark.parametrize("path", ["../../../outside", "/tmp/outside", "../outside"])  # noqa: S108 - read by nobody
def test_no_text_is_a_path(tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a journal names lies in the record's folder of files, or it is not there."""
    record, _ = planned(tmp_path, [], [], f"{path}.json")
    found = last_plan(record.folder)
    assert found
    assert found[1] == record.folder / "files" / "outside.json"
    (tmp_path / "outside.csr").write_text("outside")
    (record.folder / "outside.csr").write_text("outside")
    record.journal.write("file")
    record.journal.write("file", name=5, bytes=1)
    record.journal.write("run", notebook="request", host="h", operator="o")
    record.journal.write("file", name=f"{path}.csr", bytes=1)
    tell_what_now(Outcome.WAITING, record.folder, "")
    record.journal.close()
    shown = capsys.readouterr().out
    assert f"The CA is to sign this CSR, {record.folder}/files/outside.csr." in shown
    assert "\noutside\n" not in shown
