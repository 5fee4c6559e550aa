"""The bind cell in real kernels, in the hands of a person: cells out of order, twice, edited, with a Stop in between."""

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.jupyter.forms import given_parameters
from runbook_lib.models import Outcome
from runbook_lib.record.journal import outcome_of, read
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import NOTEBOOKS, HeldRestart, executed_cells, request, values
from tests.jupyter.kernels import Kernel, Message
from tests.realserver.host import SUDO_PASSWORD
from tests.servers import wait_until

BIND = 'from runbook_lib.jupyter.bind import bind\nfrom runbook_lib.jupyter.forms import form\n\nchange = await bind(form("{kind}"))'


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    """A kernel in which nothing ran yet."""
    started = Kernel(tmp_path)
    yield started
    started.close()


def kept_cell(cell_id: str) -> str:
    """A cell of notebook 300 as it is kept."""
    content = json.loads((NOTEBOOKS / "300_install_certificate.ipynb").read_text())
    return "".join(next(cell for cell in content["cells"] if cell["id"] == cell_id)["source"])


def parameters_cell(given: Mapping[str, object]) -> str:
    """A parameters cell that was filled in by hand."""
    return kept_cell("parameters") + "\n" + "\n".join(f"{name} = {value!r}" for name, value in given.items())


def error(sent: list[Message]) -> dict[str, Any]:
    """The one error that a cell ended with, which a person can read: ours, without a stack trace."""
    (found,) = [message["content"] for message in sent if message["msg_type"] == "error"]
    assert "Traceback" not in "".join(found["traceback"])
    assert not [line for line in found["traceback"] if line.lstrip().startswith("File ")]
    return dict(found)


def shown(sent: list[Message]) -> str:
    """What a cell showed; it did not fail."""
    assert not [message for message in sent if message["msg_type"] == "error"], sent
    return "".join(
        message["content"]["data"]["text/plain"] for message in sent if message["msg_type"] == "execute_result"
    )


def install(kernel: Kernel, given: Mapping[str, object]) -> list[Message]:
    """Runs the parameters cell and the bind cell of notebook 300."""
    shown(kernel.run(parameters_cell(given)))
    return kernel.run(BIND.format(kind="install"))


def test_faults_are_named_all_at_once_and_corrected_in_place(
    kernel: Kernel, practice: EmbeddedHost, tmp_path: Path
) -> None:
    """The message says for each fault what to write; the corrected cells run in the same kernel."""
    given = values(practice, tmp_path)
    request(given)
    said = error(install(kernel, given | {"apply": "yes", "rollback_after_s": 1, "sudo_password": SUDO_PASSWORD}))
    assert said["ename"] == "UnusableParameters"
    assert len(said["traceback"]) == 5
    for line in (
        "- apply: is no boolean; write true or false",
        "- rollback_after_s: ",
        "- sudo_password: is no secret reference",
    ):
        assert line in said["evalue"]
    assert SUDO_PASSWORD not in said["evalue"]
    assert shown(install(kernel, given)) == ""
    assert "is ready" in shown(kernel.run("await change.check()"))


def test_parameters_that_were_put_right_before_the_bind_leave_no_trace(
    kernel: Kernel, practice: EmbeddedHost, tmp_path: Path
) -> None:
    """A password typed in clear, seen, and replaced by a reference: nobody could mask it, and it is in no record."""
    given = values(practice, tmp_path)
    record = request(given)
    kernel.run(f"host = {given['host']!r}\nsudo_password = 'typed-in-clear-4711'")
    assert shown(install(kernel, given)) == ""
    kernel.run("await change.close()")
    (notebook,) = (each for each in (record / "notebooks").iterdir() if "300_" in each.name)
    assert "typed-in-clear-4711" not in notebook.read_text()
    assert given["sudo_password"] in notebook.read_text()


def test_a_name_that_is_no_parameter_is_refused(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """Data that a person names in an own cell may be a misspelt parameter; deleted, it is no longer in the way."""
    shown(kernel.run("attempts = 3\nimport os\nfrom pathlib import Path\nfolder = Path()\ndef helper(): pass"))
    said = error(install(kernel, values(practice, tmp_path)))
    assert [line for line in said["evalue"].splitlines() if line.startswith("- ")] == [
        "- attempts: is no parameter; write one of the names in the notebook's parameters cell"
    ]
    shown(kernel.run("del attempts"))
    assert shown(kernel.run(BIND.format(kind="install"))) == ""


def test_names_that_were_there_before_the_first_cell_are_nobodys_parameters(tmp_path: Path) -> None:
    """IPython's own names, those of extensions and of a person's start-up file never stand in the way."""
    startup = tmp_path / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "own.py").write_text("answer = 42\nstate = 'from the start-up file'\n_hidden = 1\n")
    kernel = Kernel(tmp_path)
    try:
        for code in ("1 + 1", "'text'\n", "{'a': 1}", "%pwd", "!true", "import ipywidgets\nipywidgets.Text()"):
            shown(kernel.run(code))
        kernel.run("1 / 0")
        kernel.run(
            "from runbook_lib.jupyter.forms import given_parameters\nfrom IPython.core.getipython import get_ipython\n"
            "host = 'h'\nfrom pathlib import Path\nimport json\n"
            "Path('given').write_text(json.dumps(given_parameters(get_ipython().user_ns, get_ipython().user_ns_hidden)))"
        )
        assert json.loads((tmp_path / "given").read_text()) == {"host": "h", "state": "from the start-up file"}
    finally:
        kernel.close()


