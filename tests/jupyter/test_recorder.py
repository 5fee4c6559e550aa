"""The recorder in real kernels: the executed notebook says what ran, and no secret leaves the kernel."""

import base64
import json
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.jupyter.kernels import Kernel, notebook, prose, read_notebook
from tests.servers import wait_until

SECRET = "Grünkohl-4711"
BASE64 = base64.b64encode(SECRET.encode()[:12]).decode()  # as it stands inside `admin:` + SECRET
START = """
from pathlib import Path
from IPython.core.getipython import get_ipython
from runbook_lib.jupyter.recorder import Recorder
from runbook_lib.secrets import REGISTRY

secret = Path("secret").read_text()
REGISTRY.add(secret, name="sudo_password")
recorder = Recorder(get_ipython(), REGISTRY.redact, lambda: REGISTRY.longest, Path("source.ipynb"))
recorder.start([], {})
recorder.attach(Path("executed.ipynb"))
""".strip()


class Recorded:
    """A kernel whose first cell starts the recorder, the notebook it knows, and the one it writes."""

    def __init__(self, folder: Path, kept: dict[str, Any]) -> None:
        self.folder, self.executed = folder, folder / "executed.ipynb"
        (folder / "secret").write_text(SECRET)
        (folder / "source.ipynb").write_text(json.dumps(kept))
        self.kernel = Kernel(folder)

    def cells(self) -> list[dict[str, Any]]:
        """The cells as they stand on the disk, which must be a valid notebook."""
        written = read_notebook(self.executed)
        nbformat.reads(self.executed.read_text(), as_version=4)  # type: ignore[no-untyped-call]
        cells: list[dict[str, Any]] = written["cells"]
        return cells

    def marks(self) -> list[tuple[str, int | None]]:
        """First line and execution count of every code cell, in order."""
        return [
            ("".join(cell["source"]).splitlines()[0], cell["execution_count"])
            for cell in self.cells()
            if cell["cell_type"] == "code"
        ]

    def last(self) -> dict[str, Any]:
        """The cell that ran last."""
        return max(self.cells(), key=lambda cell: cell.get("execution_count") or 0)

    def everything(self) -> str:
        """All that the front end was sent and all that lies on the disk, in one text."""
        sent = json.dumps(self.kernel.seen, default=str, ensure_ascii=False)
        return sent + json.dumps(self.kernel.seen, default=str) + self.executed.read_text()


