"""Installs that fail: the old pair is served again, the outcome says so, and the way back by hand is always told."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.change import Change, Install
from runbook_lib.change.base import BROKEN
from runbook_lib.errors import ChecksFailed, Refused, RolledBack, RunbookError, Unsettled
from runbook_lib.models import Outcome
from runbook_lib.pki.certificates import read_certificates
from runbook_lib.record.journal import outcome_of, read
from runbook_lib.record.summary import fields
from runbook_lib.tables import fingerprint
from tests.change.operator import PAIR, Operator, Run
from tests.servers import wait_until


async def ready(operator: Operator) -> Install:
    """An install that is about to arm the guard."""
    request = await operator.run("request", signer="self-signed", change_id="new")
    assert request.outcome is Outcome.DONE, request.said
    change = await operator.begin("install")
    for step in ("check", "plan", "compare"):
        await getattr(change, step)()
    return change


def contents(operator: Operator) -> dict[str, tuple[str, str, str]]:
    """What lies in conf_dir, without times."""
    return {name: (state.sha256, state.mode, state.owner) for name, state in operator.server.snapshot().items()}


def assert_way_back_is_told(change: Change, error: RunbookError) -> None:
    """The line to be typed by hand stands in the error and in the record."""
    assert change.way_back.startswith("ssh -t ")
    assert change.way_back in str(error)
    end = Run(record=change.record.folder).journal[-1]
    assert (end["event"], end["outcome"]) == ("end", error.outcome)
    assert change.way_back in end["todo"]


@contextlib.contextmanager
def listening(place: tuple[str, int], until: Path) -> Iterator[None]:
    """Another program listens at an address as soon as it is free, says nothing, and ends when a file appears."""
    ended = threading.Event()

    def listen() -> None:
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.settimeout(0.02)
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    stranger.bind(place)
                    break
                time.sleep(0.001)
            stranger.listen()
            while not (ended.is_set() or until.exists()):
                with contextlib.suppress(OSError):
                    stranger.accept()[0].close()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def test_nginx_crash_loops_after_the_restart(operator: Operator) -> None:
    """docker says that all is well; the look at the container does not: the old pair comes back and serves."""
    first, before = operator.server.served(), contents(operator)
    change = await ready(operator)
    try:
        with (
            listening(
                (change.parameters.host, change.parameters.https_port), operator.of(change.change_id) / "decided"
            ),
            pytest.raises(RolledBack) as caught,
        ):
            await change.install()
    finally:
        await change.close()
    assert "look at the container and at what it serves" in caught.value.why
    assert (change.outcome, change.outcome and change.outcome.exit_code) == (Outcome.ROLLED_BACK, 5)
    assert (operator.server.served(), contents(operator)) == (first, before)
    assert_way_back_is_told(change, caught.value)


async def test_nginx_refuses_its_configuration(operator: Operator) -> None:
    """A stray .conf appears after the checks: no restart, the old pair comes back; with the cause gone, the change goes on."""
    first, before = operator.server.served(), contents(operator)
    started = operator.server.run("docker inspect --format '{{.State.StartedAt}}' aos_nginx_1").stdout
    change = await ready(operator)
    stray = operator.server.path(f"{operator.given['conf_dir']}/stray.conf")
    try:
        stray.write_text("broken")
        with pytest.raises(RolledBack) as caught:
            await change.install()
    finally:
        await change.close()
    assert "let nginx test its configuration" in caught.value.why
    assert operator.server.run("docker inspect --format '{{.State.StartedAt}}' aos_nginx_1").stdout == started
    assert_way_back_is_told(change, caught.value)
    assert f"run install with change_id={change.change_id}" in caught.value.todo
    stray.unlink()
    assert (operator.server.served(), contents(operator)) == (first, before)
    unnamed = await operator.run("install")
    assert unnamed.outcome is Outcome.REFUSED
    assert f"to try {change.change_id} again, which was rolled back" in unnamed.said
    again = await operator.run("install", change_id=change.change_id)
    assert again.outcome is Outcome.DONE, again.said
    assert operator.server.served() != first
    assert len(list(operator.of(change.change_id).glob("attempt-*/decided"))) == 1


async def test_another_certificate_is_served(operator: Operator) -> None:
    """Before the confirm somebody puts a third pair in place: it is not confirmed, and the old pair comes back."""
    first, before = operator.server.served(), contents(operator)
    change = await ready(operator)
    try:
        await change.install()
        make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=third -keyout nginx.key -out nginx.crt -days 30"
        assert (
            operator.server.run(
                f"cd {operator.given['conf_dir']} && {make} && docker exec aos_nginx_1 nginx -s reload"
            ).returncode
            == 0
        )
        new = (operator.of(change.change_id) / "nginx.crt").read_text()
        # after a reload the old workers may still answer
        wait_until(lambda: not {first, new} & {operator.server.served() for _ in range(5)})
        with pytest.raises(RolledBack) as caught:
            await change.confirm()
    finally:
        await change.close()
    failed = [check for event in Run(record=change.record.folder).journal if event["event"] == "checks" and event["step"] == "confirm"
              for check in event["checks"] if check["verdict"] == "fail"]  # fmt: skip
    assert {"another certificate", "different"} <= {check["found"] for check in failed}
    assert (operator.server.served(), contents(operator)) == (first, before)
    assert_way_back_is_told(change, caught.value)


async def test_a_connection_that_is_lost_after_the_swap(operator: Operator) -> None:
    """It is not known from here what is served: exit code 6, and the line that is told brings the old pair back by hand."""
    first, before = operator.server.served(), contents(operator)
    change = await ready(operator)
    try:
        await change.install()
        change.session.connection.ssh.abort()
        with pytest.raises(Unsettled) as caught:
            await change.confirm()
    finally:
        await change.close()
    assert change.outcome
    assert change.outcome.exit_code == 6
    assert_way_back_is_told(change, caught.value)
    early = await operator.run("install")
    assert (early.outcome, "wait until its guard has put the old pair back" in early.said) == (Outcome.REFUSED, True)
    command = change.way_back.partition(" sudo ")[2]
    assert operator.server.run(command).returncode == 0
    assert (operator.server.served(), contents(operator)) == (first, before)


async def test_a_run_that_is_stopped(operator: Operator) -> None:
    """Stopped after the swap, the old pair comes back; stopped after the confirm, the new pair stays and the outcome says done."""
    first, before = operator.server.served(), contents(operator)
    change = await ready(operator)
    log = operator.of(change.change_id) / "guard.log"
    try:
        install = asyncio.create_task(change.install())
        await asyncio.to_thread(wait_until, lambda: "swapped" in log.read_text())
        install.cancel()
        with pytest.raises(RolledBack, match="stopped by hand") as caught:
            await install
    finally:
        await change.close()
    assert_way_back_is_told(change, caught.value)
    assert (operator.server.served(), contents(operator)) == (first, before)

    again = await operator.begin("install", change_id=change.change_id)
    try:
        for step in ("check", "plan", "compare", "install"):
            await getattr(again, step)()
        operator.server.run(f"sh {again.folder}/guard.sh confirm")
        confirm = asyncio.create_task(again.confirm())
        await asyncio.sleep(0)
        confirm.cancel()
        with pytest.raises(asyncio.CancelledError):
            await confirm
    finally:
        await again.close()
    assert Run(record=again.record.folder).outcome is Outcome.DONE
    assert (operator.of(again.change_id) / "nginx.crt").read_text() == operator.server.served() != first


async def test_a_backup_that_is_not_whole(operator: Operator) -> None:
    """The guard does not arm on a damaged backup: refused with nothing touched, and the change goes on when it is mended."""
    first, before = operator.server.served(), operator.server.snapshot()
    change = await ready(operator)
    backup = operator.of(change.change_id) / "backup" / "aos.tar"
    whole = backup.read_bytes()
    try:
        backup.write_bytes(whole[:-512])
        with pytest.raises(Refused, match="arm the guard") as caught:
            await change.install()
    finally:
        await change.close()
    assert change.outcome is Outcome.REFUSED
    assert "mend the cause" in str(caught.value)
    assert (operator.server.served(), operator.server.snapshot()) == (first, before)
    assert not (operator.of(change.change_id) / "decided").exists()
    backup.write_bytes(whole)
    again = await operator.run("install")
    assert again.outcome is Outcome.DONE, again.said


async def test_a_start_that_is_broken_as_found(operator: Operator) -> None:
    """A server whose pair does not match is refused; accept_broken_start goes on, and plan and backup keep what was found."""
    server, conf_dir = operator.server, operator.given["conf_dir"]
    server.run(f"openssl genrsa 2048 >{conf_dir}/nginx.key; docker restart aos_nginx_1")
    state = "docker inspect --format '{{.State.Status}} {{.RestartCount}}' aos_nginx_1"
    wait_until(
        lambda: server.run(state).stdout.startswith("restarting") and int(server.run(state).stdout.split()[1]) > 3
    )
    before = contents(operator)
    refused = await operator.run("request", signer="self-signed")
    assert isinstance(refused.error, ChecksFailed)
    for says in (
        "Do the live key and certificate match?",
        "Does nginx serve the live certificate?",
        "set accept_broken_start",
    ):
        assert says in refused.said
    assert contents(operator) == before
    assert not operator.state_dir.exists()

    another = (f"127.{os.getpid() % 200 + 20}.0.1", operator.given["https_port"])
    with listening(another, operator.folder / "never"):
        _, install = await operator.replace(signer="self-signed", accept_broken_start=True)
    assert BROKEN in install.tables["plan"].title
    folder = operator.of(install.change_id)
    assert server.served() == (folder / "nginx.crt").read_text()
    for name in PAIR:
        assert before[name][0] in (folder / "backup" / "SHA256SUMS").read_text()
    back = await operator.run("restore", accept_broken_start=True)
    assert back.outcome is Outcome.REFUSED
    assert "missing or not matching" in back.said


async def installed_and_alone(operator: Operator) -> Install:
    """An install that lost its connection and its timer before the confirm, as by a restart of the server without systemd."""
    change = await ready(operator)
    await change.install()
    change.session.connection.ssh.abort()
    timer = (operator.of(change.change_id) / "armed").read_text().split()[0]
    assert operator.server.run(f"kill -KILL {timer}").returncode == 0
    await change.close()
    return change


async def test_a_guard_that_is_gone_is_stood_in_for_by_the_next_run(operator: Operator) -> None:
    """Unconfirmed, and no timer: the next run that applies puts the old pair back, inside its window, and says that it did."""
    first, before = operator.server.served(), contents(operator)
    change = await installed_and_alone(operator)
    new = operator.server.served()
    assert outcome_of(read(change.record.folder)) is Outcome.UNKNOWN
    assert new != first

    planned = await operator.run("install", change_id=change.change_id, apply=False)
    assert planned.outcome is Outcome.REFUSED
    assert f"the guard of {change.change_id} is gone" in planned.said
    early = await operator.run("install", not_before="2999-01-01T00:00:00Z")
    assert early.outcome is Outcome.REFUSED
    assert operator.server.served() == new

    again = await operator.run("install")
    assert again.outcome is Outcome.ROLLED_BACK
    assert f"give change_id={change.change_id}" in again.said
    assert (operator.server.served(), contents(operator)) == (first, before)
    told = [line for event in again.journal if event["event"] == "guard" for line in event["lines"]]
    assert any("rolled back: not confirmed, and its guard is gone" in line for line in told)
    assert len(told) == len(set(told))
    assert again.record
    shown = fields(again.record)
    sums = [read_certificates(each.encode())[0].sha256 for each in (new, first)]
    assert [shown[f"certificate {role}"].partition("\n")[2] for role in ("before", "after")] == [
        *map(fingerprint, sums)
    ]
    assert shown["outage"].startswith("unknown")
    assert "only put an old pair back" in shown["way back"]


async def test_what_stands_in_for_a_guard_leaves_a_third_pair_alone(operator: Operator) -> None:
    """A person has put a good pair there since: it stays, and the change that was never confirmed is decided."""
    change = await installed_and_alone(operator)
    conf_dir = operator.given["conf_dir"]
    made = operator.server.run(
        f"umask 077; cd {conf_dir} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 "
        f"-subj /CN=third -keyout nginx.key -out nginx.crt 2>/dev/null && docker restart aos_nginx_1"
    )
    assert made.returncode == 0
    third = contents(operator)
    run = await operator.run("request", signer="self-signed")
    assert contents(operator) == third
    assert (operator.of(change.change_id) / "decided").read_text() == "rolled-back\n"
    assert any("left alone" in line for event in run.journal if event["event"] == "guard" for line in event["lines"])


async def test_a_rollback_that_was_cut_off_is_ended_by_any_later_run(operator: Operator) -> None:
    """Decided, one file back, nobody at work: found without being named, and put right before anything else."""
    first, before = operator.server.served(), contents(operator)
    change = await installed_and_alone(operator)
    folder, conf_dir = operator.given["state_dir"] + f"/changes/{change.change_id}", operator.given["conf_dir"]
    assert (
        operator.server.run(
            f"cd {folder} && echo rolled-back >decided && cat backup/nginx.crt >{conf_dir}/nginx.crt"
        ).returncode
        == 0
    )
    run = await operator.run("request", signer="self-signed")
    assert run.outcome is Outcome.DONE, run.said
    assert (operator.server.served(), contents(operator)) == (first, before)


async def test_a_restore_after_a_guard_that_was_gone_still_knows_its_source(operator: Operator) -> None:
    """What it is to bring back is neither undecided nor the last that was confirmed."""
    one, _ = await operator.replace(signer="self-signed")
    wanted = operator.server.served()
    await operator.replace(signer="self-signed", change_id="new")
    await installed_and_alone(operator)
    run = await operator.run("restore", change_id=one.change_id, pair="installed")
    assert run.outcome is Outcome.DONE, run.said
    assert operator.server.served() == wanted


async def test_a_second_stop_changes_nothing_of_what_the_first_came_to(operator: Operator) -> None:
    """Stopped again and again while the old pair comes back: the outcome is still that it did."""
    first, before = operator.server.served(), contents(operator)
    change = await ready(operator)
    log = operator.of(change.change_id) / "guard.log"
    try:
        install = asyncio.create_task(change.install())
        await asyncio.to_thread(wait_until, lambda: "swapped" in log.read_text())
        while not install.done():
            install.cancel()
            await asyncio.sleep(0.02)
        assert isinstance(install.exception(), RolledBack)
    finally:
        await change.close()
    assert Run(record=change.record.folder).outcome is Outcome.ROLLED_BACK
    assert (operator.server.served(), contents(operator)) == (first, before)


async def test_what_a_killed_run_left_open_is_settled_by_looking(operator: Operator) -> None:
    """The next run on the same record closes the command whose result nobody heard, and says where the change stands now."""
    change = await ready(operator)
    change.record.journal.write("intent", step="install", purpose="swap the pair", script="", undo="")
    lost = read(change.record.folder)[-1]["n"]
    await change.close()
    again = await operator.run("install", change_id=change.change_id)
    assert again.outcome is Outcome.DONE, again.said
    closed = {event["event"]: event for event in again.journal if event["event"] in {"unknown", "settled"}}
    assert closed["unknown"]["orphans"] == closed["settled"]["orphans"] == [lost]
    assert "install: swap the pair" in closed["unknown"]["text"]
    assert "the change is ready" in closed["settled"]["text"]
    assert [event["event"] for event in (await operator.run("install")).journal].count("unknown") == 1
