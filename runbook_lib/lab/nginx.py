"""nginx as its clients see it: a TLS listener that loads its pair at a start, with nginx's errors.

TLS runs in blocking threads, because asyncio's TLS does not send the alerts of a failed handshake.
"""

import contextlib
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

from runbook_lib.lab.nginxconf import CONTAINER_DIR, Configuration, EmergencyError, read_configuration

_NO_FILE = (
    "BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory:calling fopen({path}, r) "
    "error:10000080:BIO routines::no such file)"
)
_NO_ACCESS = (
    "BIO_new_file() failed (SSL: error:8000000D:system library::Permission denied:calling fopen({path}, r) "
    "error:10080002:BIO routines::system lib)"
)
_NO_CERTIFICATE = (
    "PEM_read_bio_X509_AUX() failed (SSL: error:0480006C:PEM routines::no start line:Expecting: TRUSTED CERTIFICATE)"
)
_BROKEN_CERTIFICATE = "PEM_read_bio_X509() failed (SSL: error:0488000D:PEM routines::ASN1 lib)"
_NO_KEY = "PEM_read_bio_PrivateKey() failed (SSL: error:1E08010C:DECODER routines::unsupported:No supported data to decode. Input type: PEM)"
_ENCRYPTED_KEY = "PEM_read_bio_PrivateKey() failed (SSL: error:04800068:PEM routines::bad password read)"
_MISMATCH = (
    'SSL_CTX_use_PrivateKey("{path}") failed (SSL: error:05800074:x509 certificate routines::key values mismatch)'
)
_TIMEOUT_S = 10
_LARGEST_HEAD = 16 * 1024

Respond = Callable[[str], tuple[str, str, bytes]]
"""From a request's path to status line, content type and body."""


