"""Hostile texts through whole changes: parameters, the CA's answer, what nginx says and what lies in state_dir, into notebooks and records."""

import ast
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from runbook_lib.errors import ChecksFailed, Refused
from runbook_lib.models import Outcome
from runbook_lib.parameters import Parameters
from runbook_lib.record.archive import open_record
from runbook_lib.record.closing import close_record
from runbook_lib.record.events import ours
from runbook_lib.record.journal import Journal
from runbook_lib.record.report import render
from runbook_lib.secrets import REGISTRY
from tests import sinks
from tests.change.operator import PROJECT, Operator, certify
from tests.embedded import EmbeddedHost
from tests.hostile import CANARY, CORPUS, HUGE, lost, printable
from tests.pki.authority import Issued, ec_key
from tests.planting import CONTAINER, Planted, hostile_authority, plant_everything, plant_saying, said
from tests.record.sealing import OPERATOR, allowing, signing_key
from tests.sinks import Page, cells_of, text_of, tree, typed
from tests.test_cli import RUNBOOK

ALL = "  ".join(each.text for each in printable())
# each no longer than a certificate takes it
SUBJECT = {
    "common_name": f"=1+1'\"$({CANARY} 1)`{CANARY} 2`;{CANARY}<b onclick=x>",
    "organization": f"@SUM(1)|{CANARY}\\</script><script>alert(1)//",
    "organizational_unit": '{{7*7}}$x$#,+="<>;{0.__class__}',
    "locality": "../../../../tmp/x &lt;b&gt; שלום",
    "state": "' or 1=1; -- ${x} $(( 1 )) !! %s\\n",
}  # fmt: skip


# of events
KINDS = ["run", "end", "intent", "result", "guard", "gate", "unknown", "settled", "file", "plan", "approval", "approved", "certificate", "probe", "facts", "checks", "compare", "unsealed", "x"]  # fmt: skip


@pytest.fixture
def planted(practice_host: Callable[..., EmbeddedHost]) -> Planted:
    """A server on which host name, container, files and pair are hostile."""
    return plant_everything(practice_host(container=CONTAINER))


