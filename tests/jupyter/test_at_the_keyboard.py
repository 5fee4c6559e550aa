"""A person at JupyterLab: a real browser opens the start page, fills in the forms, drops a certificate and reads what is shown.

What the browser did and saw is kept where `RUNBOOK_PICTURES` says: a picture a scene, and a trace for `playwright show-trace`.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import papermill
import pytest
from cryptography import x509
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from runbook_lib.chromium import installed
from runbook_lib.models import Outcome
from runbook_lib.pki.certificates import alternative_names
from runbook_lib.record.journal import outcome_of, read
from tests.change.operator import ROOT, certify, pem
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import NOTEBOOKS, executed_cells, values
from tests.jupyter.lab import Lab

LIMIT_MS = 60_000
PICTURES = os.environ.get("RUNBOOK_PICTURES", "")
PARAMETERS = ("# the server and how to reach it", "# Parameters")
ROWS = "DNS:apstra.lab.example", "IP:127.0.0.1"


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A Chromium that is installed."""
    program = installed()
    if program is None:
        message = "a person at JupyterLab needs Chromium"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"] * (os.geteuid() == 0))
        yield started
        await started.close()


@pytest.fixture
def practice_notebooks(practice: EmbeddedHost, tmp_path: Path) -> Path:
    """Copies of the notebooks as `./run lab` makes them: filled in for the practice server."""
    folder = tmp_path / "practice"
    folder.mkdir()
    shutil.copy(NOTEBOOKS / "README.ipynb", folder)
    given = values(
        practice,
        tmp_path,
        signer="manual",
        signer_options={},
        ca_file="",
        common_name="",
        san=[],
        organization="Practice",
        mode="interactive",
    )
    for source in NOTEBOOKS.glob("[1-9]*.ipynb"):
        papermill.execute_notebook(
            source, folder / source.name, parameters=given, prepare_only=True, progress_bar=False
        )
    return folder


@pytest.fixture
async def lab(tmp_path: Path, practice_notebooks: Path) -> AsyncIterator[Lab]:
    """A JupyterLab over these copies."""
    async with Lab(tmp_path, practice_notebooks) as running:
        yield running


class Person:
    """Somebody before the page, who clicks, types and reads."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def open(self, title: str) -> None:
        """Follows a link of the start page, and waits for the notebook and its kernel."""
        await self.page.get_by_role("link", name=title).click()
        await self.ready()

    async def ready(self) -> None:
        """Waits until the notebook in front can be run."""
        await expect(self.notebook.locator(".jp-CodeCell").first).to_be_visible(timeout=LIMIT_MS)
        await expect(self.page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=LIMIT_MS)

    @property
    def notebook(self) -> Locator:
        """The notebook in front."""
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")

    def cell(self, text: str) -> Locator:
        """The code cell that holds this."""
        return self.notebook.locator(".jp-CodeCell").filter(has=self.page.locator(".cm-content", has_text=text))

    async def run(self, *texts: str) -> Locator:
        """Runs cells by Shift+Enter, one after the other, each to its end; returns the last one."""
        for text in texts:
            cell = self.cell(text)
            prompt = cell.locator(".jp-InputPrompt")
            for _ in range(3):  # a page that is still being laid out loses a key, and a person presses it again
                await cell.locator(".cm-content").click()
                await self.page.keyboard.press("Shift+Enter")
                with suppress(AssertionError):
                    await expect(prompt).not_to_have_text(re.compile(r"\[ \]:"), timeout=LIMIT_MS / 6)
                    break
            await expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=LIMIT_MS)
            await expect(cell.locator("[data-mime-type='application/vnd.jupyter.stderr']")).to_have_count(0)
        return cell

    def field(self, label: str) -> Locator:
        """What is typed in or chosen, by the label that a screen reader speaks."""
        return self.notebook.get_by_label(label, exact=True)

    async def picture(self, name: str, of: Locator | None = None) -> None:
        """Keeps what the page shows now."""
        if not PICTURES:
            return
        if of:
            await of.scroll_into_view_if_needed()
        await self.page.mouse.move(0, 0)
        await self.page.wait_for_timeout(300)
        await self.page.screenshot(path=f"{PICTURES}/{name}.png")


@pytest.fixture
async def person(browser: Browser, lab: Lab) -> AsyncIterator[Person]:
    """At the start page."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    if PICTURES:
        await context.tracing.start(screenshots=True, snapshots=True)
    page = await context.new_page()
    await page.goto(lab.address("README.ipynb"))
    await expect(page.get_by_role("link", name="900 · Restore")).to_be_visible(timeout=LIMIT_MS)
    yield Person(page)
    if PICTURES:
        await context.tracing.stop(path=f"{PICTURES}/trace.zip")
    await context.close()


