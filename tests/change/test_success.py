"""Changes that succeed, on the embedded and the real server: what they leave behind, and what they leave alone."""

import errno
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import asyncssh
import pyrage
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from runbook_lib.audit import audit
from runbook_lib.models import Outcome, State, Verdict
from runbook_lib.pki.certificates import read_certificates
from runbook_lib.session import NOTEBOOKS, prepare
from runbook_lib.tables import MARKS
from tests.change.operator import (
    ISSUING,
    NAME,
    PAIR,
    PROJECT,
    ROOT,
    STEPS,
    Kind,
    Operator,
    Run,
    all_but_pair,
    certify,
    json_of,
    owners,
    pem,
)
from tests.embedded import EmbeddedHost
from tests.servers import FileState

OperatorOf = Callable[..., Operator]


def assert_replaced(operator: Operator, before: dict[str, FileState], first: str, install: Run) -> None:
    """The new certificate is served, all else is as it was, the backup is kept, the key is in state_dir, the guard is disarmed."""
    server, folder = operator.server, operator.of(install.change_id)
    after = server.snapshot()
    assert server.served() != first
    assert (folder / "nginx.crt").read_text().startswith(server.served())
    assert all_but_pair(after) == all_but_pair(before)
    assert after.keys() == before.keys()
    assert owners(after) == owners(before)
    for name in PAIR:
        staged, backup = (folder / name).read_bytes(), (folder / "backup" / name).read_bytes()
        assert server.path(f"{operator.given['conf_dir']}/{name}").read_bytes() == staged != backup
        assert before[name].sha256 in (folder / "backup" / "SHA256SUMS").read_text()
    assert (folder / "nginx.key").stat().st_mode & 0o777 == 0o600
    assert (folder / "decided").read_text() == "confirmed\n"
    assert install.change
    assert install.change.state is State.DONE


@pytest.mark.parametrize(("signer", "key_type"), [("local-ca", "rsa-2048"), ("self-signed", "ec-p384")])
async def test_a_signer_that_answers_at_once(operator: Operator, signer: str, key_type: str) -> None:
    """Request and install by both signers and with both kinds of key end done, and leave all as it should be."""
    before, first = operator.server.snapshot(), operator.server.served()
    signing = operator.server.signing if signer == "local-ca" else {"signer": signer}
    request, install = await operator.replace(**signing, key_type=key_type)
    assert request.change_id == install.change_id
    assert_replaced(operator, before, first, install)
    leaf = read_certificates(operator.server.served().encode())[0]
    assert (leaf.common_name, leaf.key, leaf.self_signed) == (NAME, key_type, signer == "self-signed")
    assert install.change
    shown = install.change.before_and_after()
    changed, answered = shown.pictures
    assert (changed.title, answered.title) == ("before and after", "what nginx answered meanwhile")
    assert shown.rows[-1] == ("nginx answered", "", answered.words)
    outage = next(value for name, value in install.tables["summary"].rows if name == "outage")
    assert answered.words.startswith(f"{outage}, the old certificate for ")
    assert re.search(r", no answer for .* the new certificate for [0-9,]+ ms$", answered.words)
    rehearsed = [row for row in install.tables["compare"].rows if "in a rehearsal?" in row[1]]
    assert [row[0] for row in rehearsed] == [MARKS[Verdict.PASS]]


async def test_a_person_hands_the_csr_to_a_ca(operator: Operator) -> None:
    """A manual request waits with the CSR as file and shown; the answer is taken in any form and order, all the same plan."""
    before, first = operator.server.snapshot(), operator.server.served()
    request = await operator.wait()
    assert request.record
    csr = (request.record / "files" / "nginx.csr").read_text()
    assert csr == (operator.of(request.change_id) / "nginx.csr").read_text()
    assert ("CSR", csr) in request.tables["sign"].rows
    assert operator.server.snapshot() == before
    asked = await operator.run("install", apply=False)
    assert asked.outcome is Outcome.WAITING
    assert f"hand the CSR of change {request.change_id} to the CA" in asked.said

    leaf, inter, root = certify(operator.csr(request), ISSUING), ISSUING.x509, ROOT.x509
    forms = {
        "leaf first": pem(leaf, inter),
        "leaf last, with the root": pem(root, inter, leaf),
        "windows": b"\xef\xbb\xbf" + pem(inter, leaf).replace(b"\n", b"\r\n"),
        "PKCS#7 DER": pkcs7.serialize_certificates([inter, leaf, root], Encoding.DER),
        "PKCS#7 PEM": pkcs7.serialize_certificates([root, leaf, inter], Encoding.PEM),
    }
    ca_file = operator.file("root.pem", pem(root))
    plans = set()
    for name, content in forms.items():
        planned = await operator.run(
            "install", apply=False, certificate_file=operator.file(name, content), ca_file=ca_file
        )
        assert planned.outcome is Outcome.PLANNED, (name, planned.said)
        plans.add(planned.plan_sha256)
    assert len(plans) == 1
    assert operator.server.snapshot() == before

    answer = operator.file("answer.p7b", forms["PKCS#7 DER"])
    install = await operator.run("install", certificate_file=answer, ca_file=ca_file, approved_plan=plans.pop())
    assert install.outcome is Outcome.DONE, install.said
    assert_replaced(operator, before, first, install)
    assert (operator.of(install.change_id) / "nginx.crt").read_bytes() == pem(leaf, inter)


