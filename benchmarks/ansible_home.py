"""Ansible in an environment of its own, made once and kept under `.cache`, which git does not see."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"
COLLECTIONS = ("community/crypto",)
CORE, COMMUNITY = "ansible-core==2.19.*", "ansible==12.*"  # the second is made for the first


class NoAnsible(Exception):
    """Ansible could not be installed; the text is what pip said last."""


class AnsibleHome:
    """An environment with ansible-core, and the collections that the playbook needs beside it.

    The package `ansible` holds a hundred collections: its wheel is fetched and the one needed is taken out of it.
    """

    def __init__(self, folder: Path) -> None:
        self.python, self.playbook = folder / "bin/python", folder / "bin/ansible-playbook"
        self.collections = folder / "collections"

    @classmethod
    def ready(cls) -> "AnsibleHome":
        """The environment as it is kept, made first where it is not there yet.

        Raises:
            NoAnsible: The packages could not be had.
        """
        folder = CACHE / "ansible"
        if not (folder / "ready").exists():
            print("making an environment for Ansible; this takes a minute", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder)
            (folder / "ready").touch()
        return cls(folder)


def _make(folder: Path) -> None:
    python = str(folder / "bin/python")
    _run(sys.executable, "-m", "venv", str(folder))
    # as fast as it can be: with its bytecode, like ours
    _run(python, "-m", "pip", "install", "--quiet", "--compile", CORE)
    with tempfile.TemporaryDirectory() as download:
        _run(
            python,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            download,
            COMMUNITY,
        )
        _take_collections(next(Path(download).glob("*.whl")), folder / "collections")
    _run(python, "-m", "compileall", "-q", str(folder / "collections"))


def _take_collections(wheel: Path, target: Path) -> None:
    wanted = tuple(f"ansible_collections/{name}/" for name in COLLECTIONS)
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(target, [name for name in packed.namelist() if name.startswith(wanted)])


def _run(*command: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if result.returncode:
        raise NoAnsible((result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1])
