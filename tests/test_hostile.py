"""Hostile texts from every source that a run has, followed to every reader: shown as what they are, obeyed by none."""

import asyncio
import dataclasses
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from runbook_lib.audit import Audit, audit
from runbook_lib.errors import Refused, Unsettled
from runbook_lib.lab.ssh import Login
from runbook_lib.models import ChangeFolder, Outcome, Served
from runbook_lib.server.fetch import read_files, unpack
from runbook_lib.server.survey import read_change
from runbook_lib.session import prepare
from tests import sinks
from tests.change.operator import PROJECT, Operator
from tests.embedded import EmbeddedHost
from tests.hostile import CANARY, CORPUS, HUGE, Hostile, encodable, lost
from tests.pki.authority import issue
from tests.planting import CONTAINER, Planted, named, plant_canary, plant_everything, plant_saying, said
from tests.sinks import Page, typed
from tests.steps.facts import a_server, seen

VERSION = '{"version": "<img src=x onerror=alert(1)>\x1b]52;c;Y2FuYXJ5\x07\u202e=1+1"}'
SLASH = "\N{DIVISION SLASH}"  # in the names of files
Plant = Callable[[EmbeddedHost, pytest.MonkeyPatch, list[Hostile]], None]


@pytest.fixture
def planted(practice_host: Callable[..., EmbeddedHost], monkeypatch: pytest.MonkeyPatch) -> Planted:
    """A server on which host name, container, files, pair and API are hostile."""
    monkeypatch.setattr("runbook_lib.lab.server._VERSION", VERSION.encode())
    return plant_everything(practice_host(container=CONTAINER))


def parameter_file(host: EmbeddedHost, folder: Path, **more: Any) -> Path:  # noqa: ANN401 - any parameter
    """The parameters of an operator of this server, as a YAML file."""
    file = folder / "parameters.yaml"
    file.write_text(yaml.safe_dump({**Operator(host, folder).given, **more}))
    return file


def test_what_a_server_is_called(planted: Planted, tmp_path: Path) -> None:
    """Arrives in tables, CSV, JSON, metrics and page of an audit, and in a plan."""
    file = parameter_file(planted.host, tmp_path)
    page, metrics = tmp_path / "audit.html", tmp_path / "apstra.prom"
    shown = typed("audit", "-f", file, "--html", page, "--prometheus", metrics)
    csv, as_json, plan = (typed(*line, "-f", file) for line in (("audit", "--csv"), ("audit", "--json"), ("plan",)))
    for each in (shown, csv, as_json, plan):
        assert each.exit_code == 0, each.output
        assert not list(sinks.terminal(each.output))
    assert not list(sinks.browser(page.read_text(), whole=True))
    assert not list(sinks.prometheus(metrics.read_text()))
    assert not list(sinks.spreadsheet(csv.stdout))
    rows = sinks.json_reader(as_json.stdout.encode())["served"]
    assert all(text.text in rows[0]["common name"] for text in encodable())
    for said_, texts in (
        (Page(page.read_text()).text, CORPUS),
        (shown.stdout, CORPUS),
        (csv.stdout.replace('""', '"'), encodable()),
    ):
        assert not lost(said_, texts)
    assert f"x'\"$({CANARY} a)`{CANARY} b`;{CANARY} c;" in plan.stdout
    assert not planted.sang()


def test_each_source_of_a_server_arrives_by_itself(planted: Planted, tmp_path: Path) -> None:
    """In the row of a table that is there for it."""
    found = asyncio.run(audit(prepare("audit", Operator(planted.host, tmp_path).given, PROJECT, None)))
    assert not list(sinks.audit(found))
    cells = {row[0]: row[1] for row in found.found().rows}
    assert not lost(cells["server"], CORPUS)
    assert not lost(cells["files"], planted.names, slash=SLASH)
    assert cells["container"].endswith(f"{CANARY} c;\n{CANARY} d\n<b onclick=x>]52;c;$x$_nginx_1, running")
    assert cells["Apstra"] == '{"version": "<img src=x onerror=alert(1)>=1+1"}'
    assert not lost("\n".join(cell for row in found.served().rows for cell in row), encodable())
    issuer, san = (str(found.rows()[0][name]) for name in ("issuer", "SAN"))
    assert all(word in issuer for word in ("onerror", "CN=@SUM(1)", "O=@SUM(1)"))
    assert not lost(san, [each for each in encodable() if each.text.isascii()])