async def test_the_answer_as_der_goes_on_by_request(operator: Operator) -> None:
    """A leaf alone as DER; the request goes on with the open change and its key, and install follows."""
    before, first = operator.server.snapshot(), operator.server.served()
    waiting = await operator.wait()
    key = (operator.of(waiting.change_id) / "nginx.key").read_bytes()
    answer = operator.file("answer.cer", certify(operator.csr(waiting)).public_bytes(Encoding.DER))
    request, install = await operator.replace(certificate_file=answer)
    assert request.change_id == waiting.change_id
    assert (operator.of(waiting.change_id) / "nginx.key").read_bytes() == key
    assert_replaced(operator, before, first, install)


async def test_a_colleague_goes_on_from_another_machine(operator: Operator, tmp_path: Path) -> None:
    """With records of their own, install goes on; its part of the record cites the journal head found on the server."""
    waiting = await operator.wait()
    (tmp_path / "colleague").mkdir()
    colleague = Operator(operator.server, tmp_path / "colleague")
    answer = colleague.answer(certify(operator.csr(waiting)))
    install = await colleague.run("install", certificate_file=answer, common_name="", san=[], operator="colleague")
    assert install.outcome is Outcome.DONE, install.said
    assert install.change_id == waiting.change_id
    assert waiting.record
    assert install.record
    lines = (waiting.record / "journal.jsonl").read_bytes().splitlines()
    cited = install.journal[0]["cites"]
    assert cited in {hashlib.sha256(line).hexdigest() for line in lines}
    assert install.journal[0]["operator"] == "colleague"
    assert (install.record / "files" / "nginx.csr").read_bytes() == (
        waiting.record / "files" / "nginx.csr"
    ).read_bytes()
    head = (operator.of(install.change_id) / "journal-head").read_text().strip()
    assert head != cited
    assert head in {
        hashlib.sha256(line).hexdigest() for line in (install.record / "journal.jsonl").read_bytes().splitlines()
    }


async def test_restore_brings_recorded_pairs_back(operator: Operator) -> None:
    """`before` brings the first pair back, a second run finds it there, and `installed` brings the new one back."""
    before, first = operator.server.snapshot(), operator.server.served()
    _, install = await operator.replace(signer="self-signed")
    new = operator.server.served()

    planned = await operator.run("restore", apply=False)
    assert planned.outcome is Outcome.PLANNED
    assert operator.server.served() == new
    back = await operator.run("restore", approved_plan=planned.plan_sha256)
    assert back.outcome is Outcome.DONE, back.said
    assert operator.server.served() == first
    contents = {name: state.sha256 for name, state in before.items()}
    assert {name: state.sha256 for name, state in operator.server.snapshot().items()} == contents
    assert owners(operator.server.snapshot()) == owners(before)

    again = await operator.run("restore")
    assert again.outcome is Outcome.NOTHING_TO_DO
    assert f"already the before pair of change {install.change_id}" in " ".join(repr(again.tables["install"]).split())
    forward = await operator.run("restore", change_id=install.change_id, pair="installed")
    assert forward.outcome is Outcome.DONE, forward.said
    assert operator.server.served() == new