Start = Callable[..., Recorded]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a kernel with these cells as its notebook, after a cell that starts the recorder."""
    started: list[Recorded] = []

    def begin(*cells: str | dict[str, Any], run: bool = True) -> Recorded:
        started.append(Recorded(tmp_path, notebook(START, *cells)))
        if run:
            started[0].kernel.run(START)
        return started[0]

    yield begin
    for each in started:
        each.kernel.close()


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """One kernel for the tests that look at the cell that ran last."""
    recorded = Recorded(tmp_path_factory.mktemp("talkative"), notebook(START))
    recorded.kernel.run(START)
    yield recorded
    recorded.kernel.close()


def test_marks_exactly_the_cells_that_ran(start: Start) -> None:
    """A cell that ran carries its count and times, one that did not carries none, and the prose stands where it stood."""
    recorded = start(prose("# Title"), "1 + 1", prose("## More"), "2 + 2", "3 + 3")
    recorded.kernel.run("1 + 1")
    recorded.kernel.run("2 + 2")
    assert [cell["cell_type"] for cell in recorded.cells()] == ["code", "markdown", "code", "markdown", "code", "code"]
    assert [count for _, count in recorded.marks()] == [1, 2, 3, None]
    ran, never = recorded.cells()[4], recorded.cells()[5]
    assert ran["metadata"]["runbook"]["started"] <= ran["metadata"]["runbook"]["ended"]
    assert never["metadata"] == {}
    assert never["outputs"] == []
    assert stat.S_IMODE(recorded.executed.stat().st_mode) == 0o600


def test_keeps_every_kind_of_output_in_its_order(start: Start) -> None:
    """Streams, displays, a result and an error are kept as the front end was sent them."""
    recorded = start()
    sent = recorded.kernel.run(
        "import sys\nfrom IPython.display import display, HTML\n"
        "print('out', flush=True)\nprint('err', file=sys.stderr, flush=True)\ndisplay(HTML('<b>shown</b>'))\n6 * 7"
    )
    first = recorded.last()["outputs"]
    assert [output["output_type"] for output in first] == ["stream", "stream", "display_data", "execute_result"]
    assert [first[0]["text"], first[1]["text"]] == ["out\n", "err\n"]
    assert first[2]["data"]["text/html"] == "<b>shown</b>"
    result = next(message["content"] for message in sent if message["msg_type"] == "execute_result")
    assert first[3] == {"output_type": "execute_result"} | {
        name: result[name] for name in ("data", "metadata", "execution_count")
    }
    recorded.kernel.run("1 / 0")
    assert [output["ename"] for output in recorded.last()["outputs"]] == ["ZeroDivisionError"]


def test_what_a_cell_prints_last_is_on_the_disk_when_it_is_idle(start: Start) -> None:
    """The end of a stream leaves the kernel after the cell has ended, and is kept all the same."""
    recorded = start()
    recorded.kernel.run("print('begun', flush=True)\nprint('the very last', end='')")
    assert recorded.last()["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "begun\nthe very last"}]


def test_updates_of_a_display_change_it_where_it_stands(start: Start) -> None:
    """A display that a later cell updates is changed in its own cell, as front ends do it, and is not shown twice."""
    recorded = start("a")
    recorded.kernel.run("from IPython.display import display\nhandle = display('before', display_id='x')")
    recorded.kernel.run("handle.update('after')")
    shown = next(cell for cell in recorded.cells() if cell["execution_count"] == 2)
    assert [output["data"]["text/plain"] for output in shown["outputs"]] == ["'after'"]
    assert recorded.last()["outputs"] == []


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("print('a')\nclear_output()\nprint('b')", ["b\n"]),
        ("print('a')\nclear_output(wait=True)\nprint('b')", ["b\n"]),
        ("print('a')\nclear_output(wait=True)", ["a\n"]),
        ("print('a', end='')\nclear_output()", []),
        ("print('a', end='')\nclear_output()\nprint('b', end='')", ["b"]),
    ],
)
def test_cleared_outputs_are_cleared(talkative: Recorded, code: str, kept: list[str]) -> None:
    """`clear_output` takes back what the cell showed: at once, or when something new comes; held back text too."""
    talkative.kernel.run(f"from IPython.display import clear_output\n{code}")
    assert [output["text"] for output in talkative.last()["outputs"]] == kept


def test_a_cell_that_ran_twice_stands_there_twice(start: Start) -> None:
    """Both runs are kept, the second where it ran; a cell between them that never ran stays unmarked."""
    recorded = start("'a'", "'b'", "'c'")
    for code in ("'a'", "'c'", "'a'"):
        recorded.kernel.run(code)
    assert recorded.marks()[1:] == [("'a'", 2), ("'b'", None), ("'c'", 3), ("'a'", 4)]


def test_a_cell_edited_before_it_ran_says_what_ran(start: Start) -> None:
    """Under papermill, without cell ids, an edited cell stands before the untouched one; it replaces nothing that it is not."""
    recorded = start("'a'", "'b'")
    recorded.kernel.run("'a'")
    recorded.kernel.run("'edited'")
    assert recorded.marks()[1:] == [("'a'", 2), ("'edited'", 3), ("'b'", None)]


def test_jupyterlab_names_its_cells_and_they_are_found_in_any_order(start: Start) -> None:
    """With JupyterLab's cell ids an edited cell, and one that ran out of order, stand in their own place."""
    recorded = start("'a'", "'b'", "'c'")
    recorded.kernel.run("'c'", cell_id="cell-3")
    recorded.kernel.run("'edited'", cell_id="cell-1")
    recorded.kernel.run("'new'", cell_id="of-a-new-cell")
    recorded.kernel.run("'c'", cell_id="cell-3")
    assert recorded.marks()[1:] == [("'edited'", 3), ("'new'", 4), ("'c'", 5), ("'b'", None), ("'c'", 2)]


PARAMETERS = {"source": 'host = ""', "metadata": {"tags": ["parameters"]}}


def test_parameters_filled_in_by_hand_stand_in_their_cell(tmp_path: Path) -> None:
    """In JupyterLab the parameters cell is edited and runs before the recorder: the record shows it as it ran last, and nothing older."""
    recorded = Recorded(tmp_path, notebook(prose("# Title"), PARAMETERS, START))
    try:
        for code in ('host = "first"', 'host = "second"', START):
            recorded.kernel.run(code)
        assert recorded.marks() == [('host = "second"', 2), ("from pathlib import Path", 3)]
        assert [cell["id"] for cell in recorded.cells() if cell["source"] == 'host = "second"'] == ["cell-1"]
    finally:
        recorded.kernel.close()


def test_parameters_injected_by_papermill_follow_the_parameters_cell(tmp_path: Path) -> None:
    """Papermill's own cell stands behind the defaults, with papermill's tag."""
    recorded = Recorded(tmp_path, notebook(prose("# Title"), PARAMETERS, START))
    try:
        for code in ('host = ""', '# Parameters\nhost = "injected"\n', START):
            recorded.kernel.run(code)
        assert recorded.marks() == [('host = ""', 1), ("# Parameters", 2), ("from pathlib import Path", 3)]
        assert recorded.cells()[2]["metadata"]["tags"] == ["injected-parameters"]
    finally:
        recorded.kernel.close()


