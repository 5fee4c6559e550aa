"""Servers to test on: `practice` (embedded), `real`, `real_host` (with options) and `server` (both in turn)."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.realserver.host import HostOptions, RealHost, missing


def _need_real_server() -> None:
    lacking = missing()
    if not lacking:
        return
    message = f"a real server needs {', '.join(lacking)}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def _real_for_session() -> Iterator[RealHost]:
    _need_real_server()
    host = RealHost.start()
    yield host
    host.close()


@pytest.fixture
def real(_real_for_session: RealHost) -> RealHost:
    """A real controller, shared by the session and reset before each test."""
    _real_for_session.reset()
    return _real_for_session


@pytest.fixture
def real_host() -> Iterator[Callable[[HostOptions], RealHost]]:
    """Starts real servers with options; each ends with the test."""
    _need_real_server()
    hosts: list[RealHost] = []

    def start(options: HostOptions) -> RealHost:
        hosts.append(RealHost.start(options))
        return hosts[-1]

    yield start
    for host in hosts:
        host.close()
