"""TLS handshakes over any stream, a TCP connection or one through SSH. They look and do not judge: nothing is verified here."""

import asyncio
import contextlib
import hashlib
import http.client
import io
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

from runbook_lib.models import Served

T = TypeVar("T")
LARGEST_BODY = 1 << 20
PROBE_LIMIT_S = 0.5
MOST_SEGMENTS = 200
INTERVAL_S = 0.02


class Reader(Protocol):
    """The half of a stream that is read."""

    async def read(self, n: int, /) -> bytes:
        """Some bytes, none at the end."""


class Writer(Protocol):
    """The half of a stream that is written."""

    def write(self, data: bytes, /) -> None:
        """Queues bytes."""

    def close(self) -> None:
        """Closes the stream."""


Opener = Callable[[], Awaitable[tuple[Reader, Writer]]]


def _context() -> ssl.SSLContext:
    """One bare context for all probes: reading the system's trust store would cost 25 ms each and judge nothing.

    Protocols and ciphers are those that OpenSSL allows by default, as a browser of today would.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CONTEXT = _context()


def tcp_opener(host: str, port: int) -> Opener:
    """Opens TCP connections to a name, an IPv4 or an IPv6 address, the latter with brackets or without."""
    return lambda: asyncio.open_connection(_bare(host), port)


def _bare(host: str) -> str:
    return host.removeprefix("[").removesuffix("]")


class _Tls:
    """One TLS connection over a pair of streams."""

    def __init__(self, reader: Reader, writer: Writer, server_name: str | None) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = _CONTEXT.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)

    async def step(self, action: Callable[[], T]) -> T:
        """Does an action of the TLS object, moving bytes until it is done."""
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                self._flush()
                if data := await self._reader.read(65536):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            finally:
                self._flush()

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)


def _server_name(name: str) -> str | None:
    """The name for SNI, without the root's dot; none for an address (RFC 6066, section 3)."""
    try:
        ipaddress.ip_address(_bare(name))
    except ValueError:
        return name.removesuffix(".") or None
    return None


@contextlib.asynccontextmanager
async def _connected(opener: Opener, server_name: str) -> AsyncIterator[_Tls]:
    reader, writer = await opener()
    try:
        connection = _Tls(reader, writer, _server_name(server_name))
        await connection.step(connection.object.do_handshake)
        yield connection
    finally:
        writer.close()


def _chain(connection: ssl.SSLObject) -> tuple[str, ...]:
    """The chain as sent, PEM, leaf first; public since Python 3.13."""
    if hasattr(connection, "get_unverified_chain"):
        return tuple(ssl.DER_cert_to_PEM_cert(der) for der in connection.get_unverified_chain())
    sent = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    return tuple(each.public_bytes() for each in sent or ())


async def handshake(opener: Opener, *, address: str, vantage: str, server_name: str, time_limit_s: float = 5) -> Served:
    """What one handshake sees. It never raises for what a network or a server does; the reason stands in the result.

    Args:
        opener: How to get there.
        address: What is asked, for the result.
        vantage: From where it is seen, for the result.
        server_name: The name sent as SNI; an IP address sends none.
        time_limit_s: Seconds for connection and handshake together.
    """
    try:
        async with asyncio.timeout(time_limit_s), _connected(opener, server_name) as connection:
            return Served(address, vantage, _chain(connection.object), connection.object.version() or "")
    except TimeoutError:
        return Served(address, vantage, error=f"no answer in {time_limit_s:g} s")
    except Exception as error:  # noqa: BLE001 - asyncssh's refusals have no common base with the socket's
        return Served(address, vantage, error=_why(error))


def _why(error: Exception) -> str:
    """Why there was no handshake, in an operator's words."""
    match error:
        case ssl.SSLError():
            return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
        case socket.gaierror():
            return "the name is not known here"
        case ConnectionRefusedError():
            return "the connection was refused: nothing listens there"
        case ConnectionResetError() | BrokenPipeError():
            return "the connection was closed before the handshake was done"
        case UnicodeError():
            return "the name cannot be sent as a server name"
    return str(error) or type(error).__name__


class _Answer(io.BytesIO):
    """What http.client takes for a socket: the bytes that were received."""

    def makefile(self, mode: str) -> "io.BytesIO":  # noqa: ARG002
        return self