def signed_by(root: Issued, folder: Path) -> dict[str, Any]:
    """The parameters of a run that this CA signs for, its key in a file."""
    locked = BestAvailableEncryption(b"a passphrase of the CA")
    (folder / "ca.pem").write_bytes(root.pem)
    (folder / "ca-key.pem").write_bytes(root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    (folder / "ca-password").write_text("a passphrase of the CA")
    (folder / "ca-password").chmod(0o600)
    options = {
        "ca_certificate": f"{folder}/ca.pem",
        "ca_key": f"{folder}/ca-key.pem",
        "ca_key_password": f"file:{folder}/ca-password",
    }
    return {"signer": "local-ca", "signer_options": options, "ca_file": f"{folder}/ca.pem"}


def given(host: EmbeddedHost, folder: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any parameter
    """Parameters in which every text is hostile that can be, also the name of the folder of the records."""
    texts = dict.fromkeys(("ticket", "reason", "operator"), ALL)
    records = folder / f"records $({CANARY}) `{CANARY}` <b onclick=x>'\"&{{{{7*7}}}}"
    return {**Operator(host, folder).given, **texts, **SUBJECT, "records_dir": str(records), **more}


def test_a_replacement_through_the_notebooks(planted: Planted, tmp_path: Path) -> None:
    """nginx refuses the new pair with all the texts: notebooks, report, journal, terminal and archive tell it, and only the record is written."""
    plant_saying(planted.host, "docker", said((HUGE, *CORPUS)), to=">&2", then="exit 1", when='*"nginx -t"')
    values = given(planted.host, tmp_path, **signed_by(hostile_authority(), tmp_path))
    file, song = tmp_path / "parameters.yaml", tmp_path / "song"
    file.write_text(yaml.safe_dump(values))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / CANARY).write_text(f"#!/bin/sh\n: >'{song}'\n")
    (tmp_path / "bin" / CANARY).chmod(0o755)
    there = tree(tmp_path)
    ended = subprocess.run(
        [RUNBOOK, "replace", "-f", file], cwd=PROJECT, capture_output=True, check=False, timeout=100,
        env=os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
    )  # fmt: skip
    stdout, stderr = ended.stdout.decode(), ended.stderr.decode()
    assert ended.returncode == Outcome.ROLLED_BACK.exit_code, stderr
    assert not list(sinks.terminal(stdout + stderr))
    assert not lost(stderr, printable())

    (record,) = Path(values["records_dir"]).iterdir()
    assert stdout.splitlines()[-1] == f"outcome: rolled-back {record}"
    assert {each for each in tree(tmp_path) if record not in each.parents} == there.keys()
    assert not any(Path("/tmp").glob(f"{CANARY}-*"))  # noqa: S108 - where the texts would lead
    assert not song.exists()
    assert not planted.sang()
    request, install = sorted((record / "notebooks").iterdir())
    told_by_notebooks(request, install, values)
    told_by_record(record)


def told_by_notebooks(request: Path, install: Path, values: dict[str, Any]) -> None:
    """Both executed notebooks, whose parameters are what was given."""
    for each in (request, install):
        assert not list(sinks.notebook(each))
        source = next(cell.source for cell in cells_of(each) if cell.source.startswith("# Parameters"))
        assigned = {line.partition(" = ")[0]: line.partition(" = ")[2] for line in source.splitlines()}
        for name in ("ticket", "reason", "operator", "records_dir", *SUBJECT):
            assert ast.literal_eval(assigned[name]) == values[name]
    assert not lost(text_of(request), CORPUS)
    assert all(
        text in text_of(install)
        for text in (SUBJECT["common_name"], "the old pair is serving again", f"{CANARY} d\n<b onclick=x>")
    )


def told_by_record(record: Path) -> None:
    """Report and archive, and the journal as JSON."""
    page = (record / "report.html").read_text()
    assert not list(sinks.browser(page, whole=True))
    assert not list(sinks.terminal(page))
    assert not lost(Page(page).text, CORPUS)
    events = [json.loads(line) for line in (record / "journal.jsonl").read_bytes().splitlines()]
    complaint = next(each["stderr"] for each in events if each["event"] == "result" and each["status"])
    assert not lost(complaint, CORPUS[-20:])
    assert all(each.text in events[0]["reason"] for each in printable())
    for line in (("records", "list", "--records-dir", record.parent), ("records", "show", record), ("verify", record)):
        shown = typed(*line)
        assert not list(sinks.terminal(shown.output)), line
        assert (not lost(shown.output, CORPUS)) is ("show" in line)


async def test_a_change_to_its_end(planted: Planted, tmp_path: Path) -> None:
    """With the CA's answer; with a guard's log, a journal's head and a seal that others wrote into state_dir, and events into the journal; and a rehearsal that complains."""
    root, operator = hostile_authority(), Operator(planted.host, tmp_path)
    operator.given |= given(planted.host, tmp_path)
    operator.records = Path(operator.given["records_dir"])
    request = await operator.wait()
    folder = operator.of(request.change_id)
    assert request.record
    journal = Journal(request.record, str)
    for kind in KINDS:
        journal.write(kind)
        journal.write(kind, lines=5, orphans=5, held=[5], n=[], step=[], purpose=5, name=5, file=5, outcome=[], text=5)
    journal.close()
    for name in ("guard.log", "journal-head", "seal"):
        (folder / name).write_bytes(said(CORPUS))
    plant_saying(planted.host, "docker", said(CORPUS[:-1]), to=">&2", then="exit 1", when='"exec -i"*')
    answer = {
        "certificate_file": operator.answer(certify(operator.csr(request), root), root.x509),
        "ca_file": operator.file("root.pem", root.pem),
    }
    other = operator.answer(certify(operator.csr(request), root, key=ec_key()), name="other.pem")
    refused = await operator.run("install", **{**answer, "certificate_file": other})
    install = await operator.run("install", **answer)
    assert isinstance(refused.error, ChecksFailed)
    assert install.outcome is Outcome.DONE, install.said
    assert not list(sinks.terminal(refused.said))
    for run in (request, refused, install):
        for name, table in run.tables.items():
            assert not list(sinks.table(table)), name
    assert CORPUS[-2].text in "".join(install.tables["compare"].rows[-1])
    assert not planted.sang()

    assert install.record
    guard = "\n".join(line for event in ours(install.record) if event["event"] == "guard" for line in event["lines"])
    assert not lost(guard, [each for each in CORPUS if "\udcff" not in each.text])
    record, key = open_record(install.record.parent, install.change_id, REGISTRY.redact), signing_key(tmp_path)
    closed = close_record(record, REGISTRY, operator=OPERATOR, key=key, version="1")
    record.journal.close()
    assert closed.seal, closed.why
    page = (install.record / "report.html").read_text()
    assert not list(sinks.browser(page, whole=True))
    assert not list(sinks.terminal(page))
    assert not lost(Page(page).text, CORPUS)
    signers = operator.file("allowed", allowing(key).encode())
    proven = typed("verify", install.record, "--allowed-signers", signers)
    assert (proven.exit_code, list(sinks.terminal(proven.output))) == (0, []), proven.output


async def test_a_command_that_complains(practice: EmbeddedHost, tmp_path: Path) -> None:
    """What it wrote stands in the error as a notebook shows it, in the journal and in the report, all of it as text."""
    plant_saying(practice, "tar", said(CORPUS), to=">&2", then="exit 1", when="--xattrs*")
    refused = await Operator(practice, tmp_path).run("request")
    assert isinstance(refused.error, Refused)
    for shown in ("\n".join(refused.error._render_traceback_()), refused.said):
        assert not list(sinks.terminal(shown))
        assert not lost(shown, CORPUS)
    assert refused.record
    page = render(refused.record, "not sealed")
    assert not list(sinks.browser(page, whole=True))
    assert not lost(Page(page).text.partition("Every event")[0], CORPUS[-20:])


TEXTS = [name for name, field in Parameters.model_fields.items() if field.annotation is str]


@pytest.mark.parametrize("command", ["plan", "replace"])
def test_parameters_that_are_refused(command: str, tmp_path: Path) -> None:
    """Every text in every parameter of text at once, and as the name of one: 2, each fault told, nothing contacted, nothing written."""
    file = tmp_path / "parameters.yaml"
    for each in CORPUS:
        values = {**dict.fromkeys(TEXTS, each.text), each.text: 1, "san": [each.text], "service_addresses": [each.text]}
        file.write_text(yaml.safe_dump(values))
        ended = typed(command, "-f", file)
        assert (ended.exit_code, ended.stdout) == (Outcome.UNUSABLE.exit_code, "outcome: unusable -\n"), ended.output
        assert not list(sinks.terminal(ended.output))
        assert "Traceback" not in ended.stderr
        assert "- host: is neither a host name nor an IP address" in ended.stderr
        assert not lost(ended.stderr, [each])
    assert list(tmp_path.iterdir()) == [file]


def test_answers_of_a_ca_that_are_none(tmp_path: Path) -> None:
    """What lies in certificate_file is named for what it is and not repeated: it may be a key."""
    file, answer = tmp_path / "parameters.yaml", tmp_path / "answer"
    file.write_text(yaml.safe_dump({"host": "192.0.2.1", "certificate_file": str(answer)}))
    for each in (*CORPUS, HUGE):
        for content in (
            each.raw if each.name != "half a letter" else b"\xed\xa0\xbd",
            b"-----BEGIN CERTIFICATE-----\n" + said([each]),
        ):
            answer.write_bytes(content)
            ended = typed("audit", "-f", file)
            assert ended.exit_code == Outcome.UNUSABLE.exit_code
            wrong = "cannot be read: it is larger than 1 MiB" if each is HUGE else "holds no certificate: "
            assert f"certificate_file: {wrong}" in ended.stderr
            assert not list(sinks.terminal(ended.output))
            assert lost(ended.stderr, [each])
