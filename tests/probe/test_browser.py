"""What a real Chromium says of real servers, and what becomes of it when things go wrong."""

import asyncio
import contextlib
import datetime as dt
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook_lib.models import Certificate, Said, Visited
from runbook_lib.probe.browser import LARGEST_PICTURE, LONGEST, visit
from tests.browsers import chromium_of, need_browser, own_temporary_folder, processes_of
from tests.pki.authority import DAY, Issued, issue
from tests.probe.tls_server import TlsServer, server_context
from tests.servers import wait_until

NAME, WRONG = "apstra.example.com", "wrong.example.com"
HERE = {NAME: "127.0.0.1", WRONG: "127.0.0.1"}
YESTERDAY = dt.datetime.now(dt.UTC) - DAY
ROOT = issue("Test Root", ca=True, not_before=YESTERDAY)
SAN = (f"DNS:{NAME}", "IP:127.0.0.1")
LEAF = issue(NAME, ROOT, san=SAN, not_before=YESTERDAY)
SELF_SIGNED = issue(NAME, san=SAN, not_before=YESTERDAY)
PNG = b"\x89PNG\r\n\x1a\n"
HOSTILE = r"""<body><script>document.title = "\u001b[31m\u202e<b>\n Sign in</b> " + "x".repeat(1e6); alert("stop");
const canvas = document.body.appendChild(document.createElement("canvas")); canvas.width = 1024; canvas.height = 640;
const noise = canvas.getContext("2d").createImageData(1024, 640); noise.data.forEach((_, n, all) => all[n] = n % 4 < 3 ? Math.random() * 256 : 255);
canvas.getContext("2d").putImageData(noise, 0, 0); setInterval(() => fetch("/again"), 10)</script>"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """The folder in which visits make theirs, which must be empty afterwards; the test needs a browser."""
    need_browser()
    with own_temporary_folder() as folder:
        yield folder
        assert list(folder.iterdir()) == []
        assert processes_of(folder) == []


Serving = Callable[..., TlsServer]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    """Starts HTTPS servers that answer every request with one page."""
    servers = []

    def start(leaf: Issued, page: str = "<title>Sign in</title>", *above: Issued) -> TlsServer:
        def talk(connection: ssl.SSLSocket) -> None:
            if connection.recv(65536):
                body = page.encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(body) + body)  # fmt: skip

        servers.append(TlsServer(server_context(tmp_path, leaf, *above), talk))
        return servers[-1]

    yield start
    for each in servers:
        each.close()


async def look(
    port: int, *addresses: str, trust: Sequence[Certificate] = (ROOT.certificate,), limit_s: float = 20
) -> dict[str, Visited]:
    """A visit, by address."""
    seen = await visit(addresses, port, trust, time_limit_s=limit_s, resolve=HERE)
    assert tuple(each.address for each in seen) == addresses
    return {each.address: each for each in seen}


@pytest.mark.usefixtures("temporary")
async def test_it_accepts_by_name_and_address_and_refuses_another_name(serving: Serving) -> None:
    """With the CA trusted, and with what it saw: chain, protocol, status, title, picture."""
    port = serving(LEAF).port
    seen = await look(port, NAME, "127.0.0.1", WRONG, "[::1]")
    for each in (seen[NAME], seen["127.0.0.1"]):
        assert (each.said, each.error, each.status, each.title) == (Said.ACCEPTED, "", 200, "Sign in")
        assert each.url == f"https://{each.address}:{port}/"
    assert (seen[WRONG].said, seen[WRONG].error) == (Said.REFUSED, "net::ERR_CERT_COMMON_NAME_INVALID")
    for each in (seen[NAME], seen["127.0.0.1"], seen[WRONG]):
        assert [one.sha256 for one in each.chain] == [LEAF.certificate.sha256, ROOT.certificate.sha256]
        assert each.protocol == "TLS 1.3"
    assert (seen["[::1]"].said, seen["[::1]"].error) == (Said.UNREACHABLE, "net::ERR_CONNECTION_REFUSED")
    assert seen["[::1]"].chain == ()
    for each in seen.values():
        assert each.screenshot.startswith(PNG)
        assert len(each.screenshot) <= LARGEST_PICTURE


@pytest.mark.parametrize("trusts", [(ROOT.certificate,), (SELF_SIGNED.certificate,)], ids=["another", "it"])
@pytest.mark.usefixtures("temporary")
async def test_a_self_signed_certificate(serving: Serving, trusts: Sequence[Certificate]) -> None:
    """It is refused, unless it is trusted itself; and then for its own names alone."""
    seen = await look(serving(SELF_SIGNED).port, NAME, WRONG, trust=trusts)
    itself = SELF_SIGNED.certificate in trusts
    assert seen[NAME].error == ("" if itself else "net::ERR_CERT_AUTHORITY_INVALID")
    assert seen[NAME].said is (Said.ACCEPTED if itself else Said.REFUSED)
    assert seen[WRONG].error == f"net::ERR_CERT_{'COMMON_NAME' if itself else 'AUTHORITY'}_INVALID"
    assert [each.chain[0].sha256 for each in seen.values()] == [SELF_SIGNED.certificate.sha256] * 2


@pytest.mark.usefixtures("temporary")
async def test_a_server_that_never_answers() -> None:
    """The visit ends when its time is over, and says so."""
    server, began = TlsServer(None), time.monotonic()
    seen = (await look(server.port, "127.0.0.1", trust=(), limit_s=6))["127.0.0.1"]
    server.close()
    assert seen.said is Said.UNREACHABLE
    assert seen.error.startswith("no answer in ")
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("temporary")
async def test_a_hostile_page_is_data(serving: Serving) -> None:
    """Its title is one plain line that is not too long, its picture not too large, and neither a dialog nor endless requests hold it up."""
    seen = (await look(serving(LEAF, HOSTILE).port, NAME))[NAME]
    assert seen.said is Said.ACCEPTED
    assert len(seen.title) == LONGEST
    assert "<b> Sign in</b> xxx" in seen.title
    assert seen.title.isprintable()
    assert seen.screenshot.startswith(PNG)
    assert len(seen.screenshot) <= LARGEST_PICTURE


@dataclass(frozen=True)
class Lacking:
    """A machine on which something is missing: the only program in PATH, and what is said and advised there."""

    chromium: str
    words: str
    todo: str


LACKING = {
    "no Chromium": Lacking("", "no Chromium is installed here", "Debian: chromium"),
    "no certutil": Lacking("exec true", "certutil is not installed here", "Debian: libnss3-tools"),
    "a broken Chromium": Lacking("exit 1", "Chromium did not start", "see whether"),
}


@pytest.mark.parametrize("lacking", LACKING.values(), ids=LACKING)
@pytest.mark.usefixtures("temporary")
async def test_without_a_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: Lacking) -> None:
    """What is missing is said, and what to do."""
    if lacking.chromium:
        chromium = tmp_path / "chromium"
        chromium.write_text(f"#!/bin/sh\n{lacking.chromium}\n")
        chromium.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    trust = () if lacking is LACKING["a broken Chromium"] else (ROOT.certificate,)
    seen = (await look(443, "127.0.0.1", trust=trust))["127.0.0.1"]
    assert seen.said is Said.NOTHING
    assert lacking.words in seen.error
    assert lacking.todo in seen.todo


@pytest.mark.usefixtures("temporary")
async def test_without_playwright(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named that brings it."""
    monkeypatch.setitem(sys.modules, "playwright.async_api", None)
    seen = (await look(443, "127.0.0.1"))["127.0.0.1"]
    assert (seen.said, "extra `browser`" in seen.todo) == (Said.NOTHING, True)


