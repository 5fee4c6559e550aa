"""Runs that are refused: each says what to do, and leaves the server as it was."""

import contextlib
import datetime as dt
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from runbook_lib.errors import (
    ChecksFailed,
    HostKeyChanged,
    HostKeyUnknown,
    Locked,
    Refused,
    SigningRefused,
    Unreachable,
    UnusableParameters,
)
from runbook_lib.models import Outcome
from runbook_lib.record.journal import outcome_of, read
from runbook_lib.session import prepare
from tests.change.operator import ISSUING, NAME, Kind, Operator, certify, pem
from tests.pki.authority import authority, ec_key, rsa_key

OperatorOf = Callable[..., Operator]
KINDS: tuple[Kind, ...] = ("install", "request")


@contextlib.contextmanager
def untouched(operator: Operator) -> Iterator[None]:
    """Holds that conf_dir and what is served are the same afterwards."""
    before, served = operator.server.snapshot(), operator.server.served()
    yield
    assert (operator.server.snapshot(), operator.server.served()) == (before, served)


def _hours(number: int) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(hours=number)).isoformat(timespec="seconds")


async def test_before_anything_is_written(operator: Operator) -> None:
    """Wrong password, host keys, container, window, plan: refused with the reason, one attempt each, and state_dir is not made."""
    key = operator.server.parameters["known_hosts"]
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    place = Path(key).read_text().split()[0]
    wrong = Path(operator.file("wrong-password", b"not the password"))
    wrong.chmod(0o600)
    cases: list[tuple[dict[str, Any], type[Refused], str]] = [
        ({"sudo_password": f"file:{wrong}"}, Unreachable, "check sudo_password: one attempt was made"),
        ({"sudo_password": ""}, Unreachable, "sudo asks for a password and sudo_password is empty"),
        ({"known_hosts": operator.file("empty", b"")}, HostKeyUnknown, "then run `runbook trust "),
        ({"known_hosts": operator.file("changed", f"{place} {other}".encode())},
         HostKeyChanged, "ask who manages the server whether it was set up anew"),
        ({"ssh_port": 1}, Unreachable, "check host, ssh_port and the network"),
        ({"container": "nosuch"}, ChecksFailed, "`docker ps -a` on the server lists them"),
        ({"not_before": _hours(1)}, ChecksFailed, "run again inside the window"),
        ({"not_after": _hours(-1)}, ChecksFailed, "run again inside the window"),
        ({"change_id": "20261124T220000Z-1a2b3c"}, Refused, "is not on this server"),
    ]  # fmt: skip
    with untouched(operator):
        for values, kind, says in cases:
            run = await operator.run("request", **values)
            assert isinstance(run.error, kind), (values, run.said)
            assert (run.outcome, run.outcome.exit_code) == (Outcome.REFUSED, 3)
            assert says in run.said
            assert run.journal[-1]["todo"] in run.said
            assert run.journal[-1]["todo"]
        assert not operator.state_dir.exists()