@pytest.mark.timeout(600)
async def test_a_certificate_is_replaced_by_clicks(
    person: Person, lab: Lab, practice: EmbeddedHost, tmp_path: Path
) -> None:
    """From the start page to the new certificate, the form filled by keyboard, the CA's answer dropped; a reload and a closed page lose nothing."""
    old, records = practice.served(), tmp_path / "records"
    await person.picture("start")
    await person.open("200 · Request a certificate")
    form = await person.run(*PARAMETERS, "inputs = form")
    await expect(form).to_contain_text("Not yet: common_name")
    await fill_in(person, form)
    await person.run("await bind(inputs)", "change.check()", "change.plan()", "change.back_up()")
    await person.page.reload()
    await person.ready()
    signed = await person.run("change.make_key()", "change.make_csr()", "change.sign()")
    await expect(signed).to_contain_text("BEGIN CERTIFICATE REQUEST")
    await person.run("change.summary()")
    (record,) = records.iterdir()
    assert outcome_of(read(record)) is Outcome.WAITING
    cells = {cell["id"]: cell for cell in executed_cells(record)}
    assert "this form" in "".join(cells["form"]["outputs"][0]["data"]["text/plain"])
    assert all(cells[step]["outputs"] for step in ("check", "back-up", "sign", "summary"))

    csr = x509.load_pem_x509_csr((record / "files/nginx.csr").read_bytes())
    asked = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative_names(asked) == ROWS
    (tmp_path / "answer.pem").write_bytes(pem(certify(csr), ROOT.x509))
    await person.page.goto(lab.address("README.ipynb"))
    await person.open("300 · Install the certificate")
    form = await person.run(*PARAMETERS, "inputs = form")
    await hand_in(person, form, tmp_path / "answer.pem")
    await person.run("await bind(inputs)", "change.check()", "change.plan()", "change.compare()")
    installed = await person.run("change.install()")
    await expect(installed).to_contain_text(re.compile(r"the old pair comes back in 0:\d\d unless this is confirmed"))
    await person.picture("countdown", installed)

    other = await person.page.context.new_page()  # the page is closed, and opened anew
    await person.page.close()
    person.page = other
    await other.goto(lab.address("300_install_certificate.ipynb"))
    await person.ready()
    confirmed = await person.run("change.confirm()")
    await expect(confirmed).not_to_contain_text("FAIL")
    last = await person.run("change.before_and_after()", "change.summary()")
    await expect(last).to_contain_text("report.html")
    assert practice.served() != old
    assert outcome_of(read(record)) is Outcome.DONE
    ran = {cell["id"]: cell for cell in executed_cells(record)}
    assert "guard: confirmed: the new pair stays" in repr(ran["install"]["outputs"])
    assert {name for name, cell in ran.items() if not cell["execution_count"]} == {"browse-before", "browse"}


async def fill_in(person: Person, form: Locator) -> None:
    """Notebook 200's form, by keyboard alone: what is wrong is said beside it while one types."""
    keys = person.page.keyboard
    await person.field("common_name").focus()
    await keys.type("apstra_lab")
    await expect(form).to_contain_text("is no host name, so no SAN follows from it")
    await person.picture("form", person.field("common_name"))
    await keys.press("Control+a")
    await keys.type("apstra.lab.example")
    await expect(form).to_contain_text("Nothing is wrong with what is written here")
    for number, row in enumerate(ROWS, 1):
        await person.notebook.get_by_role("button", name="add to san").focus()
        await keys.press("Enter")
        await expect(person.field(f"san {number}")).to_be_focused()
        await keys.type(row)
    await person.field("country").focus()
    await keys.type("Germany")
    await expect(form).to_contain_text("is no country code")
    await keys.press("Control+a")
    await keys.type("DE")
    await expect(form).to_contain_text("Nothing is wrong with what is written here")


async def hand_in(person: Person, form: Locator, file: Path) -> None:
    """Notebook 300's form: what is no certificate is said at once; then the CA's answer is dropped."""
    await person.field("or paste it").fill("no certificate at all")
    await expect(form).to_contain_text("holds no certificate")
    async with person.page.expect_file_chooser() as chosen:
        await person.notebook.get_by_role("button", name="choose or drop the file").click()
    await (await chosen.value).set_files(file)
    await expect(form).to_contain_text("with the CSR of change")
    await expect(form).to_contain_text("Test Root")
    await person.picture("answer", person.notebook.get_by_role("button", name="choose or drop the file"))