async def test_copies_off_the_box_bring_a_pair_back_to_a_new_server(operator: Operator) -> None:
    """Encrypted to an SSH and an age key, never in clear; after an upgrade to a new machine the installed pair comes back from them."""
    keys = {"ssh": operator.folder / "auditor", "age": operator.folder / "age.key"}
    ssh_key = asyncssh.generate_private_key("ssh-ed25519")
    keys["ssh"].write_bytes(ssh_key.export_private_key())
    age_key = pyrage.x25519.Identity.generate()
    keys["age"].write_text(f"# made for a test\n{age_key}\n")
    for each in keys.values():
        each.chmod(0o600)
    recipients = [ssh_key.export_public_key().decode().strip(), str(age_key.to_public())]
    first = operator.server.served()
    request, install = await operator.replace(signer="self-signed", fetch_backup=recipients)
    new, folder = operator.server.served(), operator.of(install.change_id)
    assert install.record
    backup, pair = sorted((install.record / "files").glob("*.tar.age"))
    assert "Is an encrypted copy of the backup in the record?" in [row[1] for row in request.tables["back_up"].rows]
    for private in (folder / "nginx.key", folder / "backup/nginx.key"):
        for line in private.read_text().splitlines()[1:-1]:
            assert not [
                each for each in install.record.rglob("*") if each.is_file() and line.encode() in each.read_bytes()
            ]

    operator.server.reset()
    assert not operator.state_dir.exists()
    there = operator.server.served()
    given = {"backup_file": str(pair), "backup_identity": f"file:{keys['ssh']}"}
    planned = await operator.run("restore", **given, apply=False)
    assert planned.outcome is Outcome.PLANNED, planned.said
    assert operator.server.served() == there
    back = await operator.run("restore", **given, approved_plan=planned.plan_sha256)
    assert back.outcome is Outcome.DONE, back.said
    assert operator.server.served() == new
    assert "(standard input: a secret)" in repr(back.tables["plan"])
    assert back.record
    assert (operator.of(back.change_id) / "nginx.key").read_text().splitlines()[1] not in (
        back.record / "journal.jsonl"
    ).read_text()
    older = await operator.run("restore", backup_file=str(backup), backup_identity=f"file:{keys['age']}")
    assert older.outcome is Outcome.DONE, older.said
    assert operator.server.served() == first


async def test_a_second_run_has_nothing_to_do(operator: Operator) -> None:
    """After a change is done, request, install and their plans say so and touch nothing; change_id=new and other names do not."""
    _, install = await operator.replace(**operator.server.signing)
    pair, state = operator.server.snapshot(), sorted(operator.state_dir.rglob("*"))
    served = operator.server.served()
    for kind in ("request", "install"):
        again = await operator.run(kind, **operator.server.signing)
        assert again.outcome is Outcome.NOTHING_TO_DO, again.said
        assert again.change
        assert f"what change {install.change_id} installed" in again.change.idle
    assert (operator.server.snapshot(), sorted(operator.state_dir.rglob("*"))) == (pair, state)
    assert operator.server.served() == served
    signing = operator.server.signing
    for other in (signing | {"change_id": "new"}, signing | {"organization": "Other"}, {"signer": "self-signed"}):
        planned = await operator.run("request", apply=False, **other)
        assert planned.outcome is Outcome.PLANNED, other
    other_answer = operator.answer(certify(operator.csr(install)))
    refused = await operator.run("install", certificate_file=other_answer)
    assert refused.outcome is Outcome.REFUSED
    assert "certificate_file is not what is served" in refused.said


OPTIONS = [
    ("reload", {}),
    ("reload", {"mount": "files"}),
    ("restart", {"mount": "files", "container": "aos-nginx-1", "nopasswd": True}),
]


@pytest.mark.parametrize(("activation", "options"), OPTIONS)
async def test_reload_and_other_servers(operator_of: OperatorOf, activation: str, options: dict[str, Any]) -> None:
    """Reload keeps the container running; files that are mounts of their own keep their inode; another name is found by itself."""
    operator, name = operator_of(**options), options.get("container", "aos_nginx_1")
    if options.get("nopasswd"):
        operator.given["sudo_password"] = ""
    before, first = operator.server.snapshot(), operator.server.served()
    started = operator.server.run(f"docker inspect --format '{{{{.State.StartedAt}}}}' {name}").stdout
    inode = operator.server.path(f"{operator.given['conf_dir']}/nginx.crt").stat().st_ino
    _, install = await operator.replace(signer="self-signed", activation=activation)
    assert_replaced(operator, before, first, install)
    again = operator.server.run(f"docker inspect --format '{{{{.State.StartedAt}}}}' {name}").stdout
    assert started
    assert (again == started) == (activation == "reload")
    kept = operator.server.path(f"{operator.given['conf_dir']}/nginx.crt").stat().st_ino
    assert (kept == inode) == ("mount" in options)
    back = await operator.run("restore", activation=activation)
    assert back.outcome is Outcome.DONE, back.said
    assert operator.server.served() == first


