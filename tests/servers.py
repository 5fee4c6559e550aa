"""What a server looks like to a test, the embedded one and the real one alike."""

import contextlib
import hashlib
import ipaddress
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class FileState:
    """One file as it lies in a folder of the server."""

    sha256: str
    mode: str
    owner: str
    mtime_ns: int


class ServerUnderTest(Protocol):
    """The interface that the fixtures `practice`, `real` and `server` yield."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The connection half of a run's parameters: host, ports, user, keys, secrets, folders."""

    @property
    def signing(self) -> dict[str, Any]:
        """Parameters that let a practice CA sign: `signer`, `signer_options`, `ca_file`."""

    def run(self, command: str, *, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the server, past SSH and sudo."""

    def path(self, path: str) -> Path:
        """Where the file `path` of the server can be read from the test's own process."""

    def snapshot(self) -> dict[str, FileState]:
        """Every file of `conf_dir` by name: content, mode, owner and time of change."""

    def served(self) -> str:
        """The leaf certificate that is served now, PEM."""

    def reset(self) -> None:
        """Back to the first pair, running containers and no `state_dir`."""


def snapshot(folder: Path) -> dict[str, FileState]:
    """The files of a folder by name."""
    return {file.name: _state(file) for file in sorted(folder.iterdir())}


def _state(file: Path) -> FileState:
    info = file.lstat()
    content = file.read_bytes() if stat.S_ISREG(info.st_mode) else b""
    return FileState(
        hashlib.sha256(content).hexdigest(), oct(info.st_mode), f"{info.st_uid}:{info.st_gid}", info.st_mtime_ns
    )


def served_leaf(host: str, port: int, *, timeout_s: float = 5) -> str:
    """The leaf certificate of a TLS server, PEM, whatever it is worth.

    Raises:
        OSError: Nothing listens, or the handshake failed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout_s) as raw,
        context.wrap_socket(raw, server_hostname=_sni(host)) as tls,
    ):
        return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Ask again and again; an OSError of the condition, such as a refused connection, counts as not yet.

    Raises:
        TimeoutError: It did not come true in time.
    """
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.01)
    raise TimeoutError


def _sni(host: str) -> str | None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return None
