"""SSH agents that end with the test; one of them waits before it signs, as one does that asks for a finger."""

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIGN_REQUEST = 13  # SSH_AGENTC_SIGN_REQUEST, draft-ietf-sshm-ssh-agent


@contextmanager
def agent(folder: Path, *keys: Path) -> Iterator[Path]:
    """An agent that holds these keys; gives its socket."""
    path = folder / "agent.sock"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as process:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.01)
        if keys:
            asked: list[str | Path] = ["ssh-add", "-q", *keys]
            subprocess.run(asked, check=True, capture_output=True, env={"SSH_AUTH_SOCK": str(path)})
        yield path
        process.terminate()


@contextmanager
def slow_agent(folder: Path, *keys: Path, sign_s: float) -> Iterator[Path]:
    """The same, which takes so many seconds to sign."""
    path = folder / "slow.sock"
    with agent(folder, *keys) as behind, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        threading.Thread(target=_serve, args=(listening, behind, sign_s), daemon=True).start()
        yield path
        listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, behind: Path, sign_s: float) -> None:
    with suppress(OSError):
        while True:
            client, _ = listening.accept()
            threading.Thread(target=_pass_on, args=(client, behind, sign_s), daemon=True).start()


def _pass_on(client: socket.socket, behind: Path, sign_s: float) -> None:
    """Hands on each request and its answer; each begins with its length."""
    with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
        server.connect(str(behind))
        while request := _message(client):
            if request[4] == SIGN_REQUEST:
                time.sleep(sign_s)
            server.sendall(request)
            client.sendall(_message(server))


def _message(stream: socket.socket) -> bytes:
    length = stream.recv(4, socket.MSG_WAITALL)
    return length + stream.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL) if length else b""
