"""A real server that runs under systemd, and whose power can be cut."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from tests.realserver import host
from tests.realserver.host import HERE, HostOptions, RealHost

SYSTEMD = Path("/lib/systemd/systemd")
READY_S = 60
_DIES_WITH_ITS_PARENT = ["setpriv", "--pdeathsig", "KILL"]


def missing() -> list[str]:
    """What this machine lacks for one."""
    return [*host.missing(), *([] if SYSTEMD.exists() else ["systemd"])]


class SystemdHost(RealHost):
    """A running server; its disk is a file system in memory that `close` takes away."""

    @classmethod
    def start(cls, options: HostOptions | None = None) -> Self:
        """Starts a server and waits until it is ready, some seconds.

        Raises:
            RuntimeError: It did not become ready; with what it said.
        """
        options = options or HostOptions()
        folder = Path(tempfile.mkdtemp(prefix=f"apstra-{options.name}-"))
        host.fill(folder, image=True)
        shutil.copy(HERE / "systemd.sh", folder)
        (folder / "disk").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", folder / "disk"], check=True)
        address = host.free_address()
        try:
            process = _boot(folder, address, options)
        except RuntimeError:
            subprocess.run(["umount", "--lazy", folder / "disk"], check=True)  # nobody is left who would
            raise
        (folder / "known_hosts").write_text(f"{address} {(folder / 'hostkey.pub').read_text()}")
        return cls(process, folder, address, options)

    def cut_power(self) -> None:
        """Nothing is closed, nothing is written any more."""
        self.process.kill()
        self.process.wait()

    def boot(self) -> None:
        """The power is back: the server starts from what lies on its disk.

        Raises:
            RuntimeError: It did not become ready.
        """
        self.__init__(_boot(self.folder, self.address, self.options), self.folder, self.address, self.options)  # type: ignore[misc]

    def close(self) -> None:
        """Ends the server and takes its disk away."""
        self.cut_power()
        for _ in range(50):  # the mounts of its namespace go with its last process
            if subprocess.run(["umount", self.folder / "disk"], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        super().close()


def _boot(folder: Path, address: str, options: HostOptions) -> "subprocess.Popen[str]":
    (folder / "ready").unlink(missing_ok=True)
    unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child", "--mount-proc"]
    inside = [folder / "systemd.sh", folder, folder / "disk"]
    with (folder / "host.log").open("w") as log:
        process = subprocess.Popen(
            [*_DIES_WITH_ITS_PARENT, *unshare, "--", *inside],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
            env=host.environment(address, options), start_new_session=True,
        )  # fmt: skip
    end = time.monotonic() + READY_S
    while not (folder / "ready").exists():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise RuntimeError(f"the server under systemd did not start:\n{(folder / 'host.log').read_text()}")
        time.sleep(0.05)
    return process
