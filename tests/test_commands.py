"""Every command that README and docs show is run, in the order in which it stands, against a practice server."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from runbook_lib.chromium import BROWSERS
from runbook_lib.parameters import validate
from tests.change.operator import ISSUING, ROOT, certify, pem
from tests.embedded import EmbeddedHost
from tests.record.sealing import signing_key
from tests.servers import wait_until
from tests.test_documentation import TEXT, TOP

PRACTICE = "/tmp/apstra-practice-server"  # noqa: S108 - as parameters/lab.yaml and the pages write it
BLOCK = re.compile(r"^ *```(sh|console|bat|yaml|text)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
PROMPT = "root@apstra:~# "
# What stands on a page and is not run here, by its first words, and why.
NOT_RUN = {
    "./run demo": ".ci/run does",
    "./run test": "this is it",
    "./run lint": ".ci/run does",
    "./run docs": ".ci/run does",
    "./run bench": "takes minutes, and compares with tools that are not here",
    "./run faults": "takes minutes; tests/faults/test_embedded.py runs a part of it",
    "./run lab": "a person ends it; tests/jupyter/test_jupyterlab.py runs what it opens",
    "./run bundle": "downloads 120 MB",
    "./run setup --offline": "needs what ./run bundle downloads",
    "certbot ": "needs a public name and a CA on the internet",
    "vault ": "there is no Vault here",
    "jq ": "its input is Vault's answer",
    "certreq ": "there is no Windows here",
}
if not any(map(shutil.which, BROWSERS)):
    NOT_RUN["runbook records show CHANGE-ID --pdf"] = "there is no Chromium here"


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    kind: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Its lines without blanks around them."""
        return [line.strip() for line in self.text.splitlines()]


def blocks(page: str) -> list[Block]:
    """The blocks of a page."""
    return [Block(*found) for found in BLOCK.findall(TEXT[page])]


PAGES = [page for page in TEXT if any(each.kind in {"sh", "console"} for each in blocks(page))]


def is_run(line: str) -> bool:
    """Whether a line is run here."""
    return not line.startswith(tuple(NOT_RUN))