def test_nothing_of_an_earlier_run_is_taken_for_this_one(start: Start) -> None:
    """JupyterLab saves outputs into the notebook it has open: those of an earlier run do not stand in this record."""
    old = {"output_type": "stream", "name": "stdout", "text": "of another day"}
    times = {"runbook": {"started": "2020"}, "papermill": {"status": "completed"}, "tags": ["read-only"]}
    recorded = start({"source": "'never'", "outputs": [old], "execution_count": 9, "metadata": times})
    never = recorded.cells()[1]
    assert (never["outputs"], never["execution_count"], never["metadata"]) == ([], None, {"tags": ["read-only"]})


def test_what_a_front_end_runs_for_itself_is_no_cell(start: Start) -> None:
    """Requests that store no history, as extensions send them, neither stand in the record nor end the cell that ran."""
    recorded = start("'a'")
    recorded.kernel.run("'a'")
    before = recorded.cells()
    recorded.kernel.run("print('for the variable inspector')", store_history=False)
    recorded.kernel.run("get_ipython().run_cell('1')", store_history=False)
    assert recorded.cells() == before


def test_messages_of_widgets_pass(start: Start) -> None:
    """Widgets open their channel through the recorder, and a page is shown them; the record, where they cannot live, keeps what stands beside."""
    recorded = start()
    sent = recorded.kernel.run("import ipywidgets\nipywidgets.Text(value='shown', description='name')")
    opened = [message["content"]["data"]["state"] for message in sent if message["msg_type"] == "comm_open"]
    assert "shown" in [state.get("value") for state in opened]
    (shown,) = [message["content"]["data"] for message in sent if message["msg_type"] == "execute_result"]
    assert set(shown) == {"text/plain", "application/vnd.jupyter.widget-view+json"}
    assert set(recorded.last()["outputs"][0]["data"]) == {"text/plain"}