@pytest.mark.parametrize("kind", ["request", "install", "restore"])
async def test_apply_is_off_by_default(operator: Operator, kind: Kind) -> None:
    """Without `apply`, no run changes a byte on the server, whatever state its change is in."""
    given = {name: value for name, value in operator.given.items() if name != "apply"}
    before, served = operator.server.snapshot(), operator.server.served()
    operator.given = given
    fresh = await operator.run(kind, **operator.server.signing)
    assert fresh.outcome is (Outcome.PLANNED if kind == "request" else Outcome.REFUSED)
    assert not operator.state_dir.exists()
    await operator.run("request", **operator.server.signing, apply=True)
    state = {path: path.stat().st_mtime_ns for path in operator.state_dir.rglob("*")}
    ready = await operator.run(kind, **operator.server.signing)
    assert ready.outcome is (Outcome.REFUSED if kind == "restore" else Outcome.PLANNED)
    assert {path: path.stat().st_mtime_ns for path in operator.state_dir.rglob("*")} == state
    assert (operator.server.snapshot(), operator.server.served()) == (before, served)


def test_the_notebooks_call_these_steps() -> None:
    """What these tests run is what the notebooks run, in the same order."""
    for kind, name in NOTEBOOKS.items():
        if kind == "audit":
            continue
        cells = json_of(PROJECT / "notebooks" / f"{name}.ipynb")["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        called = [call for call in re.findall(r"await change\.(\w+)\(\)", code) if call != "close"]
        assert tuple(called) == STEPS[kind], name


async def test_last_times_answer_is_none_for_this_change(operator: Operator) -> None:
    """At the renewal what the CA handed back the last time still lies at certificate_file: the CSR is shown, and the run waits."""
    waiting = await operator.wait()
    answer = operator.answer(certify(operator.csr(waiting)))
    assert (await operator.run("install", certificate_file=answer)).outcome is Outcome.DONE
    renewal = await operator.run("request", change_id="new", certificate_file=answer)
    assert renewal.outcome is Outcome.WAITING, renewal.said
    assert "BEGIN CERTIFICATE REQUEST" in repr(renewal.tables["sign"])
    (check,) = [
        each
        for event in renewal.journal
        if event["event"] == "checks" and event["step"] == "sign"
        for each in event["checks"]
    ]
    assert (check["verdict"], "put the CA's new answer there" in check["todo"]) == ("warn", True)


async def test_an_audit_holds_the_server_against_the_last_record(operator: Operator) -> None:
    """The factory's pair is back, as after an upgrade, and state_dir is gone with it: the record kept here still tells."""
    await operator.replace(signer="self-signed")
    question = "Is the live certificate the one that the last record here says was installed?"

    async def found() -> str:
        prepared = prepare("audit", {**operator.server.parameters, "records_dir": str(operator.records)}, PROJECT, None)
        (check,) = [each for each in (await audit(prepared)).checks if each.question == question]
        return f"{check.verdict}: {check.found}"

    assert await found() == "pass: the same"
    operator.server.run(f"rm -rf {operator.given['state_dir']}")
    restored = f"cd {operator.given['conf_dir']}; openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=factory -days 9 -keyout nginx.key -out nginx.crt; docker restart aos_nginx_1"
    operator.server.run(restored)
    assert await found() == "warn: another"


async def test_an_audit_without_the_records_says_so(
    practice: EmbeddedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was recorded cannot be read: that is unknown, and everything else is judged as ever."""

    def closed(_: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("runbook_lib.audit.list_records", closed)
    prepared = prepare("audit", {**practice.parameters, "records_dir": str(tmp_path)}, PROJECT, None)
    *others, check = (await audit(prepared)).checks
    assert (check.verdict, check.found) == (Verdict.UNKNOWN, f"{tmp_path} cannot be read: Permission denied")
    assert len(others) > 10


async def test_the_page_of_the_run_before_does_not_outlive_it(operator: Operator) -> None:
    """It would say `done` where this run is killed; a new one is written when this run's record is closed."""
    await operator.run("request", signer="self-signed")
    run = await operator.begin("install", signer="self-signed")
    page = run.record.folder / "report.html"
    page.write_text("done")
    await run.close()
    again = await operator.begin("install", signer="self-signed")
    assert not page.exists()
    left = again.close_record()
    assert page.exists(), left
    await again.close()
