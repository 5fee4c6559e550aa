"""Writes the reference from the code: `python docs/reference.py FOLDER`. `./run docs` does, and a test holds the pages to it."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from runbook_lib.cli import main as runbook
from runbook_lib.models import Certificate, Outcome
from runbook_lib.parameters import Parameters, as_shipped, validate
from runbook_lib.record.events import KINDS
from runbook_lib.signers import OPTIONS, option_faults

TOP = Path(__file__).parents[1]
WRITTEN_BY = "<!-- written by docs/reference.py from the code; `./run docs` writes it anew -->\n"
# What does not pass, an example or more a parameter: what is then said is asked of the code.
WRONG: Mapping[str, Sequence[object]] = {
    "host": ["https://apstra"], "ssh_port": ["22", 70000], "user": ["ad min"], "ssh_password": ["geheim"], "https_port": [0],
    "known_hosts": ["~nobody-here/known_hosts"], "bastion_passwords": [{"jump": "geheim"}], "sudo_password": ["geheim"],
    "service_addresses": ["apstra.example.com", ["apstra.example.com:443"]], "container": ["a b"], "conf_dir": ["nginx.conf.d/"],
    "state_dir": ["/tmp/state", "/etc/aos/state"], "common_name": ["", "Apstra, Berlin"], "email": ["ada"],  # noqa: S108 - refused
    "san": [["apstra.example.com"], ["DNS:192.0.2.10"], ["DNS:größe.example"]], "country": [False, "Germany"], "key_type": ["rsa-1024"],
    "signer": ["acme"], "signer_options": ["ca.pem"], "validity_days": [0], "activation": ["stop"], "rollback_after_s": [5],
    "not_before": ["2026-11-24 22:00"], "not_after": ["tomorrow"], "apply": ["yes"], "approved_plan": ["sha256:abc"], "change_id": ["latest"],
    "pair": ["old"], "fetch_backup": [["ada@example.net"]], "backup_file": ["nginx.tar.age"], "records_dir": [""], "ticket": [12345],
    "reason": ["two\nlines"], "mode": ["batch"],
}  # fmt: skip
WHAT_NOW = {
    Outcome.DONE: "Nothing. After `request`, run `install`.",
    Outcome.NOTHING_TO_DO: "Nothing; to replace it all the same, `change_id: new`.",
    Outcome.PLANNED: "Read the plan, then run again with `apply`.",
    Outcome.FAILED: "Read the error and look into the record. What looks like a defect, please report.",
    Outcome.UNUSABLE: "Correct what is named; every fault is named at once.",
    Outcome.REFUSED: "Do what stands beside the check that failed, and run again.",
    Outcome.WAITING: "Hand the CSR to your CA, put its answer where `certificate_file` says, and run `install`.",
    Outcome.ROLLED_BACK: "Mend the cause, and run `install` again: the staged certificate is still there.",
    Outcome.UNKNOWN: "[Look at the server now](../how-to/by-hand.md); the way back stands in the error.",
}
EVENTS = {
    "run": "A notebook or a plan began.",
    "facts": "What the server was found to be, and the state of the change.",
    "checks": "Judgements, each with its question, what was expected, what was found, its verdict and its source.",
    "plan": "The commands that apply would run, their digest, and the line that puts the old pair back.",
    "intent": "A command is about to be run.",
    "result": "That command ended: its exit status, how long it took, and what it said on standard error.",
    "compare": "The public keys of key, CSR and certificate, as two programs see them.",
    "certificate": "The certificate that was live `before`, or is live `after`.",
    "browser": "What Chromium said of one service address, `before` the swap or `after` it, and the name of its picture.",
    "probe": "The outage that was measured while nginx was restarted.",
    "guard": "What the guard on the server wrote down.",
    "file": "A file was put into `files/`.",
    "approval": "What the policy asks for, and who approved the plan.",
    "approved": "Somebody approved the plan.",
    "unknown": "An earlier run heard no result of these commands.",
    "settled": "What became of them, as seen on the server.",
    "note": "Something that is worth knowing.",
    "gate": "The record was searched for secrets and private keys.",
    "repair": "Secrets that were found in a file were masked.",
    "unsealed": "The record was closed without a seal, and why.",
    "torn": "The line before was cut short: the process was killed, or the disk was full.",
    "end": "The run ended.",
}

ABOUT_PARAMETERS = """# Parameters