class Nginx:
    """One nginx with the files of a folder as its `/etc/nginx/conf.d`.

    Args:
        conf_dir: The folder.
        respond: What it answers.
        file_mounts: Each file of the folder is a mount of its own: until the next start nginx sees the inodes of
            the last one, whatever was renamed over them since.
        listens: Whether anybody can connect.
    """

    def __init__(self, conf_dir: Path, respond: Respond, *, file_mounts: bool = False, listens: bool = True) -> None:
        self._conf_dir, self._respond, self._file_mounts, self._listens = conf_dir, respond, file_mounts, listens
        self._mounted: dict[str, int] = {}
        self._listener: socket.socket | None = None
        self._context: ssl.SSLContext | None = None
        self._connections: set[socket.socket] = set()
        self._aside: dict[str, socket.socket] = {}

    def test(self) -> None:
        """`nginx -t`.

        Raises:
            EmergencyError: It would not start.
        """
        self._load()

    def start(self) -> None:
        """Load the pair and listen.

        Raises:
            EmergencyError: It does not start.
        """
        self._mount()
        configuration, self._context = self._load()
        if configuration.listen and self._context and self._listens:
            self._listener = _listen(*configuration.listen)
            self._accept(self._listener, lambda: self._context)

    def reload(self) -> None:
        """Load the pair for connections to come.

        Raises:
            EmergencyError: It would not start; the old pair goes on serving.
        """
        _, self._context = self._load()
        self._drop_connections()

    def test_aside(self, file: str) -> None:
        """`nginx -t -q -c FILE`: whether another nginx could serve one pair; its files are those of the machine.

        Raises:
            EmergencyError: It would not start.
        """
        _server_context(_value(file, "ssl_certificate "), _value(file, "ssl_certificate_key "), Path)

    def start_aside(self, file: str) -> None:
        """`nginx -c FILE`: that nginx serves, on a Unix socket.

        Raises:
            EmergencyError: It does not start.
        """
        context = _server_context(_value(file, "ssl_certificate "), _value(file, "ssl_certificate_key "), Path)
        listener = self._aside[file] = socket.socket(socket.AF_UNIX)
        listener.bind(_value(file, "listen unix:"))
        listener.listen()
        self._accept(listener, lambda: context)
        Path(_value(file, "pid ")).write_text(f"{os.getpid()}\n")

    def stop_aside(self, file: str) -> None:
        """A SIGTERM for that nginx."""
        _close(self._aside.pop(file))

    def stop(self) -> None:
        """Refuse connections from now on and drop the open ones."""
        for listener in (*self._aside.values(), *([self._listener] if self._listener else [])):
            _close(listener)
        self._aside.clear()
        self._listener = None
        self._drop_connections()

    def path(self, inside: str) -> Path:
        """The file on the server behind a path inside the container."""
        name = inside.removeprefix(f"{CONTAINER_DIR}/")
        if name in self._mounted:
            return Path(f"/proc/self/fd/{self._mounted[name]}")
        return (
            self._conf_dir / name
            if name != inside and ".." not in name and not self._file_mounts
            else Path("/nonexistent", name.lstrip("/"))
        )

    def _mount(self) -> None:
        for descriptor in self._mounted.values():
            os.close(descriptor)
        files = [file for file in self._conf_dir.iterdir() if file.is_file()] if self._file_mounts else []
        self._mounted = {file.name: os.open(file, os.O_RDONLY) for file in files}

    def _load(self) -> tuple[Configuration, ssl.SSLContext | None]:
        names = self._mounted if self._file_mounts else [file.name for file in self._conf_dir.glob("[!.]*.conf")]
        included = [f"{CONTAINER_DIR}/{name}" for name in names if name.endswith(".conf")]
        configuration = read_configuration({inside: self.path(inside) for inside in included})
        contexts = [_server_context(*pair, self.path) for pair in configuration.pairs]
        return configuration, contexts[0] if contexts else None

    def _accept(self, listener: socket.socket, context: Callable[[], ssl.SSLContext | None]) -> None:
        """Serves whoever connects, in threads, until the listener is closed."""

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                if now := context():
                    threading.Thread(
                        target=self._serve, args=(connection, now), name="practice nginx", daemon=True
                    ).start()

        threading.Thread(target=accept, name="practice nginx", daemon=True).start()

    def _serve(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        raw.settimeout(_TIMEOUT_S)
        self._connections.add(raw)
        with (
            contextlib.suppress(OSError),
            raw,
            context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as tls,
        ):
            self._connections.discard(raw)
            self._connections.add(tls)
            try:
                tls.do_handshake()
                while path := _request_path(tls):
                    tls.sendall(_response(*self._respond(path)))
            finally:
                self._connections.discard(tls)
        self._connections.discard(raw)

    def _drop_connections(self) -> None:
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def _value(file: str, directive: str) -> str:
    found = re.search(rf"(?m)^\s*{directive}([^\s;]+)", Path(file).read_text())
    return found[1] if found else ""


def _close(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _server_context(certificate: str, key: str, path: Callable[[str], Path]) -> ssl.SSLContext:
    """What nginx makes of a pair; `path` gives the file on the server behind a path inside the container."""
    _expect_readable(path, certificate, "certificate")
    _expect_certificates(certificate, path(certificate).read_bytes())
    _expect_readable(path, key, "certificate key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(path(certificate), path(key), password=lambda: b"")
    except ssl.SSLError as error:
        text = _emergency(error, certificate, key, path(key).read_bytes())
        if text:
            raise EmergencyError(text) from None
    return context


def _expect_readable(path: Callable[[str], Path], inside: str, what: str) -> None:
    try:
        path(inside).read_bytes()
    except FileNotFoundError:
        raise EmergencyError(f'cannot load {what} "{inside}": {_NO_FILE.format(path=inside)}') from None
    except OSError:
        raise EmergencyError(f'cannot load {what} "{inside}": {_NO_ACCESS.format(path=inside)}') from None


def _expect_certificates(inside: str, content: bytes) -> None:
    """OpenSSL's loader stops quietly at the first broken block after the leaf in Python, loudly in nginx."""
    if b"-----BEGIN " not in content:
        raise EmergencyError(f'cannot load certificate "{inside}": {_NO_CERTIFICATE}')


def _emergency(error: ssl.SSLError, certificate: str, key: str, key_bytes: bytes) -> str:
    """nginx's words for what OpenSSL said; empty where nginx starts all the same.

    A key of another type than the certificate's goes to a slot of its own: nginx does not look, and each handshake fails.
    """
    match error.reason:
        case "KEY_VALUES_MISMATCH":
            return _MISMATCH.format(path=key)
        case "NO_CERTIFICATE_ASSIGNED" | "NO_PRIVATE_KEY_ASSIGNED" | "KEY_TYPE_MISMATCH":
            return ""
        case "EE_KEY_TOO_SMALL" | "CA_MD_TOO_WEAK" | "CA_KEY_TOO_SMALL":
            return f'SSL_CTX_use_certificate("{certificate}") failed (SSL: error:0A00018F:SSL routines::{error.reason.lower().replace("_", " ")})'
    if b"ENCRYPTED" in key_bytes:
        return f'cannot load certificate key "{key}": {_ENCRYPTED_KEY}'
    if b" PRIVATE KEY-----" not in key_bytes:
        return f'cannot load certificate key "{key}": {_NO_KEY}'
    return f'cannot load certificate "{certificate}": {_BROKEN_CERTIFICATE}'


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket; for a moment after a stop the port may still be taken by a connection of another process.

    Raises:
        EmergencyError: The port stays taken.
    """
    for _ in range(50):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except OSError:
            listener.close()
            time.sleep(0.02)
        else:
            return listener
    raise EmergencyError(f"bind() to {host}:{port} failed (98: Address already in use)")


def _request_path(tls: ssl.SSLSocket) -> str:
    """The path of the next request, empty when the client has closed or said something else."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _LARGEST_HEAD:
        received = tls.recv(4096)
        if not received:
            return ""
        head += received
    words = head.split(b"\r\n", 1)[0].decode(errors="replace").split(" ")
    return words[1] if len(words) == 3 and words[0] in {"GET", "HEAD"} else ""  # noqa: PLR2004 - method, path, version


def _response(status: str, content_type: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nServer: nginx\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: keep-alive\r\n\r\n"
    return head.encode() + body
