"""A real server on a loopback address: OpenSSH, sudo, docker and nginx with the true paths.

`host.sh` is the inside. Needs root and the Debian packages that `missing()` names; nothing of the machine
outside the namespaces is changed but for control groups named after the host, which `close` removes.
"""

import atexit
import contextlib
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

from runbook_lib.lab.folder import make_authority, signing_parameters
from tests.servers import FileState, served_leaf, snapshot

HERE = Path(__file__).parent
NEEDED = {
    "/usr/sbin/sshd": "openssh-server",
    "/usr/bin/sudo": "sudo",
    "/usr/sbin/nginx": "nginx-light",
    "/usr/sbin/dockerd": "docker.io",
    "/usr/bin/docker": "docker.io",
    "/usr/bin/openssl": "openssl",
    "/usr/bin/nsenter": "util-linux",
}
INSIDE = "/run/lab/given/host.sh"  # the checkout itself may lie where a server has a folder of its own, such as /tmp
LIFETIME_S = 3600
CONF_DIR = "/etc/aos/nginx.conf.d"
STATE_DIR = "/var/lib/apstra-runbook"
SUDO_PASSWORD = "Lab-pass-1"


def missing() -> list[str]:
    """What this machine lacks for a real server: `root`, or names of Debian packages."""
    packages = {package for program, package in NEEDED.items() if not Path(program).exists()}
    return (["root"] if os.geteuid() != 0 else []) + sorted(packages)


@dataclass(frozen=True)
class HostOptions:
    """What a real server is like.

    Attributes:
        name: Its host name.
        role: `controller` runs nginx, `worker` a node keeper and no nginx, `bastion` OpenSSH alone.
        container: The name of its container; empty is the usual one of its role.
        mount: `folder` mounts `conf_dir` into the container, `files` each of its files.
        nopasswd: sudo asks for no password.
        use_pty: sudo gives each command a terminal of its own, as CIS asks.
        tcp_forwarding: OpenSSH's AllowTcpForwarding.
        expired_password: The password of `admin` has to be changed at the next login.
        noise: `.bashrc` writes to both streams of every command.
        api: nginx answers `GET /api/version`.
    """

    name: str = "apstra"
    role: Literal["controller", "worker", "bastion"] = "controller"
    container: str = ""
    mount: Literal["folder", "files"] = "folder"
    nopasswd: bool = False
    use_pty: bool = True
    tcp_forwarding: bool = True
    expired_password: bool = False
    noise: bool = False
    api: bool = True

    def environment(self) -> dict[str, str]:
        """The variables that host.sh reads."""
        usual = "aos_node_keeper_1" if self.role == "worker" else "aos_nginx_1"
        values = asdict(self) | {"container": self.container or usual}
        return {
            f"LAB_{key.upper()}": str(int(value) if isinstance(value, bool) else value) for key, value in values.items()
        }


class RealHost:
    """A running real server; `start` makes one, `close` or the end of this process ends it."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, address: str, options: HostOptions) -> None:
        self.process, self.folder, self.address, self.options = process, folder, address, options
        self.ssh_port, self.https_port = 22, 443
        self._init_pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        self._running = self._containers()

    @classmethod
    def start(cls, options: HostOptions | None = None) -> Self:
        """Start a server and wait until it is ready, about a second.

        Raises:
            RuntimeError: It did not become ready; with what it said.
        """
        options = options or HostOptions()
        folder = Path(tempfile.mkdtemp(prefix=f"apstra-{options.name}-"))
        fill(folder, image=options.role != "bastion")
        address = free_address()
        process = _launch(folder, address, options)
        _wait_until_ready(process, folder)
        (folder / "known_hosts").write_text(f"{address} {(folder / 'hostkey.pub').read_text()}")
        return cls(process, folder, address, options)

    @property
    def parameters(self) -> dict[str, Any]:
        """The connection half of a run's parameters."""
        return {
            "host": self.address,
            "ssh_port": self.ssh_port,
            "user": "admin",
            "known_hosts": str(self.folder / "known_hosts"),
            "client_key": str(self.folder / "id_ed25519"),
            "sudo_password": f"file:{self.folder / 'password'}",
            "https_port": self.https_port,
            "conf_dir": CONF_DIR,
            "state_dir": STATE_DIR,
        }

    @property
    def signing(self) -> dict[str, Any]:
        """The parameters with which a practice CA signs."""
        if not (self.folder / "ca.pem").exists():
            make_authority(self.folder)
        return signing_parameters(self.folder)

    def run(self, command: str, *, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root inside, in a session of its own."""
        inside = [
            "nsenter",
            "-t",
            str(self._init_pid),
            "-m",
            "-u",
            "-i",
            "-p",
            "--wd=/",
            "--",
            "/bin/bash",
            "-c",
            command,
        ]
        return subprocess.run(
            inside,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
        )

    def path(self, path: str) -> Path:
        """The file of the server, seen from outside."""
        return Path(f"/proc/{self._init_pid}/root{path}")

    def snapshot(self) -> dict[str, FileState]:
        """Every file of `conf_dir`."""
        return snapshot(self.path(CONF_DIR))

    def served(self) -> str:
        """The leaf served on 443, PEM."""
        return served_leaf(self.address, self.https_port)

    def reset(self) -> None:
        """End what tests left running, take back the first pair, forget `state_dir` and failed logins."""
        self._checked(f"{INSIDE} - quiet")
        if self.options.role == "bastion":
            return
        changed = self.snapshot() != snapshot(self.path("/run/lab/first/nginx.conf.d"))
        if changed:
            self._checked("find /etc/aos -mindepth 1 -delete; cp -a /run/lab/first/. /etc/aos/")
        if changed or self._containers() != self._running:
            self._checked(f"{INSIDE} - containers", timeout_s=60)
            self._running = self._containers()

    def close(self) -> None:
        """End the server and everything in it, and remove its folder and control groups."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()
        self.process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)
        _remove_control_groups(_control_group(self.address))

    def _containers(self) -> str:
        if self.options.role == "bastion":
            return ""
        return self._checked(
            "docker ps -aq --no-trunc | xargs docker inspect --format '{{.Name}} {{.State.Status}} {{.State.StartedAt}} {{.RestartCount}}'"
        )

    def _checked(self, command: str, *, timeout_s: float = 30) -> str:
        result = self.run(command, timeout_s=timeout_s)
        if result.returncode != 0:
            raise RuntimeError(f"{command}: status {result.returncode}: {result.stderr}")
        return result.stdout

    def _environment(self) -> dict[str, str]:
        return environment(self.address, self.options)