WAYS_OUT = {
    "stream": "print('it is', secret)",
    "stream, in two flushes": "print('it is ' + secret[:5], end='', flush=True)\nprint(secret[5:], flush=True)",
    "stream, letter by letter": "for each in secret: print(each, end='', flush=True)",
    "streams, interleaved": (
        "import sys\nfor each in secret:\n"
        "    print(each, end='', flush=True)\n    print(each, end='', file=sys.stderr, flush=True)"
    ),
    "stream, waiting between": "import time\nprint(secret[:7], end='')\ntime.sleep(.5)\nprint(secret[7:], end='')\ntime.sleep(.5)",
    "stream of a child": "import subprocess\nsubprocess.run(['echo', secret])",
    "result": "{'password': secret}",
    "key of a mapping": "from IPython.display import display\ndisplay({'application/json': {secret: 1}, 'text/plain': ''}, raw=True)",
    "HTML": "from IPython.display import HTML\nHTML(f'<td>{secret}</td>')",
    "update": "from IPython.display import display\nhandle = display('', display_id=True)\nhandle.update(secret)",
    "traceback": "raise ValueError(secret)",
    "traceback's source line": f"raise ValueError('{SECRET}')",
    "warning": "import warnings\nwarnings.warn(secret)",
    "widget": "import ipywidgets\nwidget = ipywidgets.Password(value=secret)\nwidget",
    "widget's change": "import ipywidgets\nwidget = ipywidgets.Text()\nwidget.value = secret\nwidget",
    "source": f"password = '{SECRET}'",
    "base64": "import base64\nprint(base64.b64encode(b'admin:' + secret.encode()).decode())",
    "URL": "import urllib.parse\nurllib.parse.quote(secret)",
    "history": "%history -n",
    "In": "In",
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_secret_leaves_the_kernel(talkative: Recorded, way: str) -> None:
    """Whatever a cell does to show a secret, neither the front end nor the disk gets it; both get the mask."""
    talkative.kernel.seen.clear()
    sent = talkative.kernel.run(WAYS_OUT[way])
    everything = talkative.everything()
    for form in (SECRET, SECRET.encode("unicode_escape").decode(), BASE64):
        assert form not in everything
    assert "[secret]" in json.dumps(sent, default=str)
    assert "[secret]" in json.dumps(talkative.last()) or "widget" in way


@pytest.mark.parametrize("code", ["print(key)", "for line in key.splitlines(): print(line, flush=True)"])
def test_no_private_key_leaves_the_kernel(talkative: Recorded, code: str) -> None:
    """A private key that nobody registered is masked, also when it is printed line by line."""
    talkative.kernel.run(
        "from cryptography.hazmat.primitives import serialization as s\n"
        "from cryptography.hazmat.primitives.asymmetric import rsa\n"
        "key = rsa.generate_private_key(65537, 2048).private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()).decode()\n"
        "Path('key').write_text(key)"
    )
    talkative.kernel.run(f"{code}\nprint('after it', flush=True)")
    everything = talkative.everything()
    assert not [line for line in (talkative.folder / "key").read_text().splitlines()[:-1] if line in everything]
    assert "after it" in talkative.last()["outputs"][0]["text"]


def test_the_secret_is_not_in_ipythons_history(start: Start) -> None:
    """A cell with a secret does not reach the file in which IPython keeps what was typed, not at the kernel's end either."""
    recorded = start(run=False)
    recorded.kernel.run("'typed before'")
    recorded.kernel.run(START)
    for _ in range(3):
        recorded.kernel.run(f"password = '{SECRET}'")
    recorded.kernel.shut_down()
    file = recorded.folder / "ipython/profile_default/history.sqlite"
    with sqlite3.connect(file) as history:
        typed = [row[0] for row in history.execute("select source_raw from history")]
    assert not [source for source in typed if SECRET in source]
    assert SECRET.encode() not in b"".join(each.read_bytes() for each in file.parent.glob("history*"))


def test_what_ran_survives_sigkill(start: Start) -> None:
    """Killed in the middle of a cell: what ran and what it had shown is on the disk, and the cell has no end."""
    recorded = start("'a'", "...", "'never'")
    recorded.kernel.run("'a'")
    recorded.kernel.begin("import time\nprint('so far', flush=True)\ntime.sleep(60)")
    recorded.kernel.wait_for_text("so far")
    wait_until(lambda: recorded.last()["outputs"] != [], timeout_s=5)
    recorded.kernel.kill()
    cut = recorded.last()
    assert cut["outputs"] == [{"output_type": "stream", "name": "stdout", "text": "so far\n"}]
    assert cut["metadata"]["runbook"]["started"]
    assert cut["metadata"]["runbook"]["ended"] is None
    assert recorded.marks()[-1] == ("'never'", None)


def test_a_cell_that_was_stopped_has_its_error_and_its_end(start: Start) -> None:
    """A Stop is in the record: the error, and when the cell ended."""
    recorded = start()
    request = recorded.kernel.begin("import asyncio\nprint('waiting', flush=True)\nwhile True: await asyncio.sleep(.1)")
    recorded.kernel.wait_for_text("waiting")
    recorded.kernel.interrupt()
    recorded.kernel.until_idle(request)
    stopped = recorded.last()
    assert stopped["outputs"][-1]["output_type"] == "error"
    assert stopped["metadata"]["runbook"]["ended"]


def test_a_disk_that_is_full_does_not_break_the_cell(start: Start) -> None:
    """Cells go on when the notebook cannot be written; it is said once, and the record is whole when there is room again."""
    recorded = start()
    recorded.kernel.run(
        "import resource\nlimits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))"
    )
    full = recorded.kernel.run("import time\nprint('x' * 1000, flush=True)\ntime.sleep(1)\nprint('done')")
    text = "".join(message["content"]["text"] for message in full if message["msg_type"] == "stream")
    assert "done" in text
    assert list(recorded.folder.glob(".executed*")) == []
    recorded.kernel.run("resource.setrlimit(resource.RLIMIT_FSIZE, limits)")
    assert [count for _, count in recorded.marks()] == [1, 2, 3, 4]
    assert json.dumps(recorded.cells()).count("cannot be written") == 1


def test_a_recorder_that_was_closed_leaves_the_running_cell_to_the_next(start: Start) -> None:
    """A second bind in the same second: the first notebook ends before that cell, the second one stands beside it."""
    recorded = start()
    recorded.kernel.run("'a'")
    recorded.kernel.run(f"recorder.close()\n{START}")
    recorded.kernel.run("'b'")
    assert [count for _, count in recorded.marks()] == [1, 2]
    second = [cell["execution_count"] for cell in read_notebook(recorded.folder / "executed-2.ipynb")["cells"]]
    assert second == [1, 2, 3, 4]


def test_sigkill_while_it_writes_leaves_a_whole_notebook(start: Start) -> None:
    """The file is replaced as a whole: at no instant is a part of it there."""
    recorded = start()
    recorded.kernel.begin("while True: print('x' * 10_000, flush=True)")
    recorded.kernel.wait_for_text("x")
    wait_until(lambda: recorded.last()["outputs"] != [], timeout_s=10)
    for _ in range(100):
        assert len(recorded.last()["outputs"][0]["text"]) >= 10_000
    recorded.kernel.kill()
    assert len(recorded.last()["outputs"][0]["text"]) >= 10_000
