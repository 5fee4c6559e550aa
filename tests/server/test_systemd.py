"""The guard under a real systemd: its timer is a unit, and a power cut before the confirm brings the old pair back at boot."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.change import Install
from runbook_lib.models import Outcome
from runbook_lib.secrets import REGISTRY
from tests.change.operator import Operator
from tests.realserver.systemd import SystemdHost, missing
from tests.servers import wait_until

UNITS = "ls /etc/systemd/system /etc/systemd/system/docker.service.wants 2>/dev/null | grep apstra-runbook"


@pytest.fixture(scope="module")
def host() -> Iterator[SystemdHost]:
    """A server under systemd."""
    if lacking := missing():
        message = f"a real server under systemd needs {', '.join(lacking)}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    started = SystemdHost.start()
    yield started
    started.close()


@pytest.fixture
def operator(host: SystemdHost, tmp_path: Path) -> Iterator[Operator]:
    """Somebody with a request that was signed."""
    made = Operator(host, tmp_path)
    made.given |= {"signer": "self-signed", "change_id": ""}
    assert asyncio.run(made.run("request", change_id="new")).outcome is Outcome.DONE
    yield made
    REGISTRY.clear()


async def installed(operator: Operator, window_s: int = 300) -> Install:
    """An install that has not confirmed yet; its connection is open."""
    change = await operator.begin("install")
    change.parameters = change.parameters.model_copy(update={"rollback_after_s": window_s})
    for step in ("check", "plan", "compare", "install"):
        await getattr(change, step)()
    return change


def log_of(operator: Operator, change: Install) -> str:
    """What the guard wrote down."""
    return (operator.of(change.change_id) / "guard.log").read_text()


def test_a_power_cut_before_the_confirm(host: SystemdHost, operator: Operator) -> None:
    """At boot the old pair is in place before docker starts; nginx serves it, the unit is gone, and the next run knows."""
    old = host.served()

    async def cut() -> Install:
        change = await installed(operator)
        assert host.served() != old
        assert host.run(UNITS).stdout.split() == [f"apstra-runbook-{change.change_id}.service"] * 2
        timers = host.run("systemctl list-units --no-legend --plain --type=service 'run-*'").stdout
        assert f"{change.change_id}/guard.sh timer 300" in timers
        assert host.run("systemd-analyze verify /etc/systemd/system/apstra-runbook-*.service").stderr == ""
        host.cut_power()
        await change.close()
        return change

    change = asyncio.run(cut())
    host.boot()
    wait_until(lambda: host.served() == old)
    assert host.run(UNITS).stdout == ""
    assert "rolled back at boot" in log_of(operator, change)
    told = host.run("journalctl -o cat --no-pager").stdout
    assert 0 < told.rfind("rolled back at boot") < told.rfind("Starting docker.service"), told
    looked = asyncio.run(operator.run("install", apply=False, change_id=change.change_id))
    assert looked.change
    assert looked.change.own.decided == "rolled-back"


def test_a_confirmed_change_survives_one(host: SystemdHost, operator: Operator) -> None:
    """No unit is left that could undo it."""

    async def confirmed() -> None:
        change = await installed(operator)
        await change.confirm()
        await change.close()

    asyncio.run(confirmed())
    new = host.served()
    assert host.run(UNITS).stdout == ""
    host.cut_power()
    host.boot()
    wait_until(lambda: host.served() == new)


def test_the_timer_outlives_the_session(host: SystemdHost, operator: Operator) -> None:
    """Under logind a session's processes may be ended with it; the timer is the system's, and puts the old pair back."""
    old = host.served()

    async def left() -> Install:
        change = await installed(operator, window_s=3)
        await change.close()
        return change

    change = asyncio.run(left())
    assert host.served() != old
    wait_until(lambda: host.served() == old, timeout_s=60)
    wait_until(lambda: "no confirm within 3 s" in log_of(operator, change))
    assert host.run(UNITS).stdout == ""
