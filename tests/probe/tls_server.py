"""Real TLS servers on loopback, in threads of the test process: they end with it, however it ends."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.pki.authority import Issued

Talk = Callable[[ssl.SSLSocket], None]


def say_nothing(connection: ssl.SSLSocket) -> None:
    """Waits until the client has gone."""
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


def server_context(folder: Path, leaf: Issued, *above: Issued) -> ssl.SSLContext:
    """A server's context for a chain, in the order given."""
    (folder / "chain.pem").write_bytes(leaf.pem + b"".join(each.pem for each in above))
    (folder / "chain.key").write_bytes(leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")  # weak keys are served too, to be looked at
    context.load_cert_chain(folder / "chain.pem", folder / "chain.key")
    return context


class TlsServer:
    """A listener that shakes hands and then talks.

    Args:
        context: None to accept connections and leave them without an answer.
        talk: What it says after the handshake.
        host: A loopback address.
        port: 0 for a free one.
    """

    def __init__(
        self, context: ssl.SSLContext | None, talk: Talk = say_nothing, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._context, self._talk = context, talk
        self.port: int = self._listener.getsockname()[1]
        self.server_names: list[str | None] = []
        self._open: list[socket.socket] = []
        if context:
            context.sni_callback = lambda _, name, __: self.server_names.append(name)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                if self._context:
                    threading.Thread(target=self._answer, args=(connection, self._context), daemon=True).start()

    def _answer(self, connection: socket.socket, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secured:
            self._talk(secured)

    def close(self) -> None:
        """Refuses connections from now on, and drops those that were left without an answer."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server that is no TLS server; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError), connection:
                    answer(connection)

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1]
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