async def test_an_answer_that_is_none_is_refused(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that says something else than it does elsewhere, as a wrapper in its place would: refused, with what it said."""
    monkeypatch.setattr("runbook_lib.server.facts.DOCKER", "echo")
    with untouched(operator):
        run = await operator.run("request")
    assert isinstance(run.error, Refused)
    assert run.outcome is Outcome.REFUSED
    assert "could not read which containers there are" in run.said
    assert "it answered what that command never says: 'inspect ps --all" in run.said


async def test_a_pair_that_nginx_cannot_serve_is_refused(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rehearsal finds ends the run before the live pair is touched, with nginx's own word."""
    said = 'nginx: [emerg] SSL_CTX_use_PrivateKey("/tmp/x/nginx.key") failed'
    monkeypatch.setattr("runbook_lib.change.installing.REHEARSAL", f"echo '{said}' >&2\n")
    request = await operator.run("request", **operator.server.signing)
    with untouched(operator):
        run = await operator.run("install", **operator.server.signing)
        assert isinstance(run.error, ChecksFailed), request.said
        assert run.outcome is Outcome.REFUSED
        assert said in run.said
        assert not (operator.of(run.change_id) / "armed").exists()
    monkeypatch.undo()
    assert (await operator.run("install", **operator.server.signing)).outcome is Outcome.DONE


def test_a_file_that_never_ends_is_refused(operator: Operator) -> None:
    """A pipe or a device where a file is to be read: named, all at once, and nobody waits for it."""
    pipe = operator.folder / "pipe"
    os.mkfifo(pipe)
    names = ("certificate_file", "ca_file", "client_key", "known_hosts", "ssh_config")
    for path in (str(pipe), "/dev/zero", str(operator.folder)):
        with pytest.raises(UnusableParameters) as caught:
            prepare("install", {**operator.given, **dict.fromkeys(names, path)}, operator.folder, None)
        assert {each.field for each in caught.value.faults} == set(names)
        assert {each.wrong for each in caught.value.faults} == {"is no regular file"}


async def test_a_worker_node_is_refused(operator_of: OperatorOf) -> None:
    """A node of the cluster that runs no nginx is told from a controller."""
    operator = operator_of(role="worker")
    before = operator.server.snapshot()
    run = await operator.run("request")
    assert run.outcome is Outcome.REFUSED
    assert "name the controller: this is a worker node, which serves no web UI" in run.said
    assert operator.server.snapshot() == before


def _page(_: x509.CertificateSigningRequest) -> bytes:
    return b"<!DOCTYPE html><html><body>Please log in</body></html>"


def _csr_itself(csr: x509.CertificateSigningRequest) -> bytes:
    return csr.public_bytes(Encoding.PEM)


Answer = Callable[[x509.CertificateSigningRequest], bytes]
ANSWERS: dict[str, tuple[Answer, str]] = {
    "another key": (lambda csr: pem(certify(csr, key=ec_key())), "was made for another key: ask the CA for the certificate of this change's CSR"),
    "an RSA key": (lambda csr: pem(certify(csr, key=rsa_key())), "was made for another key: ask the CA for the certificate of this change's CSR"),
    "expired": (lambda csr: pem(certify(csr, days=(-30, -1))), "Is the certificate in date?"),
    "not valid yet": (lambda csr: pem(certify(csr, days=(1, 30))), "wait until it is valid, and compare the clocks"),
    "a name missing": (lambda csr: pem(certify(csr, san=[f"DNS:{NAME}"])), "with a SAN that has them all"),
    "another name": (lambda csr: pem(certify(csr, san=["DNS:other.example.com"])), "with the SAN of the CSR"),
    "another CA": (lambda csr: pem(certify(csr, ISSUING), ISSUING.x509), "and the right root as ca_file"),
}  # fmt: skip
UNREADABLE: dict[str, tuple[Answer, str]] = {
    "a page": (_page, "certificate_file: holds no certificate: it is an HTML page"),
    "garbage": (lambda _: os.urandom(512), "certificate_file: holds no certificate"),
    "DER garbage": (lambda csr: b"\x30\x82\x01\x00" + certify(csr).tbs_certificate_bytes[:256], "certificate_file: holds no certificate"),
    "the CSR": (_csr_itself, "certificate_file: holds no certificate"),
    "cut off": (lambda csr: pem(certify(csr))[:300], "the file is cut off"),
    "empty": (lambda _: b"", "certificate_file: holds no certificate"),
}  # fmt: skip


async def test_a_certificate_that_does_not_do(operator: Operator) -> None:
    """A certificate of another key, out of date, with other names or of an unknown CA is refused by install and by request."""
    waiting = await operator.wait()
    folder, csr = operator.of(waiting.change_id), operator.csr(waiting)
    ca_file = operator.file("ca.pem", authority("Another Root").pem)
    with untouched(operator):
        for name, (answer, says) in ANSWERS.items():
            given: dict[str, Any] = {"certificate_file": operator.file("answer", answer(csr))}
            if name == "another CA":
                given["ca_file"] = ca_file
            for kind in KINDS if "key" in name else KINDS[:1]:
                run = await operator.run(kind, **given)
                assert isinstance(run.error, ChecksFailed), (name, kind, run.said)
                assert (run.outcome.exit_code, says in run.said) == (3, True), (name, kind, run.said)
            assert not (folder / "nginx.crt").exists(), name
            assert not (folder / "armed").exists(), name
        for name, (answer, says) in UNREADABLE.items():
            for kind in KINDS:
                with pytest.raises(UnusableParameters) as caught:
                    await operator.run(kind, certificate_file=operator.file("answer", answer(csr)))
                assert says in str(caught.value), (name, str(caught.value))
                assert caught.value.outcome.exit_code == 2
    mended = await operator.run("install", certificate_file=operator.answer(certify(csr)))
    assert mended.outcome is Outcome.DONE, mended.said


async def test_an_ec_certificate_for_an_rsa_key(operator: Operator) -> None:
    """nginx would take that pair and then fail every handshake: it is refused before it is staged."""
    waiting = await operator.wait(key_type="rsa-2048")
    answer = operator.answer(certify(operator.csr(waiting), key=ec_key()))
    with untouched(operator):
        for kind in ("request", "install"):
            run = await operator.run(kind, certificate_file=answer, key_type="rsa-2048")
            assert isinstance(run.error, ChecksFailed)
            assert "made for another key" in run.said
    assert not (operator.of(waiting.change_id) / "nginx.crt").exists()


async def test_which_change_goes_on(operator: Operator) -> None:
    """Other inputs are refused, change_id=new supersedes and journals it, two open changes must be told apart, unknown ones are refused."""
    first = await operator.wait()
    with untouched(operator):
        other = await operator.run("request", organization="Other", key_type="rsa-2048")
        assert isinstance(other.error, ChecksFailed)
        assert f"expected as in {first.change_id}, found key_type, organization differ" in other.said
        assert "give the same inputs, or change_id=new to begin anew" in other.said
        assert other.change_id == first.change_id

        planned = await operator.run("request", change_id="new", apply=False)
        assert planned.journal[1]["text"] == f"would supersede {first.change_id}"
        second = await operator.wait(change_id="new", organization="Other")
        assert second.change_id != first.change_id
        assert second.journal[1]["text"] == f"supersedes {first.change_id}"
        assert (operator.of(first.change_id) / "decided").read_text() == "superseded\n"
        gone = await operator.run("install", change_id=first.change_id)
        assert gone.outcome is Outcome.REFUSED
        assert (
            f"was superseded\nserver: {operator.given['host']}\nwhat to do: leave change_id empty, or name one of: {second.change_id}"
            in gone.said
        )

        (operator.of(first.change_id) / "decided").unlink()
        ids = ", ".join(sorted((first.change_id, second.change_id)))  # begun within one second they have no other order
        for kind in ("request", "install"):
            both = await operator.run(kind)
            assert isinstance(both.error, UnusableParameters)
            assert both.outcome.exit_code == 2
            assert f"several changes are open: {ids}" in both.said
        named = await operator.run("request", change_id=first.change_id)
        assert (named.outcome, named.change_id) == (Outcome.WAITING, first.change_id)


async def test_nothing_to_install_or_restore(operator: Operator) -> None:
    """Install without a change and restore without a recorded pair say what to run first."""
    with untouched(operator):
        install = await operator.run("install")
        assert (install.outcome, "run request first" in install.said) == (Outcome.REFUSED, True)
        waiting = await operator.wait()
        for change_id, pair in (
            ("", "before"),
            (waiting.change_id, "installed"),
            ("20261124T220000Z-1a2b3c", "before"),
        ):
            restore = await operator.run("restore", change_id=change_id, pair=pair)
            assert (restore.outcome, "name a change_id that has that pair" in restore.said) == (Outcome.REFUSED, True)


async def test_the_lock_of_another_run(operator: Operator) -> None:
    """While another run holds the lock of conf_dir, request and install are refused; restore waits its turn."""
    _, install = await operator.replace(**operator.server.signing)
    held = operator.given["conf_dir"]
    hold = f"flock -n {held} sh -c 'echo held; exec sleep {{}}' & sleep 0.3"
    operator.server.run(f"({hold.format(6)}) >/dev/null 2>&1 </dev/null")
    with untouched(operator):
        locked = await operator.run("request", change_id="new", signer="self-signed")
        assert isinstance(locked.error, Locked), locked.said
        assert "wait until it has ended, then run again" in locked.said
        assert locked.outcome.exit_code == 3
        assert len(list((operator.state_dir / "changes").iterdir())) == 1
    begun = time.monotonic()
    restore = await operator.run("restore", change_id=install.change_id)
    assert restore.outcome is Outcome.DONE, restore.said
    assert time.monotonic() - begun > 1


async def test_the_record_of_another_run(operator: Operator) -> None:
    """A run that goes on with a change whose record is being written is refused, and has a record of its own that says so."""
    waiting = await operator.wait()
    going_on = await operator.begin("install")
    second = await operator.run("request", change_id=waiting.change_id)
    assert second.outcome is Outcome.REFUSED
    assert second.change_id != waiting.change_id
    assert "another run writes" in second.said
    await going_on.close()
    assert (await operator.run("request")).outcome is Outcome.WAITING


async def test_another_plan_than_the_approved_one(operator: Operator) -> None:
    """An install whose plan is not the approved one is refused; a request touches only state_dir and asks for no approval."""
    approved = "0" * 64
    with untouched(operator):
        request = await operator.run("request", signer="self-signed", approved_plan=approved)
        assert request.outcome is Outcome.DONE
        for apply in (False, True):
            run = await operator.run("install", approved_plan=approved, apply=apply)
            assert (run.outcome, "look at what changed and have this plan approved" in run.said) == (
                Outcome.REFUSED,
                True,
            )
            assert f"approved {approved}, now {run.plan_sha256}" in run.said


@pytest.mark.parametrize("what", ["the pair", "nginx.conf", "the staged certificate"])
async def test_a_server_that_changed_after_the_plan(operator: Operator, what: str) -> None:
    """Between plan and apply somebody changes a file: the run is refused and that file stays as they left it."""
    conf_dir = operator.given["conf_dir"]
    request = await operator.run("request", signer="self-signed")
    change = await operator.begin("install")
    try:
        for step in ("check", "plan", "compare"):
            await getattr(change, step)()
        file = {
            "the pair": f"{conf_dir}/nginx.crt", "nginx.conf": f"{conf_dir}/nginx.conf",
            "the staged certificate": f"{operator.given['state_dir']}/changes/{request.change_id}/nginx.crt",
        }[what]  # fmt: skip
        operator.server.run(f"echo '# by somebody else' >>{file}")
        with untouched(operator), pytest.raises(Refused, match="the server changed since it was checked") as caught:
            await change.install()
        moved = {"the pair": "live", "nginx.conf": "nginx.conf", "the staged certificate": "staged"}[what]
        assert caught.value.why == f"{moved} changed"
        assert change.outcome is Outcome.REFUSED
        assert not (operator.of(request.change_id) / "armed").exists()
    finally:
        await change.close()
    if what == "the pair":
        again = await operator.run("install")
        assert (again.outcome, "run request with change_id=new" in again.said) == (Outcome.REFUSED, True)


async def test_a_connection_that_is_lost_before_the_swap(operator: Operator) -> None:
    """It is refused, says that the live pair is untouched, and the next run goes on."""
    change = await operator.begin("request", signer="self-signed")
    with untouched(operator):
        await change.check()
        await change.plan()
        await change.back_up()
        change.session.connection.ssh.abort()
        with pytest.raises(Unreachable, match="the live pair is untouched"):
            await change.make_key()
        assert change.outcome is Outcome.REFUSED
        await change.close()
        again = await operator.run("request", signer="self-signed")
        assert (again.outcome, again.change_id) == (Outcome.DONE, change.change_id)


async def test_a_run_that_has_ended_is_refused(operator: Operator) -> None:
    """After a failed check, and after close, no step runs any more."""
    change = await operator.begin("request", container="nosuch")
    with untouched(operator):
        with pytest.raises(ChecksFailed):
            await change.check()
        for _ in range(2):
            with pytest.raises(
                Refused, match=r"this run has ended: refused\n(.*\n)*what to do: run the notebook again"
            ):
                await change.back_up()
            await change.close()
    assert not operator.state_dir.exists()


async def test_a_signer_that_says_no(operator: Operator) -> None:
    """What the CA handed back is gone or no file when it is read: refused, and the change stays open."""
    waiting = await operator.wait()
    answer = Path(operator.answer(certify(operator.csr(waiting))))
    change = await operator.begin("request", certificate_file=str(answer))
    try:
        for step in ("check", "plan", "back_up", "make_key", "make_csr"):
            await getattr(change, step)()
        answer.write_bytes(b"<html>")
        with untouched(operator), pytest.raises(SigningRefused, match="ask the CA for the certificate of this CSR"):
            await change.sign()
    finally:
        await change.close()
    assert (await operator.run("request")).outcome is Outcome.WAITING


@pytest.mark.parametrize("skipped", [("check",), ("plan",), ("compare",), ("check", "plan")])
async def test_a_step_whose_forerunners_were_skipped(operator: Operator, skipped: tuple[str, ...]) -> None:
    """Who leaves cells out, the plan with its approval among them, is told which; nothing is touched, and the run goes on."""
    await operator.run("request", **operator.server.signing)
    with untouched(operator):
        change = await operator.begin("install", approved_plan="0" * 64 if "plan" in skipped else "")
        try:
            for step in ("check", "plan", "compare"):
                if step not in skipped:
                    with contextlib.suppress(Refused):
                        await getattr(change, step)()
            for step in ("install", "confirm"):
                with pytest.raises(Refused, match=f"{step} stands on steps that have not run: {skipped[0]}"):
                    await getattr(change, step)()
            assert change.outcome is None
        finally:
            await change.close()


async def test_a_summary_before_the_end_says_nothing_of_done(operator: Operator) -> None:
    """A summary whose install was left out is refused and leaves the record without an outcome; the run can go on."""
    await operator.run("request", **operator.server.signing)
    change = await operator.begin("install")
    try:
        for step in ("check", "plan", "compare"):
            await getattr(change, step)()
        with pytest.raises(Refused, match="summary stands on steps that have not run: install, confirm"):
            change.summary()
        assert outcome_of(read(change.record.folder)) is not Outcome.DONE
        await change.install()
        await change.confirm()
        change.summary()
        assert change.outcome is Outcome.DONE
    finally:
        await change.close()


async def test_cells_run_twice_do_nothing_twice(operator: Operator) -> None:
    """A second click on install shows what the first one did; what judged the server as found is not judged anew meanwhile."""
    await operator.run("request", **operator.server.signing)
    change = await operator.begin("install")
    try:
        for step in ("check", "plan", "compare", "install"):
            shown = await getattr(change, step)()
        served = operator.server.served()
        again = await change.install()
        assert "not done twice" in again.title
        assert again.rows == shown.rows
        for step in ("check", "plan", "compare"):
            with pytest.raises(Refused, match="the change is under way"):
                await getattr(change, step)()
        assert (change.outcome, operator.server.served()) == (None, served)
        await change.confirm()
        await change.confirm()
        change.summary()
    finally:
        await change.close()
    assert (change.outcome, operator.server.served()) == (Outcome.DONE, served)