@pytest.mark.parametrize("text", CORPUS, ids=[each.name for each in CORPUS])
def test_each_text_at_the_begin_of_a_value(text: Hostile) -> None:
    """Where a spreadsheet would look for a formula: in every field of an audit, from a certificate or from elsewhere."""
    leaf = issue(subject=named(text.text if text in encodable() else "x"))
    facts = a_server(host=text.text, hostname=text.text, os=text.text, openssl=text.text, apstra_version=text.text)
    handshakes = (seen(text.text, leaf), Served(text.text, text.text, (), "", text.text))
    found = Audit(dataclasses.replace(facts, served=handshakes), ())
    assert not list(sinks.audit(found))
    samples = [
        sample.labels for family in text_string_to_metric_families(found.prometheus()) for sample in family.samples
    ]
    for shown in (
        found.csv().replace('""', '"'),
        Page(found.html()).text,
        samples[-1]["server"],
        samples[-1]["address"],
    ):
        assert not lost(shown, [text])
    assert sinks.json_reader(found.json().encode())["served"][1]["error"] == text.text


def hangs_up(host: EmbeddedHost, monkeypatch: pytest.MonkeyPatch, texts: list[Hostile]) -> None:
    """The server ends the connection, and says why."""
    del host
    why = "\n".join(each.text for each in texts if each in encodable())

    def hang_up(login: Login, username: str) -> bool:
        del username
        login._connection.disconnect(11, why)  # noqa: SLF001 - the server hangs up; 11 is BY_APPLICATION (RFC 4253, section 11.1)
        return True

    monkeypatch.setattr(Login, "begin_auth", hang_up)


def sudo_refuses(host: EmbeddedHost, monkeypatch: pytest.MonkeyPatch, texts: list[Hostile]) -> None:
    """What sudo says before it ends."""
    del monkeypatch
    plant_saying(host, "sudo", said(texts), to=">&2", then="exit 1")


def docker_fails(host: EmbeddedHost, monkeypatch: pytest.MonkeyPatch, texts: list[Hostile]) -> None:
    """What its daemon complains of."""
    del monkeypatch
    plant_saying(host, "docker", said(texts), to=">&2", then="exit 1")


def docker_makes_it_up(host: EmbeddedHost, monkeypatch: pytest.MonkeyPatch, texts: list[Hostile]) -> None:
    """A program answers what it never says."""
    del monkeypatch
    plant_saying(host, "docker", said(texts))


# how much is shown of it, characters
COMPLAINTS: dict[Plant, int] = {hangs_up: 10**6, sudo_refuses: 450, docker_fails: 10**6, docker_makes_it_up: 180}


