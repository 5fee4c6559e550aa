"""Who is measured: each one replaces the pair of the same real server, from a fresh process to its end."""

import asyncio
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from ansible_home import AnsibleHome
from conductor import replace

from runbook_lib.change.planning import REHEARSAL
from tests.realserver.host import SUDO_PASSWORD, RealHost

HERE = Path(__file__).parent
NAME = "apstra.lab.example"
LIMIT_S = 120


class Site:
    """A real server, and a folder for what the contenders need and leave.

    Args:
        host: The server; it is put back to its first state before every replacement.
        folder: An empty folder.
    """

    def __init__(self, host: RealHost, folder: Path) -> None:
        self._host, self._folder = host, folder
        self._values: dict[str, Any] = host.parameters | {
            "common_name": NAME, "san": [f"DNS:{NAME}", f"IP:{host.address}"], "key_type": "ec-p256", "signer": "self-signed",
            "apply": True, "records_dir": str(folder / "records"),
        }  # fmt: skip
        self._parameters = folder / "parameters.yaml"
        self._parameters.write_text(yaml.safe_dump(self._values))

    def seconds(self, contender: Callable[[], None]) -> float:
        """How long a contender takes for one replacement, which is then looked at.

        Raises:
            RuntimeError: It failed, or the server does not serve the pair that now lies in its folder.
        """
        self._host.reset()
        before = self._host.served()
        begun = time.perf_counter()
        contender()
        took = time.perf_counter() - begun
        served, lies = self._host.served(), self._host.path("/etc/aos/nginx.conf.d/nginx.crt").read_text()
        if served == before or served.strip() != lies.strip():
            raise RuntimeError(
                f"{getattr(contender, '__name__', contender)} ended well, and its certificate is not served"
            )
        return took

    def shell_script(self) -> None:
        """`replace.sh` as the standard input of one ssh; sudo takes the first line as its password."""
        script = f"{SUDO_PASSWORD}\nrehearsal={shlex.quote(REHEARSAL)}\n{(HERE / 'replace.sh').read_text()}"
        command = f"sudo -S -p '' sh -s {NAME} {self._host.address}"
        _run("ssh", "-F", "/dev/null", *self._ssh_options(), f"admin@{self._host.address}", command, given=script)

    def conductor_as_process(self) -> None:
        """The conductor as a process of its own."""
        _run(sys.executable, str(HERE / "conductor.py"), str(self._parameters))

    def conductor(self) -> None:
        """The conductor in this process, where everything is loaded: as many changes in a row would see it."""
        asyncio.run(replace(self._values, self._folder))

    def notebooks(self) -> None:
        """`runbook replace`: both notebooks, executed and recorded."""
        _run(str(Path(sys.executable).with_name("runbook")), "replace", "-f", str(self._parameters))

    def ansible(self, home: AnsibleHome) -> None:
        """`playbook.yml`, with the settings that make Ansible fast.

        Its ssh master ends with the server's reset, so that it too begins by logging in.
        """
        inventory = self._folder / "inventory.json"
        variables = {
            "ansible_host": self._host.address, "ansible_user": "admin", "ansible_become_password": SUDO_PASSWORD,
            "ansible_python_interpreter": str(home.python), "common_name": NAME,
        }  # fmt: skip
        inventory.write_text(json.dumps({"all": {"hosts": {"apstra": variables}}}))
        settings = {
            "ANSIBLE_PIPELINING": "True", "ANSIBLE_GATHERING": "explicit", "ANSIBLE_HOME": str(self._folder / "ansible"),
            "ANSIBLE_SSH_ARGS": " ".join(("-C -o ControlMaster=auto -o ControlPersist=60s -F /dev/null", *self._ssh_options())),
            "ANSIBLE_COLLECTIONS_PATH": str(home.collections), "ANSIBLE_LOCALHOST_WARNING": "False", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        _run(str(home.playbook), "-i", str(inventory), str(HERE / "playbook.yml"), settings=settings)

    def _ssh_options(self) -> tuple[str, ...]:
        known_hosts, key = self._host.parameters["known_hosts"], self._host.parameters["client_key"]
        return ("-o", f"UserKnownHostsFile={known_hosts}", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-i", key)


def _run(*command: str, given: str = "", settings: dict[str, str] | None = None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=HERE.parent,
        env=environment | (settings or {}),
    )  # fmt: skip
    if result.returncode:
        said = f"{result.stdout}\n{result.stderr}".strip()[-3000:]
        raise RuntimeError(f"{Path(command[0]).name} ended with {result.returncode}:\n{said}")