class Desk:
    """An operator's host: a copy of the project, a home, and the names of the pages for a practice server."""

    def __init__(self, server: EmbeddedHost, folder: Path) -> None:
        self.server, self.project, self.home = server, folder / "project", folder / "home"
        for each in ("notebooks", "parameters"):
            shutil.copytree(TOP / each, self.project / each)
        (self.project / ".venv").symlink_to(Path(sys.prefix))
        self._write_home()
        self._write_lab()
        (self.project / "company-root.pem").write_bytes(pem(ROOT.x509))
        self.asked: dict[str, Any] = {}
        self._write_parameters()

    def _write_home(self) -> None:
        """Keys, and an ssh_config by which the names of the pages lead to the practice server, even for OpenSSH's own ssh."""
        ssh, given = self.home / ".ssh", self.server.parameters
        ssh.mkdir(parents=True, mode=0o700)
        for name in ("id_ed25519", "id_ed25519.pub"):
            shutil.copy(self.server.practice.root / name, ssh)
        signing_key(ssh, "bob_ed25519")
        self.ssh_config = (
            f"Host *.example.com\n  HostName {given['host']}\n  Port {given['ssh_port']}\n  User admin\n"
            f"  UserKnownHostsFile {ssh}/known_hosts\n"
        )
        (ssh / "config").write_text(self.ssh_config)
        programs = self.home / "bin"
        programs.mkdir()
        (programs / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {ssh}/config "$@"\n')
        (programs / "ssh").chmod(0o755)
        for each in ("runbook", "papermill"):
            (programs / each).symlink_to(Path(sys.executable).with_name(each))

    def _write_lab(self) -> None:
        lab = self.project / "parameters/lab.yaml"
        values = yaml.safe_load(self.put(lab.read_text())) | {
            name: self.server.parameters[name] for name in ("ssh_port", "https_port")
        }
        lab.write_text(yaml.safe_dump(values))

    def _write_parameters(self) -> None:
        """parameters/mine.yaml: the example with what the page says on top, and below that where this server has its folders."""
        shown = yaml.safe_load((TOP / "parameters/example.yaml").read_text()) | self.asked
        _, faults = validate(shown, asks_for_certificate=True)
        assert faults == ()
        here = {name: self.server.parameters[name] for name in ("conf_dir", "state_dir", "https_port", "sudo_password")}
        here |= {"key_type": "ec-p256"}  # made in no time
        mine = yaml.safe_dump(shown | here).replace("192.0.2.10", self.server.parameters["host"])
        (self.project / "parameters/mine.yaml").write_text(mine)

    def trust(self) -> None:
        """Pins the server's host key, as somebody has done who did not begin on this page."""
        known = Path(self.server.parameters["known_hosts"]).read_text()
        (self.home / ".ssh/known_hosts").write_text(known)

    def put(self, text: str) -> str:
        """The names of a page in a text, as they are here."""
        given, records = self.server.parameters, f"{self.project}/records"
        text = text.replace(PRACTICE, str(self.server.practice.root))
        for name, here in (
            ("/etc/aos/nginx.conf.d", given["conf_dir"]),
            ("/var/lib/apstra-runbook", given["state_dir"]),
            ("/opt/jupyterhub", str(self.home / "hub")),
            ("127.0.0.1:443", f"127.0.0.1:{given['https_port']}"),
            ("-p 8022", f"-p {given['ssh_port']}"),
            ("CHANGE-ID", f"$(ls {records} | tail -n 1)"),
            ("diff A B", f"diff $(ls {records} | tail -n 2)"),
            ("DIGEST", f"$(ls {records}/*/seals/*.json | tail -n 1 | xargs sha256sum | cut -c 1-64)"),
            ("ssh-ed25519 AAAA…", (self.home / ".ssh/id_ed25519.pub").read_text().strip()),
        ):
            text = re.sub(rf"(?<![\w-]){re.escape(name)}", lambda _, here=here: here, text)  # type: ignore[misc]
        return text

    def does(self, block: Block) -> None:
        """What a reader does with a block."""
        if block.kind == "yaml":
            self.asked |= yaml.safe_load(self.put(block.text))
            self._write_parameters()
        elif block.kind == "text" and block.text.startswith("Host "):
            (self.project / "ssh_config").write_text(self.ssh_config + block.text)
        elif block.kind == "console":
            for line in block.lines:
                self._on_the_server(line)
        elif block.kind == "sh":
            self._here(block)

    def _on_the_server(self, line: str) -> None:
        assert line.startswith(PROMPT), line
        ended = self.server.run(self.put(line.removeprefix(PROMPT)))
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"

    def _here(self, block: Block) -> None:
        """Runs a block in one shell; a line that ends otherwise than it says ends it, and a yes is given to who asks."""
        script = ["set -u"]
        for line in filter(is_run, block.lines):
            command, _, comment = line.partition("  # ")
            status = re.search(r"exit status (\d)", comment)
            script += [
                f"{self.put(command)}\nended=$?; [ $ended = {status[1] if status else 0} ] || {{ echo 'not ended as said:' $ended; exit 99; }}"
            ]
        if any(line.startswith("runbook install") for line in block.lines):
            self.let_the_ca_answer()
        ended = subprocess.run(
            ["sh", "-c", "\n".join(script)], input="y\n" * 9, capture_output=True, text=True, check=False, timeout=100, cwd=self.project,
            env=os.environ | {"HOME": str(self.home), "PATH": f"{self.home}/bin:{os.environ['PATH']}"},
        )  # fmt: skip
        assert ended.returncode == 0, f"{block.text}\n{ended.stdout[-3000:]}{ended.stderr[-3000:]}"
        self._write_parameters()  # where the page has just copied the example

    def let_the_ca_answer(self) -> None:
        """Signs the newest CSR into `certificate_file`, in the form that its name promises, where that is not there yet."""
        file = self.project / yaml.safe_load((self.project / "parameters/mine.yaml").read_text())["certificate_file"]
        csrs = sorted(self.project.glob("records/*/files/nginx.csr"))
        if csrs and not file.exists():
            chain = [certify(x509.load_pem_x509_csr(csrs[-1].read_bytes()), ISSUING), ISSUING.x509]
            packed = pkcs7.serialize_certificates(chain, Encoding.DER) if file.suffix == ".p7b" else pem(*chain)
            file.write_bytes(packed)

    def replaces(self) -> None:
        """A replacement that came before, by the practice CA, with what the page says otherwise."""
        self.asked |= self.server.signing
        self._write_parameters()
        self._here(Block("sh", "runbook replace -f parameters/mine.yaml -p apply True"))

    def plans(self) -> None:
        """A record to look at."""
        self._here(Block("sh", "runbook plan -f parameters/mine.yaml"))

    def upgrades(self) -> None:
        """A replacement, and then what an upgrade does to its pair."""
        self.replaces()
        make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=factory -days 9 -keyout nginx.key -out nginx.crt"
        ended = self.server.run(f"cd {self.server.parameters['conf_dir']}; {make} && docker restart aos_nginx_1")
        assert ended.returncode == 0
        wait_until(lambda: bool(self.server.served()))


# A page whose commands, in their order, are among those of another one with the same outcome.
AS_ON = {"README.md": "docs/how-to/manual-ca.md", "docs/how-to/vault.md": "docs/how-to/manual-ca.md"}
# What happens outside a page, before the block that begins so.
BEFORE: Mapping[tuple[str, str], Callable[[Desk], None]] = {
    ("docs/tutorial.md", ".venv/bin/runbook records"): Desk.plans,
    ("docs/how-to/by-hand.md", "ssh "): Desk.replaces,
    ("docs/how-to/after-an-upgrade.md", "runbook audit"): Desk.upgrades,
    ("docs/how-to/after-an-upgrade.md", "runbook restore -f parameters/mine.yaml -p backup_file"): lambda desk: (
        desk.server.reset()
    ),
}


def commands(page: str) -> list[str]:
    """The lines of a page that are run here."""
    return [line for each in blocks(page) if each.kind == "sh" for line in each.lines if is_run(line)]


@pytest.mark.parametrize(("page", "other"), AS_ON.items())
def test_the_commands_of_a_page_are_run_on_another(page: str, other: str) -> None:
    """They stand there in the same order, comments aside."""
    there = iter(line.partition("  # ")[0].strip() for line in commands(other))
    here = [line.partition("  # ")[0].strip() for line in commands(page)]
    assert here
    assert [line for line in here if line not in there] == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in AS_ON])
