"""A real Chromium as witness: it visits addresses as a person would, and says what it makes of the certificate.

It is the Chromium that is installed, in a profile of its own that trusts, besides the authorities that Chromium knows by itself,
the given certificates alone: they stand in the NSS database of a home of its own, which `certutil` makes. No certificate error is
ever ignored. It goes straight to the addresses, by no proxy, and as root without its sandbox, because as root it does not start
with one. Playwright drives it; both and the folder end with the visit, also with one that is cancelled.
"""

import asyncio
import base64
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.chromium import flags, installed
from runbook_lib.models import Certificate, Said, Visited
from runbook_lib.pki.certificates import read_certificates
from runbook_lib.text import plain

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, CDPSession, Page, Playwright

BY_HAND = "look with a browser by hand"
LARGEST_PICTURE = 200 << 10
LONGEST = 200
_WIDTH, _HEIGHT = 1024, 640
_LOOK_S = 0.1  # between two looks whether Chromium lives
_END_S = 5  # for Chromium to be ended and the driver with it
_PICTURE_S = 3  # for the page to settle, and as long again for its picture
_ERROR = re.compile(r"net::(ERR_[A-Z0-9_]+)")
_REFUSALS = ("ERR_CERT", "ERR_SSL")  # chromium: net/base/net_error_list.h


class _Absent(Exception):
    """There is no browser to ask: why, and what to do."""

    def __init__(self, why: str, todo: str) -> None:
        super().__init__(why)
        self.why, self.todo = why, todo


async def visit(
    addresses: Sequence[str],
    port: int,
    trust: Sequence[Certificate],
    *,
    time_limit_s: float,
    resolve: Mapping[str, str] | None = None,
) -> tuple[Visited, ...]:
    """What Chromium makes of `https://ADDRESS:PORT/`. It never raises for what a browser, a network or a server does.

    Args:
        addresses: Names, IPv4 and IPv6 addresses, the latter with brackets or without.
        port: The TCP port.
        trust: What it trusts besides the authorities that Chromium knows: CAs, and self-signed certificates for themselves.
        time_limit_s: Seconds for all of it; what has not answered by then is unreachable.
        resolve: IP addresses of names that this machine cannot resolve.

    Returns:
        An item an address, in their order.
    """
    late = f"Chromium was not ready within {time_limit_s:.0f} s"
    found = {each: Visited(each, _url(each, port), Said.NOTHING, late, todo=BY_HAND) for each in addresses}
    until = asyncio.get_running_loop().time() + time_limit_s
    try:
        async with asyncio.timeout_at(until), _ready(trust) as ready:
            await _while_it_lives(ready.profile, _visit(ready, found, resolve or {}, until))
    except TimeoutError:
        pass  # what was found by then is told
    except _Absent as absent:
        _tell(found, absent.why, absent.todo)
    except Exception as error:  # noqa: BLE001 - whatever a browser dies of, the change does not hang on it
        _tell(found, _first_line(error))
    return tuple(found.values())


def _tell(found: "dict[str, Visited]", why: str, todo: str = BY_HAND) -> None:
    """Says why there is nothing to be told where nothing was found."""
    for address, each in found.items():
        if each.said is Said.NOTHING:
            found[address] = replace(each, error=why, todo=todo)


async def _while_it_lives(profile: Path, work: Coroutine[Any, Any, None]) -> None:
    """Does the work with Chromium; where that is gone, not all of Playwright's calls hear of it.

    Raises:
        _Absent: It ended, or it did not start.
    """
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(_end_of(profile))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise _Absent("Chromium ended before it had looked", BY_HAND)
        tasks[0].result()
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)


async def _end_of(profile: Path) -> None:
    """Waits until the Chromium of this profile has begun and has ended."""
    for wanted in (True, False):
        while bool(_process_of(profile)) is not wanted:  # noqa: ASYNC110 - a process of the driver, not of ours
            await asyncio.sleep(_LOOK_S)


def _url(address: str, port: int) -> str:
    bare = address.removeprefix("[").removesuffix("]")
    return f"https://{f'[{bare}]' if ':' in bare else bare}{'' if port == 443 else f':{port}'}/"  # noqa: PLR2004 - HTTPS


