"""The install notebook with a browser as witness, run headless and sealed: its pictures are in the executed notebook and proven."""

import html
import re
from pathlib import Path

from runbook_lib.jupyter.headless import Runner
from runbook_lib.models import Outcome, Verdict
from runbook_lib.record.verify import verify
from tests.browsers import need_browser
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import NOTEBOOKS, executed_cells, request, values
from tests.record.sealing import OPERATOR, allowing, signing_key

PICTURE = re.compile(r'<img src="data:image/png;base64,[A-Za-z0-9+/]+=*" alt="([^"]*)"')


def test_the_pictures_are_in_the_record(practice: EmbeddedHost, tmp_path: Path) -> None:
    """Before and after, in the cells that took them, in the report and as files; the seal is over all of them."""
    need_browser()
    key = signing_key(tmp_path)
    given = values(practice, tmp_path, browser=True, rollback_after_s=120, signing_key=str(key.path), operator=OPERATOR)
    record = request(given)
    with Runner([NOTEBOOKS / "300_install_certificate.ipynb"], lambda _: None, lambda: None) as runner:
        result = runner.run(given)
    assert result.outcome is Outcome.DONE
    shown = {
        cell["id"]: [html.unescape(words) for each in cell["outputs"] for words in PICTURE.findall(_html(each))]
        for cell in executed_cells(record)
    }
    assert {name: words for name, words in shown.items() if words} == {
        "browse-before": ["127.0.0.1: refused"],
        "browse": ["127.0.0.1: accepted"],
    }
    assert (record / "report.html").read_text().count('<img src="data:image/png') == 2
    assert len((record / "report.html").read_text()) < 300_000
    proven = verify(record, allowed_signers=allowing(key))
    assert {each.verdict for each in proven} == {Verdict.PASS}, proven
    (record / "files/browser-after-1.png").write_bytes(b"another")
    assert Verdict.FAIL in {each.verdict for each in verify(record, allowed_signers=allowing(key))}


def _html(output: dict[str, dict[str, str | list[str]]]) -> str:
    return "".join(output.get("data", {}).get("text/html", ""))