async def until(condition: Callable[[], object]) -> None:
    """Waits without holding the event loop up."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for are processes
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("after_s", [0.0, 0.8])
async def test_a_browser_that_is_killed(temporary: Path, after_s: float) -> None:
    """While it starts or while it looks: that is nothing, and it is told at once."""
    server = TlsServer(None)
    looking = asyncio.create_task(look(server.port, "127.0.0.1", trust=()))
    await until(lambda: chromium_of(temporary))
    await asyncio.sleep(after_s)
    os.killpg(chromium_of(temporary), signal.SIGKILL)
    killed = time.monotonic()
    seen = (await looking)["127.0.0.1"]
    server.close()
    assert (seen.said, bool(seen.error), bool(seen.todo)) == (Said.NOTHING, True, True)
    assert time.monotonic() - killed < 5


@pytest.mark.parametrize("moment", ["driver", "frozen", "looking"])
async def test_one_that_is_cancelled(temporary: Path, moment: str) -> None:
    """Cancelled, twice even, whatever it was at and however dead its Chromium is: nothing is left of it."""
    server = TlsServer(None)
    looking = asyncio.create_task(look(server.port, "127.0.0.1", trust=()))
    await until(lambda: list(temporary.iterdir()))
    if moment != "driver":
        await until(lambda: chromium_of(temporary))
        await asyncio.sleep(1)
    if moment == "frozen":
        os.killpg(chromium_of(temporary), signal.SIGSTOP)
    for _ in range(2):
        looking.cancel()
        await asyncio.sleep(0)
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    assert looking.cancelled()
    await until(lambda: not list(temporary.iterdir()))
    server.close()


def test_its_processes_end_with_ours(temporary: Path) -> None:
    """Killed without a chance to do anything, a run leaves no browser behind."""
    server = TlsServer(None)
    code = f"import asyncio; from runbook_lib.probe.browser import visit; asyncio.run(visit(['127.0.0.1'], {server.port}, (), time_limit_s=60))"
    run = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(temporary)})
    wait_until(lambda: bool(chromium_of(temporary)))
    time.sleep(1)
    run.kill()
    run.wait()
    wait_until(lambda: not processes_of(temporary), timeout_s=20)
    server.close()
    subprocess.run(["rm", "-r", *temporary.iterdir()], check=True)