def _first_line(error: Exception) -> str:
    lines = [line for line in plain(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:LONGEST]


@dataclass(frozen=True)
class _Ready:
    """All that a visit needs: the program, a home of its own for it, and what drives it."""

    program: str
    home: Path
    driver: "Playwright"

    @property
    def profile(self) -> Path:
        return self.home / "profile"


@asynccontextmanager
async def _ready(trust: Sequence[Certificate]) -> AsyncIterator[_Ready]:
    """A home for Chromium in which the given are trusted; it is gone afterwards, with all that runs in it.

    Raises:
        _Absent: Something that is needed is not installed.
    """
    program = installed()
    if program is None:
        raise _Absent("no Chromium is installed here", f"install it (Debian: chromium), or {BY_HAND}")
    try:
        from playwright.async_api import async_playwright  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise _Absent("Playwright is not installed here", f"install this package with its extra `browser`, or {BY_HAND}") from None  # fmt: skip
    home = Path(tempfile.mkdtemp(prefix="runbook-browser-"))
    manager = async_playwright()
    starting: asyncio.Future[Any] | None = None
    try:
        await _trust(home, trust)
        starting = asyncio.ensure_future(manager.start())
        yield _Ready(program, home, await asyncio.shield(starting))
    finally:
        # a task of its own, so that it goes to its end even when this one is cancelled once more
        await asyncio.wait({asyncio.ensure_future(_end(home, starting, manager.__aexit__))})


async def _visit(ready: _Ready, found: "dict[str, Visited]", resolve: Mapping[str, str], until: float) -> None:
    """Starts Chromium and looks at all addresses at once; each keeps something of the time for a picture of what it saw."""
    rules = ", ".join(f"MAP {name} {address}" for name, address in resolve.items())
    try:
        context = await ready.driver.chromium.launch_persistent_context(
            ready.profile, executable_path=ready.program, artifacts_dir=ready.home / "artifacts", env=_environment(ready.home),
            args=[*flags(), "--no-proxy-server", *([f"--host-resolver-rules={rules}"] if rules else [])],
            chromium_sandbox=True,  # `flags` says where there is none
            handle_sigint=False, handle_sigterm=False, handle_sighup=False,  # a signal is for the run, which ends this one
            viewport={"width": _WIDTH, "height": _HEIGHT}, accept_downloads=False, service_workers="block", locale="en-US",
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - a program that is there and does not start may say anything
        why = _first_line(error).removeprefix("BrowserType.launch_persistent_context: ")
        todo = f"see whether {ready.program} starts here, or {BY_HAND}"
        raise _Absent(f"Chromium did not start: {why}", todo) from None
    await asyncio.gather(*(_look(context, found, each, until - _PICTURE_S) for each in found))


def _environment(home: Path) -> dict[str, str | float | bool]:
    return {"HOME": str(home), "TMPDIR": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


async def _trust(home: Path, trust: Sequence[Certificate]) -> None:
    """Makes the NSS database that Chromium looks into, `~/.pki/nssdb`: `C` trusts a CA, `P` a certificate for itself.

    Raises:
        _Absent: It cannot be made.
    """
    if not trust:
        return
    certutil = shutil.which("certutil")
    if certutil is None:
        raise _Absent("certutil is not installed here, by which Chromium is told whom to trust",
                      f"install it (Debian: libnss3-tools, Fedora: nss-tools), or {BY_HAND}")  # fmt: skip
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    lines = []
    for number, each in enumerate(trust):
        file = home / f"{number}.pem"
        file.write_text(each.pem)
        lines.append(f'-A -n {number} -t {"C" if each.is_ca else "P"},, -a -i "{file}"\n')
    batch = home / "batch"
    batch.write_text("".join(lines))
    for arguments in (("-N", "--empty-password"), ("-B", "-i", str(batch))):
        made = await asyncio.create_subprocess_exec(
            certutil, *arguments, "-d", f"sql:{database}", stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        try:
            _, said = await made.communicate()
        finally:
            if made.returncode is None:
                made.kill()
        if made.returncode:
            raise _Absent(f"certutil could not tell Chromium whom to trust: {_first_line(ValueError(said.decode(errors='replace')))}",
                          f"look at the certificates of ca_file, or {BY_HAND}")  # fmt: skip


async def _end(home: Path, starting: "asyncio.Future[Any] | None", stop: Any) -> None:  # noqa: ANN401 - Playwright's
    """Ends Chromium, the driver and the folder, whatever state they are in."""
    with suppress(Exception):
        async with asyncio.timeout(_END_S):
            if starting:
                await starting
                _kill(home / "profile")
                await stop()
    _kill(home / "profile")
    for _ in range(10):  # a process that was killed just now may still be writing
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
        if not home.exists():
            return
        await asyncio.sleep(0.05)


def _kill(profile: Path) -> None:
    """Ends the Chromium of this profile, all of its processes: Playwright gives it a group of its own."""
    process = _process_of(profile)
    with suppress(OSError):
        if process and os.getpgid(process) == process:
            os.killpg(process, signal.SIGKILL)


def _process_of(profile: Path) -> int:
    """The Chromium that holds this profile, 0 where none does: the lock is a link to `HOST-PID`, which it leaves when it is killed."""
    with suppress(OSError, ValueError):
        process = int(str((profile / "SingletonLock").readlink()).rpartition("-")[2])
        if os.fsencode(profile) in Path(f"/proc/{process}/cmdline").read_bytes():
            return process
    return 0


async def _look(context: "BrowserContext", found: "dict[str, Visited]", address: str, until: float) -> None:
    """One page, one address: notes what is known as soon as it is known, and leaves the others alone."""
    try:
        await _see(await context.new_page(), found, address, until)
    except Exception as error:  # noqa: BLE001 - Playwright's, where the page or all of Chromium broke
        if found[address].said is Said.NOTHING:
            found[address] = replace(found[address], error=_first_line(error))


async def _see(page: "Page", found: "dict[str, Visited]", address: str, until: float) -> None:
    session = await page.context.new_cdp_session(page)
    states: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
    session.on("Security.visibleSecurityStateChanged", lambda event: states.put_nowait(event["visibleSecurityState"]))
    await session.send("Security.enable")
    went = await _go(page, found[address], until)
    found[address] = went
    if went.said in {Said.ACCEPTED, Said.REFUSED}:
        found[address] = replace(went, **await _certificate(states))
    with suppress(Exception):  # a page may do anything, and neither its title nor its picture is judged
        async with asyncio.timeout(_PICTURE_S):
            if went.status is not None:
                await _settled(page)
                found[address] = replace(found[address], title=_line(await page.title()))
            found[address] = replace(found[address], screenshot=await _picture(session))


async def _go(page: "Page", seen: Visited, until: float) -> Visited:
    """How it went, up to the first bytes of a page."""
    left = until - asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(until):
            response = await page.goto(seen.url, wait_until="commit", timeout=0)
    except TimeoutError:
        return replace(seen, said=Said.UNREACHABLE, error=f"no answer in {left:.0f} s", todo="")
    except Exception as error:  # noqa: BLE001 - Playwright's, or that of a browser that is gone
        return _not_gone(seen, error)
    status = response.status if response else None
    return replace(seen, url=_line(page.url), said=Said.ACCEPTED, error="", status=status, todo="")


def _not_gone(seen: Visited, error: Exception) -> Visited:
    known = _ERROR.search(str(error))
    if known is None:
        return replace(seen, error=_first_line(error))
    said = Said.REFUSED if known[1].startswith(_REFUSALS) else Said.UNREACHABLE
    return replace(seen, said=said, error=f"net::{known[1]}", todo="")


def _line(text: str) -> str:
    """A text of a page as one line that is not too long."""
    return " ".join(plain(text[: 10 * LONGEST]).split())[:LONGEST]


async def _settled(page: "Page") -> None:
    """Waits until the page has loaded and asks for nothing more: a login page builds itself after that."""
    with suppress(Exception):  # one that never rests is shown as it is
        await page.wait_for_load_state("networkidle", timeout=_PICTURE_S * 500)


async def _certificate(states: "asyncio.Queue[Mapping[str, Any]]") -> dict[str, Any]:
    """The chain and the protocol as the browser tells them of the page it shows, an error page too; nothing where it does not."""
    with suppress(TimeoutError, ValueError):
        async with asyncio.timeout(_PICTURE_S):
            while True:
                told = (await states.get()).get("certificateSecurityState") or {}
                if sent := told.get("certificate"):
                    chain = tuple(each for one in sent for each in read_certificates(base64.b64decode(one)))
                    return {"chain": chain, "protocol": _line(told.get("protocol", ""))}
    return {}


async def _picture(session: "CDPSession") -> bytes:
    """What it shows, as PNG; smaller where it would take too many bytes, and none where it still would."""
    for scale in (1, 0.5, 0.25):
        area = {"x": 0, "y": 0, "width": _WIDTH, "height": _HEIGHT, "scale": scale}
        taken = await _taken(session, {"format": "png", "clip": area})
        if len(picture := base64.b64decode(taken["data"])) <= LARGEST_PICTURE:
            return picture
    return b""


async def _taken(session: "CDPSession", wanted: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Asks until there is a page to be taken: while the page of an error takes the place of the one asked for there is none."""
    while True:
        try:
            return await session.send("Page.captureScreenshot", wanted)
        except Exception:  # noqa: BLE001 - Playwright's own error; the caller's time ends it
            await asyncio.sleep(0.05)