All four notebooks and every `runbook` command that runs one take the same parameters, and leave alone those that they do
not need. They come from the notebook's parameters cell, from YAML files (`-f FILE`), from YAML text
(`-y 'country: "DE"'`) and from `-p NAME VALUE`; the later one wins. A relative path is looked up from the project's
folder. What cannot be used is refused before anything is contacted: every fault at once, exit status 2.

**A secret** is never written down, only where it is: `env:NAME` (an environment variable), `file:PATH` (your own regular
file that nobody else can read), `keyring:SERVICE/USER`, or `prompt` where a person can be asked (JupyterLab, `plan`,
`audit`, `trust`).
"""
ABOUT_OUTCOMES = """# Outcomes

How a run ended, the same for every command that runs a change. The last line on standard output is
`outcome: <word> <path of the record>`, and the exit status says the same.
"""
ABOUT_VERIFY = "`runbook verify` ends with 0 where everything is proven, 1 where something is not, and 2 where it could not be looked at."
ABOUT_RECORD = """# Record

A record is the folder `records/CHANGE-ID/`, mode 0700, its files 0600. A change id is the time at which the change was
opened, and six random hex digits.

| file | what it is |
| --- | --- |
| `journal.jsonl` | an event a line, written before and after each command, on the disk before the next thing is done |
| `notebooks/<UTC>-<name>.ipynb` | the executed notebooks, written by the kernel as their cells run |
| `files/` | CSR, certificates before and after, plans, approvals, encrypted copies; never a private key in the clear |
| `report.html` | the record as a change board reads it: one page without script |
| `seals/NNNN.json`, `.sig` | an in-toto statement over the journal's first lines and every file by SHA-256, and the SSH signature over it |

## The journal

Each line is a JSON object with `n`, its number; `at`, the time on the operator's host, UTC; `event`, its kind; and
`prev`, the SHA-256 of the line before. What else it holds depends on its kind. `runbook records show CHANGE-ID` tells it
line by line; kinds that a version does not know are shown field by field.
"""


def parameters() -> str:
    """Every parameter in the order and under the headings of the notebooks' own cell, and what is said of wrong values."""
    shipped, lines = as_shipped(), [ABOUT_PARAMETERS]
    for heading, names in _groups():
        rows = [(f"`{name}`", _text(_field(name)), _default(name, shipped), _type(name)) for name in names]
        lines += [f"## {heading.capitalize()}", "", *_table(("parameter", "what it is", "default", "type"), rows), ""]
    lines += ["## The signers' options", "", "What `signer_options` holds, by `signer`.", ""]
    options = [(f"`{signer}`", f"`{name}`", "yes" if field.is_required() else "no", _text(field.description or ""))
               for signer, model in OPTIONS.items() for name, field in model.model_fields.items()]  # fmt: skip
    lines += _table(("signer", "option", "needed", "what it is"), options)
    without = ", ".join(f"`{signer}`" for signer, model in OPTIONS.items() if not model.model_fields)
    lines += ["", f"{without} take none.", "", "## What is refused", "", "Examples, with what is said of them.", ""]
    lines += _table(("parameter", "given", "what is wrong", "what to write"), list(_refusals()))
    return _page(lines)


def _groups() -> Iterator[tuple[str, list[str]]]:
    """The headings of the parameters cell with the names below each."""
    notebook = json.loads((TOP / "notebooks/200_request_certificate.ipynb").read_text())
    cell = next(each for each in notebook["cells"] if "parameters" in each["metadata"].get("tags", ()))
    for block in "".join(cell["source"]).split("\n\n"):
        heading, *rest = block.splitlines()
        yield heading.removeprefix("# "), [line.split(" =")[0] for line in rest]


def _field(name: str) -> str:
    return Parameters.model_fields[name].description or ""


def _type(name: str) -> str:
    schema = Parameters.model_json_schema()["properties"][name]
    kinds = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    if "enum" in kinds[0]:
        return "one of these words"
    word = {"string": "text", "integer": "whole number", "boolean": "true or false", "array": "list", "object": "mapping"}[kinds[0]["type"]]  # fmt: skip
    low, high = kinds[0].get("minimum"), kinds[0].get("maximum")
    return word if low is None else f"{word}, {low} to {high}"


