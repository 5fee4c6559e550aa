"""The real server for tests: several at once, bounded, clean after each test."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.realserver.host import STATE_DIR, HostOptions, RealHost
from tests.servers import wait_until
from tests.ssh_client import connected, run

PROJECT = Path(__file__).parents[2]
Start = Callable[[HostOptions], RealHost]
OWNER = """
import sys, time
from tests.realserver.host import HostOptions, RealHost
host = RealHost.start(HostOptions())
print(host.process.pid, host.folder, flush=True)
time.sleep(60)
"""


def test_it_dies_with_its_owner(real: RealHost) -> None:
    """A SIGKILL of the process that started it ends every process inside, a detached one and a container's included."""
    del real  # only to skip where there can be none
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=PROJECT) as owner:
        assert owner.stdout
        pid, folder = owner.stdout.readline().split()
        (init,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        namespace = Path(f"/proc/{init}/ns/mnt").readlink()
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: namespace not in {_mount_namespace(process) for process in Path("/proc").glob("[0-9]*")})
    subprocess.run(["rm", "-rf", folder], check=True)


def _mount_namespace(process: Path) -> Path | None:
    try:
        return (process / "ns/mnt").readlink()
    except OSError:
        return None


def test_reset_ends_what_a_test_left_running(real: RealHost) -> None:
    """A detached process, state_dir, files in /tmp and forgotten locks are gone after a reset; zombies do not stay."""
    real.run(f"mkdir {STATE_DIR}; touch /tmp/left; setsid sleep 600 </dev/null >/dev/null 2>&1 9</etc/aos &")
    assert "sleep 600" in real.run("ps -eo args").stdout
    real.reset()
    wait_until(
        lambda: "sleep 600" not in real.run("ps -eo args").stdout and "[sleep]" not in real.run("ps -eo args").stdout
    )
    assert not real.path(STATE_DIR).exists()
    assert not real.path("/tmp/left").exists()  # noqa: S108 - of the server, not of this machine


def test_an_untouched_server_is_not_restarted_by_reset(real: RealHost) -> None:
    """A reset with nothing to do leaves the files' times and the container alone."""
    before, containers = real.snapshot(), real.run("docker ps -aq").stdout
    real.reset()
    assert (real.snapshot(), real.run("docker ps -aq").stdout) == (before, containers)


@pytest.mark.asyncio
async def test_bastions_stand_before_a_server(real: RealHost, real_host: Start) -> None:
    """Two bastions with host keys of their own lead to the server, which sees the last one as its client."""
    first, second = (
        real_host(HostOptions(role="bastion", name="first")),
        real_host(HostOptions(role="bastion", name="second")),
    )
    assert len({(host.folder / "hostkey.pub").read_text() for host in (first, second, real)}) == 3
    async with connected(first) as one, connected(second, tunnel=one) as two, connected(real, tunnel=two) as inside:
        assert (await inside.run("hostname")).stdout == "apstra\n"


@pytest.mark.asyncio
async def test_sudo_may_use_a_terminal_of_its_own_or_not(real: RealHost, real_host: Start) -> None:
    """`Defaults use_pty`, as CIS asks, leaves pipes as they are; without it everything works as well."""
    for host in (real, real_host(HostOptions(use_pty=False))):
        result = await run(host, "sudo -S -p '' cat", "Lab-pass-1\nkept\n")
        assert (result.status, result.stdout) == (0, "kept\n")