@pytest.mark.parametrize("plant", COMPLAINTS)
def test_what_a_server_complains_of(
    plant: Plant, practice: EmbeddedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is told on standard error, as much as is shown of it, and obeyed by nobody; the run is refused."""
    file, sang = parameter_file(practice, tmp_path), plant_canary(practice)
    texts = [each for each in CORPUS if plant is not hangs_up or each in encodable()]
    while texts:
        some = [
            each for n, each in enumerate(texts) if sum(len(one.text) + 1 for one in texts[: n + 1]) < COMPLAINTS[plant]
        ]
        texts = texts[len(some) :]
        with monkeypatch.context() as patch:
            plant(practice, patch, some)
            ended = typed("plan", "-f", file)
        assert ended.exit_code == Outcome.REFUSED.exit_code, ended.output
        assert not list(sinks.terminal(ended.output))
        quoted = plant is docker_makes_it_up  # as Python writes a text
        shown = ended.stderr.replace("\\'", "'").replace("\\\\", "\\") if quoted else ended.stderr
        assert not lost(shown, some)
    assert not sang()


LONG = {
    "a host name": ("hostname", "", "exit 0", 0),
    "a complaint": ("docker", ">&2", "exit 1", Outcome.REFUSED.exit_code),
    "an answer": ("docker", "", "exit 0", Outcome.REFUSED.exit_code),
}


@pytest.mark.parametrize("where", LONG.values(), ids=LONG)
def test_a_huge_line_ends_nothing(where: tuple[str, str, str, int], practice: EmbeddedHost, tmp_path: Path) -> None:
    """It is cut, its rest is counted where its begin is shown, and nobody has to wait for it."""
    program, to, then, status = where
    plant_saying(practice, program, HUGE.raw, to=to, then=then, when="inspect*" if program == "docker" else "*")
    begun = time.monotonic()
    ended = typed("audit", "-f", parameter_file(practice, tmp_path))
    assert ended.exit_code == status, ended.output[-1000:]
    assert not list(sinks.terminal(ended.output))
    assert ("huge-begins" in ended.output) is (not to)
    assert ("huge-ends" in ended.output) is bool(to)
    assert len(ended.output) < 100_000
    assert ("characters are left out here" in ended.stdout) is (program == "hostname")
    assert time.monotonic() - begun < 60


def test_nested_answers_end_nothing(practice: EmbeddedHost, tmp_path: Path) -> None:
    """JSON that is nested by the thousand is no answer of docker's, and no defect of ours."""
    plant_saying(practice, "docker", b"[" * 100_000 + b"]" * 100_000, when="inspect*")
    ended = typed("plan", "-f", parameter_file(practice, tmp_path))
    assert ended.exit_code == Outcome.REFUSED.exit_code
    assert "it answered what that command never says" in ended.stderr


async def test_what_was_read_is_quoted_in_what_is_run(practice: EmbeddedHost, tmp_path: Path) -> None:
    """A digest and a file's name that a server gave, and why a change is rolled back: the canary does not sing."""
    sang, operator = plant_canary(practice), Operator(practice, tmp_path)
    request = await operator.wait()
    plant_saying(
        practice,
        "sha256sum",
        b"".join(
            f"{text}  nginx.{kind}\n".encode()
            for kind in ("key", "crt")
            for text in (f"$({CANARY})", f'"; {CANARY}; "')
        ),
    )
    change = await operator.begin("request")
    try:
        shell = change.session.shell
        known = await read_change(shell, change.parameters, ChangeFolder(request.change_id))
        await read_change(shell, change.parameters, known)
        for name in (f"$({CANARY})", f"x; {CANARY}", f"`{CANARY}`"):
            with pytest.raises(Refused, match="did not arrive as it was proven"):
                await read_files(shell, change.folder, {name: "0" * 64}, "host")
        for each in CORPUS:
            assert isinstance(await change.applier.roll_back(change.folder, each.text, "by hand"), Unsettled)
    finally:
        await change.close()
    assert not sang()


async def test_a_file_of_any_size(practice: EmbeddedHost, tmp_path: Path) -> None:
    """A tar of a few bytes may tell of a file that fits into no memory: it is left out."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        entry = tarfile.TarInfo("change.json")
        entry.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 50)}
        tar.addfile(entry)
    operator = Operator(practice, tmp_path)
    request = await operator.wait()
    plant_saying(practice, "tar", packed.getvalue())
    change = await operator.begin("request", change_id="new")
    try:
        read = await read_change(change.session.shell, change.parameters, ChangeFolder(request.change_id))
    finally:
        await change.close()
    assert (read.request, read.csr) == ({}, "")
    with pytest.raises(ValueError, match=r"holds no change\.json"):
        unpack(packed.getvalue(), ("change.json",))
