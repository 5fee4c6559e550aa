"""Handshakes with real TLS servers: what they serve is seen as it is, and whatever goes wrong is said."""

import asyncio
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import trustme

from runbook_lib.models import Served
from runbook_lib.probe.tls import OutageMeter, handshake, http_get, tcp_opener
from tests.embedded import EmbeddedHost
from tests.pki.authority import DAY, NOW, Issued, authority, issue, rsa_key
from tests.probe.tls_server import Talk, TlsServer, raw_server, say_nothing, server_context

ROOT = authority("Example Root")
INTERMEDIATE = authority("Example Issuing CA", ROOT)
LEAF = issue(issuer=INTERMEDIATE)
NAME = "apstra.example.com"
Serve = Callable[..., TlsServer]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts TLS servers; each ends with the test."""
    servers: list[TlsServer] = []

    def start(*chain: Issued, talk: Talk = say_nothing, **options: Any) -> TlsServer:  # noqa: ANN401 - handed on to a typed constructor
        servers.append(TlsServer(server_context(tmp_path, *(chain or (LEAF, INTERMEDIATE))), talk, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def look(port: int, host: str = "127.0.0.1", *, server_name: str = NAME, time_limit_s: float = 5) -> Served:
    """One handshake."""
    return run(
        handshake(
            tcp_opener(host, port), address=host, vantage="direct", server_name=server_name, time_limit_s=time_limit_s
        )
    )


def run(work: Awaitable[Served]) -> Served:
    """Runs work in a loop of its own, which must end without a complaint or a task left over."""
    complaints: list[dict[str, Any]] = []

    async def main() -> Served:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        result = await work
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    seen = asyncio.run(main())
    assert complaints == []
    return seen


CHAINS = {
    "leaf and intermediate": (LEAF, INTERMEDIATE),
    "leaf alone": (LEAF,),
    "with the root": (LEAF, INTERMEDIATE, ROOT),
    "in the wrong order": (LEAF, ROOT, INTERMEDIATE),
    "expired": (issue(issuer=INTERMEDIATE, not_before=NOW - 4000 * DAY),),
    "self-signed": (issue(),),
    "RSA 1024": (issue(key=rsa_key(1024)),),
    "another name": (issue("other.example.com", san=("DNS:other.example.com",)),),
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS.keys())
def test_the_whole_chain_is_seen_as_it_was_sent(serve: Serve, chain: tuple[Issued, ...]) -> None:
    """Whatever the certificates are worth, they are seen, all of them and in the order in which they came."""
    seen = look(serve(*chain).port)
    assert (seen.error, seen.address, seen.vantage) == ("", "127.0.0.1", "direct")
    assert seen.chain == tuple(each.pem.decode() for each in chain)


def test_a_certificate_of_another_maker_is_seen() -> None:
    """A server made with trustme shows the certificate that trustme gave it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert(NAME).configure_cert(context)
    server = TlsServer(context)
    seen = look(server.port)
    server.close()
    assert seen.protocol == "TLSv1.3"
    assert seen.chain


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_protocol_is_told(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """The protocol is the one that was agreed upon."""
    context = server_context(tmp_path, LEAF)
    context.minimum_version = context.maximum_version = version
    server = TlsServer(context)
    assert look(server.port).protocol == version.name.replace("_", ".")
    server.close()


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        (NAME, NAME),
        (f"{NAME}.", NAME),
        ("192.0.2.10", None),
        ("2001:db8::10", None),
        ("[2001:db8::10]", None),
        ("", None),
    ],
)
def test_a_name_is_sent_and_an_address_is_not(serve: Serve, name: str, sent: str | None) -> None:
    """SNI holds the host name; an address is never sent (RFC 6066, section 3)."""
    server = serve()
    assert look(server.port, server_name=name).error == ""
    assert server.server_names == [sent]