@cache
def _image() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="apstra-image-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tar = folder / "image.tar"
    subprocess.run([HERE / "image.sh", tar], check=True, capture_output=True)
    return tar


def fill(folder: Path, *, image: bool) -> None:
    """What the inside of a server needs from outside: host.sh, a key, a password, the image of nginx."""
    shutil.copy(HERE / "host.sh", folder)
    key = folder / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f", key], check=True)
    key.with_suffix(".pub").rename(folder / "authorized_key")
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text(SUDO_PASSWORD)
    if image:
        os.link(_image(), folder / "image.tar")


def free_address() -> str:
    """A loopback address nobody listens on; at random, because other test runs look for one too."""
    while True:
        address = f"127.{secrets.randbelow(200) + 20}.{secrets.randbelow(256)}.{secrets.randbelow(254) + 1}"
        if not any(_listening(address, port) for port in (22, 443)):
            return address


def _listening(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def _control_group(address: str) -> str:
    return f"apstra-{address.replace('.', '-')}"


def environment(address: str, options: HostOptions) -> dict[str, str]:
    """The variables of a server's inside."""
    fixed = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LIFETIME_S": str(LIFETIME_S)}
    return fixed | {"LAB_ADDRESS": address, "LAB_CGROUP": _control_group(address)} | options.environment()


def _launch(folder: Path, address: str, options: HostOptions) -> subprocess.Popen[str]:
    """PID 1 of the new namespaces holds the read end of a pipe whose other end is this process's alone."""
    unshare = ["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with (folder / "host.log").open("w") as log:
        process = subprocess.Popen(
            [*unshare, HERE / "host.sh", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(address, options),
            start_new_session=True,
        )
    if process.stdin:
        # A forked child (not an executed one) would otherwise keep the pipe open past our death.
        stdin = process.stdin.fileno()
        os.register_at_fork(after_in_child=lambda: _close_quietly(stdin))
    return process


def _close_quietly(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _wait_until_ready(process: subprocess.Popen[str], folder: Path) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
        ready = selector.select(timeout=60)
    if not ready or process.stdout.readline() != "ready\n":  # type: ignore[union-attr]
        process.kill()
        raise RuntimeError(f"the real server did not start:\n{(folder / 'host.log').read_text()}")


def _remove_control_groups(name: str) -> None:
    for top in _control_group_folders(name):
        deepest_first = sorted(
            (path for path in top.rglob("*") if path.is_dir()), key=lambda path: len(path.parts), reverse=True
        )
        for folder in (*deepest_first, top):
            _remove_folder(folder)


def _control_group_folders(name: str) -> Iterator[Path]:
    yield from Path("/sys/fs/cgroup").glob(name)
    yield from Path("/sys/fs/cgroup").glob(f"*/{name}")


def _remove_folder(folder: Path) -> None:
    """The kernel needs a moment after the last process of a control group has ended."""
    for _ in range(50):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