@pytest.mark.parametrize("value", [1, 1.5, "text", [1], {"a": 1}, (1,), None, True])
def test_every_kind_of_plain_data_counts(value: object) -> None:
    """Whatever YAML can give is taken for a parameter, whatever its name; names with an underscore are not."""
    assert given_parameters({"misspelt": value, "_": value}, {}) == {"misspelt": value}


def test_binding_again_begins_a_new_run(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """The bind cell run twice, once with an edited parameter: the first connection ends, each run has its notebook."""
    given = values(practice, tmp_path)
    record = request(given)
    shown(install(kernel, given | {"ticket": "first"}))
    shown(kernel.run("await change.check()"))
    wait_until(lambda: len(practice.practice.connections) == 1)
    shown(install(kernel, given | {"ticket": "second"}))
    wait_until(lambda: len(practice.practice.connections) == 1)
    shown(kernel.run("await change.check()"))
    tickets = [event["ticket"] for event in read(record) if event["event"] == "run"]
    assert tickets == ["", "first", "second"]
    assert len(list((record / "notebooks").iterdir())) == 2


def test_the_record_of_a_second_run_in_a_kernel_holds_that_run_alone(
    kernel: Kernel, practice: EmbeddedHost, tmp_path: Path
) -> None:
    """Run, edited, run again from the top, as people click: each record shows its own parameters and outputs at their cells."""
    given = values(practice, tmp_path)
    record = request(given)
    for ticket in ("first", "second"):
        shown(kernel.run(parameters_cell(given | {"ticket": ticket}), cell_id="parameters"))
        for cell in ("form", "bind"):
            shown(kernel.run(kept_cell(cell), cell_id=cell))
        shown(kernel.run("await change.check()", cell_id="check"))
    kernel.run(kept_cell("bind"), cell_id="bind")
    first, second, third = [
        json.loads(each.read_text())["cells"]
        for each in sorted((record / "notebooks").iterdir(), key=lambda each: each.stat().st_mtime_ns)
    ]
    for cells, ticket in ((first, "first"), (second, "second"), (third, "second")):
        code = {cell["id"]: cell for cell in cells if cell["cell_type"] == "code"}
        assert f"ticket = {ticket!r}" in "".join(code["parameters"]["source"])
        assert code["bind"]["execution_count"]
        assert bool(code["check"]["outputs"]) == (cells is not third)
        assert not [each for each in code if each.startswith("ran-")], ticket


def test_binding_again_when_the_server_has_gone(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """A connection that died since does not keep a person from binding again."""
    given = values(practice, tmp_path)
    request(given)
    shown(install(kernel, given))
    for step in ("check", "plan", "compare"):
        shown(kernel.run(f"await change.{step}()"))
    for connection in list(practice.practice.connections):
        connection.abort()
    assert error(kernel.run("await change.install()"))["ename"] == "Unreachable"
    shown(install(kernel, given))
    assert "is ready" in shown(kernel.run("await change.check()"))


def test_cells_out_of_order_leave_the_live_pair_alone(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """A cell before its turn is refused with the cells that are missing; nothing is touched, and the record does not say done."""
    given, before = values(practice, tmp_path), practice.snapshot()
    record = request(given)
    shown(install(kernel, given))
    for step in ("confirm", "install"):
        said = error(kernel.run(f"await change.{step}()"))
        assert said["ename"] == "Refused"
        assert f"{step} stands on steps that have not run: check, plan, compare" in said["evalue"]
    assert "summary stands on steps" in error(kernel.run("change.summary()"))["evalue"]
    assert practice.snapshot() == before
    assert outcome_of(read(record)) is not Outcome.DONE


def test_a_stop_while_it_connects_is_told_in_words(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """A server that accepts and says nothing: Stop is seen at once, and nothing was done."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shown(kernel.run(parameters_cell(values(practice, tmp_path, ssh_port=silent.getsockname()[1]))))
        running = kernel.begin(BIND.format(kind="install"))
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            kernel.interrupt()
            said = error(kernel.until_idle(running))
    assert (said["ename"], said["evalue"].splitlines()[0]) == ("Refused", "stopped before anything was done")


def test_a_secret_is_asked_of_the_person(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """`prompt` asks in the notebook, by the parameter's name, and what was typed is masked from then on."""
    given = values(practice, tmp_path, sudo_password="prompt")
    record = request(values(practice, tmp_path))
    shown(kernel.run(parameters_cell(given)))
    asked, sent = kernel.run_and_answer(BIND.format(kind="install"), SUDO_PASSWORD)
    assert asked == "sudo_password: "
    assert shown(sent) == ""
    kernel.run(f"print('{SUDO_PASSWORD}')")
    assert SUDO_PASSWORD not in json.dumps(kernel.seen, default=str)
    for file in record.rglob("*.*"):
        assert SUDO_PASSWORD.encode() not in (file.read_bytes() if file.is_file() else b"")


@pytest.mark.parametrize("mode", ["auto", "headless"])
def test_a_secret_nobody_can_type_is_a_fault(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path, mode: str) -> None:
    """Where nobody answers, `prompt` is refused with what to write instead."""
    said = error(install(kernel, values(practice, tmp_path, sudo_password="prompt", mode=mode)))
    assert "needs a person, and this run has none; use env:, file: or keyring:" in said["evalue"]


def test_a_place_for_records_that_cannot_be_written(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """Without a record nothing is done, and the message names the place."""
    (tmp_path / "file").touch()
    said = error(install(kernel, values(practice, tmp_path, records_dir=str(tmp_path / "file/records"))))
    assert said["ename"] == "Refused"
    assert str(tmp_path / "file/records") in said["evalue"]
    wait_until(lambda: not practice.practice.connections)


def test_a_form_that_was_begun_anew_is_the_one_in_the_record(
    kernel: Kernel, practice: EmbeddedHost, tmp_path: Path
) -> None:
    """Filled in again and bound again: each record shows what its own run was given."""
    record = request(values(practice, tmp_path))
    shown(kernel.run(parameters_cell(values(practice, tmp_path)), cell_id="parameters"))
    for ticket in ("first", "second"):
        shown(kernel.run(kept_cell("form"), cell_id="form"))
        kernel.run(f"inputs.change('ticket', {ticket!r})", store_history=False)
        shown(kernel.run(kept_cell("bind"), cell_id="bind"))
    kernel.run(kept_cell("bind"), cell_id="bind")  # closes the one before
    notebooks = sorted((record / "notebooks").glob("*300*.ipynb"), key=lambda each: each.stat().st_mtime_ns)
    for notebook, ticket in zip(notebooks[:2], ("first", "second"), strict=True):
        cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["id"] == "form"]
        assert [ticket in str(cell["outputs"]) for cell in cells] == [True], (notebook, ticket)


def test_a_form_that_was_overtaken_is_not_read(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """The parameters cell was run again and the form's was not: the old values are not taken for the new ones."""
    given = values(practice, tmp_path)
    request(given)
    kernel.run(parameters_cell(given | {"rollback_after_s": 40}))
    kernel.run(kept_cell("form"))
    kernel.run(parameters_cell(given | {"rollback_after_s": 50}))
    said = error(kernel.run(kept_cell("bind")))
    assert "was run again after the form: rollback_after_s" in said["evalue"]
    kernel.run(kept_cell("form"))
    assert shown(kernel.run(kept_cell("bind"))) == ""


def test_what_takes_long_is_told_meanwhile(kernel: Kernel, practice: EmbeddedHost, tmp_path: Path) -> None:
    """A restart of more than a second with its time, and the guard's deadline; the record keeps how each ended."""
    given = values(practice, tmp_path, mode="interactive")
    record = request(given | {"mode": "auto"})
    restart = HeldRestart(practice)
    shown(install(kernel, given))
    for step in ("check", "plan", "compare"):
        shown(kernel.run(f"await change.{step}()"))
    running = kernel.begin("await change.install()")
    restart.wait()
    time.sleep(2.2)
    restart.let_go()
    sent = kernel.until_idle(running)
    texts = [str(each["content"].get("data", {}).get("text/plain", "")) for each in sent]
    assert any(re.fullmatch(r"restart nginx: \d+ s so far", each) for each in texts), texts
    assert any(
        re.fullmatch(r"guard: the old pair comes back in 0:\d\d unless this is confirmed", each) for each in texts
    )
    shown(kernel.run("await change.confirm()"))
    shown(kernel.run("change.summary()"))
    kept = next(cell for cell in executed_cells(record) if "change.install()" in "".join(cell["source"]))
    lines = [each["data"]["text/plain"] for each in kept["outputs"] if each["output_type"] == "display_data"]
    assert any(re.fullmatch(r"restart nginx: \d+\.\d s", each) for each in lines), lines
    assert "guard: confirmed: the new pair stays" in lines