def test_ipv6_is_reached_with_brackets_and_without(serve: Serve) -> None:
    """`[::1]` and `::1` are the same address."""
    try:
        server = serve(host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    assert [look(server.port, host).error for host in ("[::1]", "::1")] == ["", ""]


def plain_text(connection: socket.socket) -> None:
    """Says something that is no TLS."""
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.recv(65536)


def reset(connection: socket.socket) -> None:
    """Breaks the connection off."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


FAILURES: dict[str, tuple[Callable[[socket.socket], None], str]] = {
    "plain text": (plain_text, "TLS: "),
    "closed at once": (lambda _: None, "eof|closed before"),
    "reset": (reset, "closed before the handshake"),
    "silence": (lambda _: time.sleep(1), "no answer in 0.3 s"),
}


@pytest.mark.parametrize(("answer", "words"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failed_handshake_says_why(answer: Callable[[socket.socket], None], words: str) -> None:
    """No failure raises; each one is told."""
    with raw_server(answer) as port:
        seen = look(port, time_limit_s=0.3 if "0.3" in words else 20)
    assert seen.chain == ()
    assert seen.protocol == ""
    assert any(each in seen.error for each in words.split("|"))


def test_a_server_that_cannot_sign_is_told_by_its_alert(tmp_path: Path) -> None:
    """A handshake that the server refuses, as nginx does with a pair of two kinds of key, is told by its alert."""
    context = server_context(tmp_path, LEAF)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aRSA")
    server = TlsServer(context)
    assert "alert handshake failure" in look(server.port).error
    server.close()


def test_what_cannot_be_reached_is_told() -> None:
    """A closed port, a name that nobody knows and a name that is none are told apart."""
    listener = socket.create_server(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    listener.close()
    assert look(port).error == "the connection was refused: nothing listens there"
    assert look(443, "no-such-host.invalid").error in {"the name is not known here", "no answer in 5 s"}
    assert look(443, "a" * 64 + ".example.com").error


@pytest.mark.parametrize("name", ["a" * 64 + ".example.com", ".example.com", "a..b", "a\0b"])
def test_a_name_that_cannot_be_sent_is_told(serve: Serve, name: str) -> None:
    """A server name that TLS cannot carry is an error in the result, not an exception."""
    assert look(serve().port, server_name=name).error


def test_any_error_of_the_way_there_is_told() -> None:
    """Errors that share no base with the socket's, as asyncssh's, end in the result too."""

    async def refused() -> Any:  # noqa: ANN401 - never returns
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "forwarding is off")

    assert run(handshake(refused, address="a", vantage="ssh", server_name="a")).error == "forwarding is off"


def test_a_handshake_through_ssh(practice: EmbeddedHost) -> None:
    """The same handshake runs over a channel of an SSH connection, and over a direct connection; both see the same."""
    given = practice.parameters

    async def through() -> Served:
        options = {"client_keys": [given["client_key"]], "known_hosts": given["known_hosts"], "config": None}
        async with asyncssh.connect(given["host"], given["ssh_port"], username=given["user"], **options) as ssh:
            seen = await handshake(
                lambda: ssh.open_connection("127.0.0.1", given["https_port"], encoding=None),
                address="a",
                vantage="ssh",
                server_name="127.0.0.1",
            )
            status, body = await http_get(
                lambda: ssh.open_connection("127.0.0.1", given["https_port"], encoding=None),
                host="127.0.0.1", path="/api/version", server_name="127.0.0.1", time_limit_s=5,
            )  # fmt: skip
        assert (status, body[:1]) == (200, b"{")
        return seen

    seen = asyncio.run(through())
    assert (seen.error, seen.chain) == ("", look(given["https_port"], given["host"], server_name="127.0.0.1").chain)
    assert seen.chain == (practice.served(),)


def says(answer: bytes) -> Talk:
    """Answers one request and closes."""

    def talk(connection: ssl.SSLSocket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(answer)
        connection.unwrap()

    heard: list[bytes] = []
    return talk


def says_and_stays(answer: bytes) -> Talk:
    """Answers one request and keeps the connection open."""

    def talk(connection: ssl.SSLSocket) -> None:
        connection.recv(65536)
        for start in range(0, len(answer), 7):
            connection.sendall(answer[start : start + 7])
        say_nothing(connection)

    return talk


CHUNKED = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"a": \r\n2\r\n1}\r\n0\r\n\r\n'
ANSWERS = {
    "with a length": (b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}', (200, b'{"a": 1}')),
    "without a length": (b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}', (200, b'{"a": 1}')),
    "HTTP/1.0": (b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}', (200, b'{"a": 1}')),
    "chunked": (CHUNKED, (200, b'{"a": 1}')),
    "unavailable": (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nwait", (503, b"wait")),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"")),
    "more than the length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabcd", (200, b"ab")),
}
NO_ANSWERS = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
    "chunks cut off": CHUNKED[:-9],
    "a damaged chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200,
    "a header without end": b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000,
}


def get(port: int, **options: Any) -> tuple[int, bytes]:  # noqa: ANN401 - handed on to a typed function
    """One GET of /api/version."""
    given: dict[str, Any] = {"host": NAME, "path": "/api/version", "server_name": NAME, "time_limit_s": 5} | options
    return asyncio.run(http_get(tcp_opener("127.0.0.1", port), **given))


@pytest.mark.parametrize(("answer", "wanted"), ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_is_read(serve: Serve, answer: bytes, wanted: tuple[int, bytes]) -> None:
    """Status and body of an answer, however its end is marked."""
    assert get(serve(talk=says(answer)).port) == wanted


@pytest.mark.parametrize("name", ["with a length", "chunked", "no content"])
def test_an_answer_ends_where_it_says(serve: Serve, name: str) -> None:
    """A server that keeps the connection open does not hold us up."""
    answer, wanted = ANSWERS[name]
    begun = time.monotonic()
    assert get(serve(talk=says_and_stays(answer)).port) == wanted
    assert time.monotonic() - begun < 4


@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
def test_what_is_no_answer_is_an_error(serve: Serve, answer: bytes) -> None:
    """Something else than a whole HTTP answer is a ValueError."""
    with pytest.raises(ValueError, match="no HTTP"):
        get(serve(talk=says(answer)).port)


@pytest.mark.parametrize(
    "head",
    [b"", b"Content-Length: 9000000\r\n", b"Transfer-Encoding: chunked\r\n"],
    ids=["no length", "length", "chunked"],
)
def test_a_body_is_capped(serve: Serve, head: bytes) -> None:
    """Of an endless body 1 MiB is read at most."""

    def talk(connection: ssl.SSLSocket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        while True:
            connection.sendall(b"8000\r\n" + bytes(32768) + b"\r\n" if b"chunked" in head else bytes(32768))

    status, body = get(serve(talk=talk).port)
    assert status == 200
    assert len(body) <= 1 << 20
    assert len(body) > 1_000_000


@pytest.mark.parametrize(
    ("host", "header"),
    [
        (NAME, NAME),
        ("192.0.2.10", "192.0.2.10"),
        ("2001:db8::10", "[2001:db8::10]"),
        ("[2001:db8::10]", "[2001:db8::10]"),
    ],
)
def test_the_request_is_one(serve: Serve, host: str, header: str) -> None:
    """One HTTP/1.1 request with the host it is for."""
    heard: list[bytes] = []

    def talk(connection: ssl.SSLSocket) -> None:
        heard.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        connection.unwrap()

    assert get(serve(talk=talk).port, host=host, server_name=host) == (200, b"")
    assert heard == [
        f"GET /api/version HTTP/1.1\r\nHost: {header}\r\nAccept: application/json\r\nConnection: close\r\n\r\n".encode()
    ]


def test_no_connection_is_an_oserror_and_silence_a_timeout(serve: Serve) -> None:
    """What keeps an answer from coming is told by the kind of error that the caller expects."""
    with pytest.raises(TimeoutError):
        get(serve().port, time_limit_s=0.3)
    with raw_server(lambda _: None) as port, pytest.raises(OSError):  # noqa: PT011 - any of its kinds
        get(port)


def measure(port: int, work: Callable[[], Awaitable[None]]) -> OutageMeter:
    """Does something while a server is asked all the time; nothing may be left over, and nobody may complain."""
    complaints: list[dict[str, Any]] = []

    async def main() -> OutageMeter:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with OutageMeter(tcp_opener("127.0.0.1", port), NAME) as meter:
            await work()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return meter

    meter = asyncio.run(main())
    assert complaints == []
    return meter


def test_no_outage(serve: Serve) -> None:
    """A server that always answers was never away."""
    meter = measure(serve().port, lambda: asyncio.sleep(0.3))
    assert meter.outage_ms == 0.0
    assert {leaf for _, leaf in meter.samples} == {LEAF.certificate.sha256}
    assert len(meter.samples) > 3


def test_an_outage_is_measured_and_both_certificates_are_seen(serve: Serve, tmp_path: Path) -> None:
    """The time between the last answer before and the first one after, and which certificate was served when."""
    first = serve()
    renewed = issue(issuer=INTERMEDIATE)
    (tmp_path / "new").mkdir()
    begun = ended = 0.0

    async def restart() -> None:
        nonlocal begun, ended
        await asyncio.sleep(0.2)
        first.close()
        begun = time.monotonic()
        await asyncio.sleep(0.4)
        ended = time.monotonic()
        servers.append(TlsServer(server_context(tmp_path / "new", renewed), port=first.port))
        await asyncio.sleep(0.3)

    servers: list[TlsServer] = []
    meter = measure(first.port, restart)
    servers[0].close()
    assert meter.outage_ms is not None
    assert (ended - begun) * 1000 - 50 < meter.outage_ms < (ended - begun) * 1000 + 1500
    leaves = [leaf for index, (_, leaf) in enumerate(meter.samples) if not index or leaf != meter.samples[index - 1][1]]
    assert leaves == [LEAF.certificate.sha256, "", renewed.certificate.sha256]
    assert [at for at, _ in meter.samples] == sorted(at for at, _ in meter.samples)


def test_a_server_that_hangs_is_away() -> None:
    """A connection that is taken and never answered counts as no answer, and holds the end up by no more than two probes."""
    server = TlsServer(None)
    begun = time.monotonic()
    meter = measure(server.port, lambda: asyncio.sleep(0.7))
    server.close()
    assert meter.outage_ms is None
    assert {leaf for _, leaf in meter.samples} == {""}
    assert time.monotonic() - begun < 4


def test_the_end_of_an_outage_is_waited_for(serve: Serve) -> None:
    """Where the last probe failed, one more is made, so that an outage that has just ended has an end."""
    first = serve()

    async def restart() -> None:
        await asyncio.sleep(0.2)
        first.close()
        await asyncio.sleep(0.2)
        serve(port=first.port)

    meter = measure(first.port, restart)
    assert meter.samples[-1][1] == LEAF.certificate.sha256
    assert meter.outage_ms is not None
    assert meter.outage_ms > 150


def test_a_cancelled_run_ends_its_meter(serve: Serve) -> None:
    """A cancellation goes through: the meter stops at once, and the run is cancelled and not held."""
    server = serve()

    async def main() -> None:
        meter = OutageMeter(tcp_opener("127.0.0.1", server.port), NAME)

        async def work() -> None:
            async with meter:
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0.2)
        task.cancel()
        begun = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - begun < 0.4
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


def test_an_error_goes_through_the_meter(serve: Serve) -> None:
    """An error in the measured work is raised, not held up or hidden."""

    async def fail() -> None:
        await asyncio.sleep(0.05)
        msg = "the work failed"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="the work failed"):
        measure(serve().port, fail)


Stretches = list[tuple[int, int, int]]
OUTAGES: dict[str, tuple[list[tuple[float, str]], float | None, Stretches]] = {
    "no sample": ([], None, []),
    "never answered": ([(0.1, ""), (0.2, "")], None, [(0, 200, 0)]),
    "always answered": ([(0.1, "a"), (2.0, "a")], 0.0, [(0, 2000, 1)]),
    "one outage": ([(0.1, "a"), (0.2, ""), (0.3, ""), (0.5, "b"), (0.6, "b")], 400.0, [(0, 100, 1), (100, 500, 0), (500, 600, 2)]),
    "the longest of two": ([(0.1, "a"), (0.2, ""), (0.3, "a"), (0.4, ""), (1.3, "a")], 1000.0,
                           [(0, 100, 1), (100, 300, 0), (300, 300, 1), (300, 1300, 0), (1300, 1300, 1)]),
    "away at the start": ([(0.1, ""), (0.25, "a")], 250.0, [(0, 250, 0), (250, 250, 1)]),
    "still away": ([(0.1, "a"), (0.2, ""), (0.6, "")], 500.0, [(0, 100, 1), (100, 600, 0)]),
    "no outage": ([(0.1, "a"), (0.2, "b"), (0.3, "a")], 0.0, [(0, 100, 1), (100, 200, 2), (200, 300, 1)]),
}  # fmt: skip


@pytest.mark.parametrize(("samples", "outage", "stretches"), OUTAGES.values(), ids=OUTAGES.keys())
def test_the_outage_is_the_longest_time_without_an_answer(
    samples: list[tuple[float, str]], outage: float | None, stretches: Stretches
) -> None:
    """From the last answer before to the first one after; None where none is known. What is drawn of it is as long."""
    meter = OutageMeter(tcp_opener("127.0.0.1", 1), NAME, samples)
    assert meter.outage_ms == (outage if outage is None else pytest.approx(outage))
    assert meter.segments("a") == stretches
    if outage is not None:
        assert max([ended - begin for begin, ended, state in stretches if not state], default=0) == pytest.approx(
            outage
        )
