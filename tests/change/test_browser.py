"""Changes with a browser as witness, on the embedded and the real server: what it says counts, and what it cannot say does not."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from runbook_lib.errors import Refused, RolledBack
from runbook_lib.models import Outcome, Said
from runbook_lib.pki.certificates import read_certificates
from runbook_lib.probe.browser import visit
from runbook_lib.record.report import render
from runbook_lib.steps.browse import AUTHORITY
from tests.browsers import chromium_of, need_browser, own_temporary_folder, processes_of
from tests.change.operator import NAME, Operator, Run
from tests.change.test_failures import contents
from tests.embedded import EmbeddedHost
from tests.pki.authority import issue
from tests.probe.tls_server import TlsServer, server_context

WRONG = "wrong.example.com"


@pytest.fixture(autouse=True)
def _browser() -> None:
    need_browser()


def told(run: Run, when: str) -> list[tuple[str, str]]:
    """What the journal holds of the visits: what the browser said, and why."""
    return [
        (each["said"], each["error"]) for each in run.journal if each["event"] == "browser" and each["when"] == when
    ]


def verdicts(run: Run, step: str) -> list[str]:
    """The verdicts of a step."""
    return [
        each["verdict"]
        for event in run.journal
        if event["event"] == "checks" and event["step"] == step
        for each in event["checks"]
    ]


async def test_refused_before_accepted_after(operator: Operator) -> None:
    """The factory's pair is refused, the new one accepted by name and address, for another name it is not; the record shows all of it."""
    _, install = await operator.replace(**operator.server.signing, browser=True)
    assert told(install, "before") == [("refused", AUTHORITY)]
    assert told(install, "after") == [("accepted", "")]
    assert (verdicts(install, "browse before"), verdicts(install, "browse")) == (["warn"], ["pass"])
    steps = [event.get("step", event["event"]) for event in install.journal]
    assert steps.index("install") < len(steps) - steps[::-1].index("browser") < steps.index("confirm")

    host, port = operator.given["host"], operator.given["https_port"]
    trust = read_certificates(Path(operator.server.signing["ca_file"]).read_bytes())
    seen = await visit((NAME, host, WRONG), port, trust, time_limit_s=20, resolve={NAME: host, WRONG: host})
    assert [each.said for each in seen] == [Said.ACCEPTED, Said.ACCEPTED, Said.REFUSED]
    assert seen[2].error == "net::ERR_CERT_COMMON_NAME_INVALID"
    (live,) = read_certificates(operator.server.served().encode())
    assert {each.chain[0].sha256 for each in seen} == {live.sha256}

    assert install.record
    pictures = sorted(each.name for each in (install.record / "files").glob("*.png"))
    assert pictures == ["browser-after-1.png", "browser-before-1.png"]
    shown = install.tables["browse"]._repr_html_()
    assert shown.count('<img src="data:image/png;base64,') == 1
    assert f'alt="{host}: accepted"' in shown
    assert render(install.record, "").count('<img src="data:image/png') == 2


async def test_it_sees_another_certificate(practice: EmbeddedHost, tmp_path: Path) -> None:
    """At one of the service addresses something else answers: it is said before, it is a fail after, and the old pair comes back."""
    operator = Operator(practice, tmp_path)
    first, before = practice.served(), contents(operator)
    other = TlsServer(server_context(tmp_path, issue("other")), host="127.0.0.9", port=operator.given["https_port"])
    given = {**practice.signing, "service_addresses": ["127.0.0.1", "127.0.0.9"], "san": [f"DNS:{NAME}", "IP:127.0.0.1", "IP:127.0.0.9"]}  # fmt: skip
    await operator.run("request", **given)
    run = await operator.run("install", **given, browser=True)
    other.close()
    assert run.outcome is Outcome.ROLLED_BACK, run.said
    assert "1 check failed" in run.said
    assert (verdicts(run, "browse before"), verdicts(run, "browse")) == (["warn", "warn"], ["pass", "fail"])
    (row,) = [row for row in run.tables["browse_before"].rows if row[1] == "127.0.0.9"]
    assert "after the install the same is a fail" in row[-1]
    assert (practice.served(), contents(operator)) == (first, before)


async def test_no_browser_is_no_reason_to_roll_back(
    practice: EmbeddedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is unknown, with what to do, and the change is done; a run that did not ask says so and notes nothing."""
    operator = Operator(practice, tmp_path)
    monkeypatch.setattr("runbook_lib.probe.browser.installed", lambda: None)
    _, install = await operator.replace(**practice.signing, browser=True)
    assert (verdicts(install, "browse before"), verdicts(install, "browse")) == (["unknown"], ["unknown"])
    assert "Debian: chromium" in install.tables["browse"].rows[0][-1]
    back = await operator.run("restore")
    assert back.outcome is Outcome.DONE
    assert [back.tables[each].rows for each in ("browse_before", "browse")] == [
        (("browse before", "not asked for: browser is False"),), (("browse", "not asked for: browser is False"),)
    ]  # fmt: skip
    assert not [each for each in back.journal if each["event"] == "browser" or "browse" in str(each.get("step"))]


async def test_stopped_while_it_looks(practice: EmbeddedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old pair comes back, and no browser is left."""
    operator = Operator(practice, tmp_path)
    first = practice.served()
    await operator.run("request", **practice.signing)
    change = await operator.begin("install", **practice.signing, browser=True)
    with monkeypatch.context() as without:
        without.setattr("runbook_lib.probe.browser.installed", lambda: None)
        for step in (change.check, change.plan, change.compare, change.browse_before, change.install):
            await step()
    with own_temporary_folder() as temporary:
        looking = asyncio.create_task(change.browse())
        async with asyncio.timeout(20):
            while not chromium_of(temporary):  # noqa: ASYNC110 - what is waited for is a process
                await asyncio.sleep(0.01)
        os.killpg(chromium_of(temporary), signal.SIGSTOP)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError, RolledBack):
            await looking
        assert (list(temporary.iterdir()), processes_of(temporary)) == ([], [])
    await change.close()
    assert change.outcome is Outcome.ROLLED_BACK
    assert practice.served() == first


async def test_a_confirm_stands_on_the_browser_that_was_asked_for(
    practice: EmbeddedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cell cannot be passed over; what speaks of before cannot be asked after. A self-signed certificate is its own anchor."""
    operator = Operator(practice, tmp_path)
    await operator.run("request", signer="self-signed")
    change = await operator.begin("install", browser=True)
    for step in (change.check, change.plan, change.compare):
        await step()
    with pytest.raises(Refused, match="steps that have not run: browse before"):
        await change.install()
    with monkeypatch.context() as without:
        without.setattr("runbook_lib.probe.browser.installed", lambda: None)
        await change.browse_before()
    await change.install()
    with pytest.raises(Refused, match=r"confirm stands on steps that have not run: browse\n"):
        await change.confirm()
    with pytest.raises(Refused, match="before the change, and the change is under way"):
        await change.browse_before()
    accepted = await change.browse()
    await change.confirm()
    change.summary()
    await change.close()
    assert (change.outcome, accepted.rows[0][2]) == (Outcome.DONE, "accepted\nTLS 1.3")