def test_the_commands_of_a_page_run(page: str, practice_host: Callable[..., EmbeddedHost], tmp_path: Path) -> None:
    """Each block does what it says, after those above it."""
    found = blocks(page)
    desk = Desk(practice_host(nopasswd="ssh -t" in TEXT[page]), tmp_path)
    if not any(line.startswith("runbook trust") for line in commands(page)):
        desk.trust()
    for block in found:
        for (where, begin), happen in BEFORE.items():
            if page == where and block.text.strip().startswith(begin):
                happen(desk)
        desk.does(block)
    assert list(untold(desk.project / "records")) == []


def untold(records: Path) -> Iterator[str]:
    """Events of these records, and fields, that the reference does not know: it is made from the code, which names not all of them."""
    reference = TEXT["docs/reference/record.md"]
    for line in "".join(each.read_text() for each in records.glob("*/journal.jsonl")).splitlines():
        event = json.loads(line)
        row = re.search(rf"^\| `{event['event']}` \|.*$", reference, re.MULTILINE)
        known = row[0] if row else ""
        yield from (
            f"{event['event']}.{name}"
            for name in event
            if f"`{name}`" not in known and name not in {"n", "at", "event", "prev"}
        )


def test_what_is_not_run_stands_on_a_page() -> None:
    """No reason is kept for a command that is not shown any more."""
    shown = [line for page in TEXT for block in blocks(page) if block.kind in {"sh", "bat"} for line in block.lines]
    assert [each for each in NOT_RUN if not any(line.startswith(each) for line in shown)] == []