async def http_get(opener: Opener, *, host: str, path: str, server_name: str, time_limit_s: float) -> tuple[int, bytes]:
    """Status and body of one GET over TLS; the body is capped at 1 MiB.

    Raises:
        OSError, ValueError, TimeoutError: There was no answer, or no HTTP in it.
    """
    authority = f"[{_bare(host)}]" if ":" in host else host
    request = f"GET {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(time_limit_s), _connected(opener, server_name) as connection:
            await connection.step(lambda: connection.object.write(request.encode("ascii")))
            received = await _rest(connection)
    except (OSError, TimeoutError, ValueError):
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise OSError(str(error)) from None
    return _parsed(received)


def _response(received: bytes) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(_Answer(received))  # type: ignore[arg-type]


def _is_whole(received: bytes) -> bool:
    """Whether an answer has come to its end; one that marks none ends with the connection."""
    response = _response(received)
    try:
        response.begin()
        marked = response.length is not None or response.chunked
        response.read()
    except (http.client.HTTPException, ValueError):
        return False
    return marked


def _parsed(received: bytes) -> tuple[int, bytes]:
    response = _response(received)
    try:
        response.begin()
        return response.status, response.read()[:LARGEST_BODY]
    except http.client.HTTPException as error:
        if isinstance(error, http.client.IncompleteRead) and len(received) > LARGEST_BODY:
            return response.status, error.partial[:LARGEST_BODY]
        msg = f"no HTTP: {type(error).__name__}"
        raise ValueError(msg) from None


async def _rest(connection: _Tls) -> bytes:
    """What is answered, to its end: some servers keep the connection open although they were asked to close it."""
    received = bytearray()
    while len(received) <= LARGEST_BODY and not _is_whole(bytes(received)):
        try:
            chunk = await connection.step(lambda: connection.object.read(65536))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            break
        if not chunk:
            break
        received += chunk
    return bytes(received)


@dataclass
class OutageMeter:
    """Asks a server all the time whether it answers, and knows afterwards for how long it did not.

    Attributes:
        opener: How to get there.
        server_name: The name sent as SNI.
        samples: Seconds since the start at which a probe ended, and the leaf's SHA-256 (lower-case hex), empty where none answered.
    """

    opener: Opener
    server_name: str
    samples: list[tuple[float, str]] = field(default_factory=list)
    _begun: float = 0.0
    _task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._begun = time.monotonic()
        self._task = asyncio.create_task(self._probe_on())
        return self

    async def __aexit__(self, kind: object, *error: object) -> None:
        if self._task:
            self._task.cancel()
            # wait() and not await: a cancellation of our own must not be taken for the task's.
            await asyncio.wait({self._task})
        if kind is None and self.samples and not self.samples[-1][1]:
            await self._probe()

    async def _probe_on(self) -> None:
        while True:
            await self._probe()
            await asyncio.sleep(INTERVAL_S)

    async def _probe(self) -> None:
        seen = await handshake(
            self.opener, address="", vantage="", server_name=self.server_name, time_limit_s=PROBE_LIMIT_S
        )
        leaf = hashlib.sha256(ssl.PEM_cert_to_DER_cert(seen.chain[0])).hexdigest() if seen.chain else ""
        self.samples.append((time.monotonic() - self._begun, leaf))

    @property
    def outage_ms(self) -> float | None:
        """Milliseconds of the longest time without an answer; 0 when none failed, None when none answered."""
        if not any(leaf for _, leaf in self.samples):
            return None
        longest, last, failed = 0.0, 0.0, False
        for at, leaf in self.samples:
            failed = failed or not leaf
            longest = max(longest, at - last) if failed else longest
            if leaf:
                last, failed = at, False
        return longest * 1000

    def segments(self, before: str) -> list[tuple[int, int, int]]:
        """What answered from when to when, in milliseconds: 0 nothing, 1 the certificate from before, 2 another one.

        A time without an answer ends, as in `outage_ms`, where one came again.

        Args:
            before: SHA-256 of the leaf that was served before, lower-case hex.
        """
        found: list[tuple[int, int, int]] = []
        for at, leaf in self.samples:
            state, until = 0 if not leaf else 1 if leaf == before else 2, round(at * 1000)
            if found and found[-1][2] in {0, state}:
                found[-1] = (found[-1][0], until, found[-1][2])
            if not found or found[-1][2] != state:
                found.append((found[-1][1] if found else 0, until, state))
        return found[:MOST_SEGMENTS]
