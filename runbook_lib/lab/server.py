"""One practice server: a thread with its SSH listener, its docker and its nginx."""

import asyncio
import contextlib
import json
import os
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import asyncssh

from runbook_lib.lab import folder
from runbook_lib.lab.container import Container
from runbook_lib.lab.docker import Docker
from runbook_lib.lab.nginx import Nginx
from runbook_lib.lab.nginxconf import CONTAINER_DIR
from runbook_lib.lab.ssh import USER, Login, end_processes, run_command

_VERSION = json.dumps({"major": "4", "version": "4.2.0", "build": "236", "minor": "2"}).encode()
_PAGE = b"<!doctype html><title>Apstra practice server</title><h1>Apstra practice server</h1>\n"


@dataclass(eq=False)
class PracticeServer:
    """An Apstra server to practise on, in a folder and a thread of its own, with 127.0.0.1 as its address.

    A context manager, plain or async. State lies in `root` and survives a restart of the server.

    Attributes:
        root: Its folder; made with mode 0700 where it is missing.
        ssh_port: Port of SSH; 0 before the start means any free one.
        https_port: Port of nginx; 0 before the start means the one it had before, or any free one.
        name: Host name in the first certificate.
        password: Of `admin` for SSH and sudo; empty means the one it had before, or a random one.
        nopasswd: sudo asks for no password.
        wrong_password_delay_s: How long sudo sulks after a wrong one; the real one takes about two seconds.
        noise: Each command's streams start with lines that a `.bashrc` wrote.
        expired_password: Every command ends with the demand for a new password.
        tcp_forwarding: Connections may be forwarded to loopback addresses.
        role: A `worker` runs a node keeper and no nginx.
        container: Name of nginx's container.
        mount: The container sees `conf_dir` (`folder`) or each of its files by a mount of its own (`files`).
        https: Clients can connect to nginx.
        api: `GET /api/version` answers.
        password_attempts: Passwords that were offered over SSH.
        connections: The SSH connections that are open.
    """

    root: Path
    ssh_port: int = 0
    https_port: int = 0
    name: str = "apstra.lab.example"
    password: str = ""
    nopasswd: bool = False
    wrong_password_delay_s: float = 0.05
    noise: bool = False
    expired_password: bool = False
    tcp_forwarding: bool = True
    role: Literal["controller", "worker"] = "controller"
    container: str = "aos_nginx_1"
    mount: Literal["folder", "files"] = "folder"
    https: bool = True
    api: bool = True
    password_attempts: int = 0
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)

    @property
    def conf_dir(self) -> Path:
        """Where the pair lies."""
        return self.root / "etc/aos/nginx.conf.d"

    @property
    def state_dir(self) -> Path:
        """Where a runbook keeps its changes; made by the runbook."""
        return self.root / "var/lib/apstra-runbook"

    @property
    def parameters(self) -> dict[str, Any]:
        """The connection half of a run's parameters."""
        return {
            "host": folder.HOST,
            "ssh_port": self.ssh_port,
            "user": USER,
            "known_hosts": str(self.root / "known_hosts"),
            "client_key": str(self.root / "id_ed25519"),
            "sudo_password": "" if self.nopasswd else f"file:{self.root / 'sudo_password'}",
            "https_port": self.https_port,
            "conf_dir": str(self.conf_dir),
            "state_dir": str(self.state_dir),
        }

    @property
    def signing(self) -> dict[str, Any]:
        """The parameters with which the practice CA signs."""
        return folder.signing_parameters(self.root)

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            UnsafeFolderError: The folder cannot be used.
            OSError: A port is taken.
        """
        self.root = self.root.absolute()
        self._lock = folder.claim(self.root)
        self._failure: BaseException | None = None
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name=f"practice server {self.root.name}", daemon=True
        )
        self._thread.start()
        ready.wait()
        if self._failure:
            self._thread.join()
            os.close(self._lock)
            raise self._failure

    def close(self) -> None:
        """End it, and every process that was started through it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        end_processes(self.root)
        os.close(self._lock)

    def restart_container(self) -> None:
        """`docker restart` of every container, from the outside."""
        asyncio.run_coroutine_threadsafe(self._restart_all(), self._loop).result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    def _run(self, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(ready))
        except BaseException as error:  # noqa: BLE001 - the starting thread raises it
            self._failure = error
            ready.set()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._furnish()
        self._containers = self._all_containers()
        async with contextlib.AsyncExitStack() as stack:
            listener = await asyncssh.listen(
                folder.HOST,
                self.ssh_port,
                server_factory=lambda: Login(self),
                server_host_keys=[self.root / "ssh_host_ed25519_key"],
                process_factory=lambda process: run_command(self, process),
                encoding=None,
                allow_pty=False,
                agent_forwarding=False,
                allow_scp=False,
                reuse_address=True,
            )
            await stack.enter_async_context(listener)
            self.ssh_port = listener.get_port()
            folder.pin_host_key(self.root, self.ssh_port)
            await stack.enter_async_context(
                await asyncio.start_unix_server(self._answer_docker, sock=self._docker_socket())
            )
            for container in self._containers:
                container.boot()
                stack.callback(container.stop)
            ready.set()
            await self._stop.wait()
            for connection in list(self.connections):
                connection.abort()
                await connection.wait_closed()

    def _furnish(self) -> None:
        had = folder.https_port(self.root)
        if had and self.https_port not in {0, had}:
            raise folder.UnsafeFolderError(
                f"{self.root} was made for HTTPS port {had}; use that port, or remove the folder"
            )
        self.https_port = had or self.https_port or folder.free_port()
        folder.furnish(self.root, name=self.name, https_port=self.https_port, password=self.password)
        self.password = (self.root / "sudo_password").read_text()
        (self.root / "sudo.conf").write_text(f"{int(self.nopasswd)} {self.wrong_password_delay_s}\n")

    def _all_containers(self) -> list[Container]:
        if self.role == "worker":
            return [Container("aos_node_keeper_1", ("/usr/bin/aos_node_keeper",))]
        nginx = Nginx(self.conf_dir, self._respond, file_mounts=self.mount == "files", listens=self.https)
        mounts = [(str(self.conf_dir), CONTAINER_DIR)]
        if self.mount == "files":
            mounts = [(str(file), f"{CONTAINER_DIR}/{file.name}") for file in sorted(self.conf_dir.iterdir())]
        others = [self.container.replace("nginx", other) for other in ("controller", "metadb", "auth", "sysdb")]
        return [
            Container(self.container, ("nginx", "-g", "daemon off;"), tuple(mounts), nginx),
            *(Container(other, ("/usr/bin/aos_launcher",)) for other in others if other != self.container),
        ]

    def _respond(self, path: str) -> tuple[str, str, bytes]:
        if path == "/api/version" and self.api:
            return "200 OK", "application/json", _VERSION
        if path.startswith("/api"):
            return "502 Bad Gateway", "text/html", b"<html><h1>502 Bad Gateway</h1></html>\n"
        return "200 OK", "text/html", _PAGE

    def _docker_socket(self) -> socket.socket:
        """Bound by way of the folder's descriptor, since its path may be too long for a socket address."""
        (self.root / "docker.sock").unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"/proc/self/fd/{self._lock}/docker.sock")
        return listener

    async def _answer_docker(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arguments = (await reader.read()).decode(errors="surrogateescape").split("\0")[:-1]
        reply = await Docker(self._containers).run(arguments)
        stdout = reply.stdout.encode()
        writer.write(f"{reply.status} {len(stdout)}\n".encode() + stdout + reply.stderr.encode())
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _restart_all(self) -> None:
        await asyncio.gather(*(container.restart() for container in self._containers))
