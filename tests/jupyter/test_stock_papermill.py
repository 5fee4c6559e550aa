"""Stock papermill, from another working directory, with a parameter file: as an operator would schedule it."""

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.models import Outcome
from runbook_lib.record.journal import outcome_of, read
from runbook_lib.record.seal import described
from tests.agents import slow_agent
from tests.embedded import EmbeddedHost
from tests.jupyter.changes import NOTEBOOKS, PROJECT, parameter_file, request, start, values
from tests.record.sealing import OPERATOR, signing_key

NAMES = {
    "100": "100_audit_certificates",
    "200": "200_request_certificate",
    "300": "300_install_certificate",
    "900": "900_restore_certificate",
}


def papermill(folder: Path, number: str, given: dict[str, Any], *more: str) -> subprocess.CompletedProcess[str]:
    """Runs a notebook by papermill's own command in a folder that is not the project's."""
    notebook, log = NOTEBOOKS / f"{NAMES[number]}.ipynb", folder / f"{number}.log"
    command: list[str | Path] = [
        "papermill",
        notebook,
        folder / f"{number}.ipynb",
        "-f",
        parameter_file(folder, given),
        *more,
    ]
    status = start(*command, cwd=folder, log=log, PYTHONUNBUFFERED="1").wait(timeout=100)
    return subprocess.CompletedProcess(command, status, log.read_text())


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    """A notebook's code cells."""
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]


def only_record(folder: Path) -> Path:
    """The record, where there is one."""
    (record,) = (folder / "records").iterdir()
    return record


def joined(output: dict[str, Any]) -> dict[str, Any]:
    """An output with its text in one piece: notebook files may hold it as lines."""
    text = {
        name: "".join(value) if isinstance(value, list) else value for name, value in output.get("data", {}).items()
    }
    return {
        **output,
        **({"data": text} if text else {}),
        **({"text": "".join(output["text"])} if "text" in output else {}),
    }


def test_request_install_restore_audit(practice: EmbeddedHost, tmp_path: Path) -> None:
    """All four notebooks end 0, the certificate is replaced and comes back, and the record holds what papermill saw."""
    given, old = values(practice, tmp_path), practice.served()
    assert papermill(tmp_path, "200", given).returncode == 0
    record = only_record(tmp_path)
    assert papermill(tmp_path, "300", given).returncode == 0
    assert outcome_of(read(record)) is Outcome.DONE
    assert practice.served() != old
    assert practice.served() in (record / "files/certificate-after.pem").read_text()
    assert papermill(tmp_path, "900", given | {"reason": "tried"}).returncode == 0
    assert practice.served() == old
    assert papermill(tmp_path, "100", given).returncode == 0
    assert not (PROJECT / "notebooks/records").exists()
    for number, name in NAMES.items():
        (ours,) = (tmp_path / "records").glob(f"*/notebooks/*-{name}.ipynb")
        kept, theirs = code_cells(ours), code_cells(tmp_path / f"{number}.ipynb")
        assert [cell["execution_count"] for cell in kept] == [cell["execution_count"] for cell in theirs]
        assert ["".join(cell["source"]).strip() for cell in kept] == [
            "".join(cell["source"]).strip() for cell in theirs
        ]
        seen = [list(map(joined, cell["outputs"])) for cell in theirs]
        closing = seen[-1].pop()["text"]  # where the report and the seal are: told when our notebook has been closed
        assert closing.endswith("report.html\nseal: none: no signing_key was given\n")
        assert [list(map(joined, cell["outputs"])) for cell in kept] == seen
        assert kept[1]["metadata"]["tags"] == theirs[1]["metadata"]["tags"] == ["injected-parameters"]
    for path in (tmp_path / "records").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_key_that_takes_its_time_to_sign(
    practice: EmbeddedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that waits for a finger longer than papermill waits for the end of a cell: exit status 0, and sealed."""
    signing_key(tmp_path).path.rename(tmp_path / "elsewhere")
    given = values(practice, tmp_path, signing_key=str(tmp_path / "key.pub"), operator=OPERATOR)
    with slow_agent(tmp_path, tmp_path / "elsewhere", sign_s=6) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        ended = papermill(tmp_path, "100", given)
    assert ended.returncode == 0, ended.stdout
    name, _, digest = described(only_record(tmp_path)).partition(" ")
    shown = [
        output["text"] for cell in code_cells(tmp_path / "100.ipynb") for output in cell["outputs"] if "text" in output
    ]
    assert f"seal: {name} {digest}" in "".join(map("".join, shown))


def test_waiting_ends_200_normally_and_raises_in_300(practice: EmbeddedHost, tmp_path: Path) -> None:
    """Without a certificate 200 has done its part; 300 has not, so papermill must end 1 for a scheduler to notice."""
    given = values(practice, tmp_path) | {"signer": "manual", "signer_options": {}}
    assert papermill(tmp_path, "200", given).returncode == 0
    record = only_record(tmp_path)
    assert outcome_of(read(record)) is Outcome.WAITING
    ended = papermill(tmp_path, "300", given)
    assert ended.returncode == 1
    assert "Waiting: the CA has not answered yet" in ended.stdout
    assert outcome_of(read(record)) is Outcome.WAITING


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            ("-p", "comon_name", "apstra.example.com"),
            "- comon_name: is no parameter; write common_name, if that is what is meant",
        ),
        (("-p", "apply", "false"), "- apply: is no boolean; write true or false without quotes"),
    ],
)
def test_what_papermill_lets_through_is_refused(
    practice: EmbeddedHost, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    """A name that papermill only logs, and its way of reading `-p`, stop at the bind cell before anything is contacted."""
    ended = papermill(tmp_path, "300", values(practice, tmp_path), *more)
    assert ended.returncode == 1
    assert said in ended.stdout
    assert not practice.practice.connections
    assert not (tmp_path / "records").exists()
    errors = [
        output
        for cell in code_cells(tmp_path / "300.ipynb")
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]
    assert [error["ename"] for error in errors] == ["UnusableParameters"]
    assert "Traceback" not in "".join(errors[0]["traceback"])


def test_a_failed_check_ends_1_and_says_what_to_do(practice: EmbeddedHost, tmp_path: Path) -> None:
    """The error that papermill prints is the whole of what a person needs."""
    given = values(practice, tmp_path)
    request(given)
    (practice.practice.conf_dir / "nginx.key").write_text("no key")
    ended = papermill(tmp_path, "300", given)
    assert ended.returncode == 1
    assert "ChecksFailed" in ended.stdout
    assert "what to do: " in ended.stdout