def _default(name: str, shipped: Mapping[str, Any]) -> str:
    if name not in shipped:
        return "must be given"
    value = shipped[name]
    return "empty" if value in ("", [], {}) else "none" if value is None else f"`{json.dumps(value).strip(chr(34))}`"


def _refusals() -> Iterator[tuple[str, ...]]:
    sound = {"host": "apstra.example.com", "common_name": "apstra.example.com"}
    for name, values in WRONG.items():
        for value in values:
            _, faults = validate({**sound, name: value}, asks_for_certificate=True)
            for fault in faults:
                yield (
                    f"`{fault.field}`",
                    f"`{json.dumps(value, ensure_ascii=False)}`",
                    *map(_text, (fault.wrong, fault.write)),
                )
    _, faults = validate({**sound, "comon_name": "apstra"}, asks_for_certificate=True)
    options = {"ca_certificate": "ca.pem", "ca_key": "-----BEGIN PRIVATE KEY-----", "url": ""}
    for fault in (*faults, *option_faults("local-ca", options)):
        yield f"`{fault.field}`", "", _text(fault.wrong), _text(fault.write)


def commands() -> str:
    """What `./run --help` and the `--help` of every `runbook` command say."""
    usage = subprocess.run([TOP / "run", "--help"], capture_output=True, text=True, check=True).stdout
    lines = ["# Commands", "", "After `./run setup` the command is `.venv/bin/runbook`.", "", "## ./run", ""]
    lines += ["```text", usage.rstrip(), "```", ""]
    for path, command in _commands(runbook, ("runbook",)):
        context = click.Context(command, info_name=" ".join(path), max_content_width=88, terminal_width=88)
        context.help_option_names = ["-h", "--help"]
        lines += [f"## {' '.join(path)}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return _page(lines)


def _commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _commands(command.commands[name], (*path, name))


def outcomes() -> str:
    """Every outcome with its exit status."""
    rows = [(f"`{each}`", str(each.exit_code), _text(each.meaning), WHAT_NOW[each]) for each in Outcome]
    table = _table(("outcome", "exit status", "what it means", "what to do"), rows)
    return _page([ABOUT_OUTCOMES, *table, "", ABOUT_VERIFY])


def record() -> str:
    """The files of a record and every kind of event with its fields."""
    written = _written()
    if unknown := written.keys() ^ EVENTS.keys():
        msg = f"EVENTS and what the code writes are not the same: {', '.join(sorted(unknown))}"
        raise ValueError(msg)
    rows = [(f"`{name}`", EVENTS[name], ", ".join(f"`{each}`" for each in written[name])) for name in EVENTS]
    return _page([ABOUT_RECORD, *_table(("event", "what happened", "fields"), rows)])


def _written() -> dict[str, list[str]]:
    """The kinds of events that the code writes, and their fields: those it names where it writes one, then those it reads out of one."""
    found: dict[str, list[str]] = {}
    for file in sorted((TOP / "runbook_lib").rglob("*.py")):
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="write" | "note") | ast.Name(id="write"),
                    args=[ast.Constant(value=str(kind))],
                    keywords=[_, *_] as named,
                ):
                    found.setdefault(kind, []).extend(name for each in named for name in _names(each, tree))
    for kind, fields in KINDS.items():
        found[kind] += [each.name for each in dataclasses.fields(fields)]
    found["certificate"] += [each.name for each in dataclasses.fields(Certificate) if each.name != "pem"]
    return {
        kind: [each for each in dict.fromkeys(names) if each not in {"event", "at", "n"}]
        for kind, names in found.items()
    }


def _names(named: ast.keyword, tree: ast.Module) -> Iterator[str]:
    """The name of a keyword argument, or those of the mapping that a function of the same file gives for `**`."""
    if named.arg:
        yield named.arg
    if isinstance(named.value, ast.Call) and isinstance(named.value.func, ast.Name) and not named.arg:
        functions = [
            each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == named.value.func.id
        ]
        for node in (node for function in functions for node in ast.walk(function)):
            if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict):
                yield from (str(key.value) for key in node.value.keys if isinstance(key, ast.Constant))


def _text(text: str) -> str:
    """Text as it stands in a cell of a table."""
    return re.sub(r"([\\|*<>])", r"\\\1", text)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def _page(lines: Sequence[str]) -> str:
    return f"{WRITTEN_BY}\n" + "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    for page in (parameters, commands, outcomes, record):
        Path(sys.argv[1], f"{page.__name__}.md").write_text(page())
