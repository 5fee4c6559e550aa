"""Bastions, a quiet home folder and a real ssh-agent for the tests of the server's room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.realserver.host import HostOptions, RealHost
from tests.server.hosts import Agent


@pytest.fixture(scope="session")
def _two_bastions(_real_for_session: RealHost) -> Iterator[tuple[RealHost, RealHost]]:
    del _real_for_session  # where there can be no real server, this skips
    hosts = tuple(RealHost.start(HostOptions(role="bastion", name=name)) for name in ("first", "second"))
    yield hosts[0], hosts[1]
    for host in hosts:
        host.close()


@pytest.fixture
def bastions(_two_bastions: tuple[RealHost, RealHost]) -> tuple[RealHost, RealHost]:
    """Two real bastions with OpenSSH's settings as they were at the start, and empty logs."""
    for host in _two_bastions:
        host.reset()
        host.run(
            "cp -n /etc/ssh/sshd_config /run/lab/sshd_config; cp /run/lab/sshd_config /etc/ssh/; "
            "chage -d $(date +%F) admin; : >/run/lab/sshd.log; kill -HUP $(cut -d ' ' -f 3 /run/lab/keep)"
        )
        host.run("until grep -q listening /run/lab/sshd.log; do sleep 0.01; done")
    return _two_bastions


@pytest.fixture
def bastion(bastions: tuple[RealHost, RealHost]) -> RealHost:
    """The first of them: OpenSSH alone, quickly there, good for everything about logins."""
    return bastions[0]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without keys, without ssh_config, and no agent in the environment."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    """A real ssh-agent that SSH_AUTH_SOCK leads to, empty at first."""
    socket = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    while not socket.exists():
        os.sched_yield()
    yield Agent(tmp_path)
    process.terminate()
    process.wait()
