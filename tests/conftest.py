"""Servers to test on: `practice` (embedded), `real`, `real_host` (with options) and `server` (both in turn)."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.lab import PracticeServer
from runbook_lib.policy import POLICY
from tests.embedded import EmbeddedHost
from tests.realserver.host import SUDO_PASSWORD, HostOptions, RealHost, missing
from tests.servers import ServerUnderTest

PRACTICE_PREFIX = "apstra-practice-"


def pytest_sessionstart() -> None:
    """A policy of this host would refuse what most tests install, in processes that no test can keep from it."""
    if POLICY.exists():
        pytest.exit(f"{POLICY} is there: set it aside while the tests run", returncode=3)


def _need_real_server() -> None:
    lacking = missing()
    if not lacking:
        return
    message = f"a real server needs {', '.join(lacking)}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept for the next time is kept apart from what this user has kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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


@pytest.fixture
def practice_host() -> Iterator[Callable[..., EmbeddedHost]]:
    """Starts embedded servers with any of PracticeServer's attributes; each ends with the test."""
    servers: list[PracticeServer] = []

    def start(**options: Any) -> EmbeddedHost:  # noqa: ANN401 - handed on to a typed constructor
        # Under /tmp whatever TMPDIR says: parameters take a state_dir of the practice server's only there.
        root = Path(tempfile.mkdtemp(prefix=PRACTICE_PREFIX, dir="/tmp"))
        server = PracticeServer(root, **({"password": SUDO_PASSWORD} | options))
        server.start()
        servers.append(server)
        return EmbeddedHost(server)

    yield start
    for server in servers:
        server.close()
        shutil.rmtree(server.root, ignore_errors=True)


@pytest.fixture
def practice(practice_host: Callable[..., EmbeddedHost]) -> EmbeddedHost:
    """A fresh embedded controller."""
    return practice_host()


@pytest.fixture(params=["embedded", "real"])
def server(request: pytest.FixtureRequest) -> ServerUnderTest:
    """The embedded and the real controller in turn."""
    host: ServerUnderTest = request.getfixturevalue("practice" if request.param == "embedded" else "real")
    return host


@pytest.fixture(params=["embedded", "real"])
def server_with(request: pytest.FixtureRequest) -> Callable[..., ServerUnderTest]:
    """Starts servers of both kinds in turn, with any option that both have (see HostOptions)."""
    if request.param == "embedded":
        start: Callable[..., ServerUnderTest] = request.getfixturevalue("practice_host")
        return start
    start_real: Callable[[HostOptions], RealHost] = request.getfixturevalue("real_host")
    return lambda **options: start_real(HostOptions(**options))
