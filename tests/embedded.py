"""The embedded practice server behind the interface that the tests share with the real one."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from runbook_lib.lab import PracticeServer
from runbook_lib.lab.ssh import end_processes, environment
from tests.servers import FileState, served_leaf, snapshot, wait_until


class EmbeddedHost:
    """A running practice server; `practice` is the server itself, with its knobs."""

    def __init__(self, practice: PracticeServer) -> None:
        self.practice = practice
        self._first = practice.root / "first"
        shutil.copytree(practice.root / "etc/aos", self._first)

    @property
    def parameters(self) -> dict[str, Any]:
        """The connection half of a run's parameters."""
        return self.practice.parameters

    @property
    def signing(self) -> dict[str, Any]:
        """The parameters with which the practice CA signs."""
        return self.practice.signing

    def run(self, command: str, *, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a shell command as sudo would run it."""
        root = self.practice.root
        as_root = environment(root) | {"SUDO_USER": "admin", "USER": "root", "HOME": str(root / "root")}
        arguments = ["/bin/sh", "-c", command]
        return subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env=as_root,
            cwd=root,
            stdin=subprocess.DEVNULL,
        )

    def path(self, path: str) -> Path:
        """The path itself: the tree is this machine's."""
        return Path(path)

    def snapshot(self) -> dict[str, FileState]:
        """Every file of `conf_dir`."""
        return snapshot(self.practice.conf_dir)

    def served(self) -> str:
        """The leaf served now, PEM."""
        return served_leaf("127.0.0.1", self.practice.https_port)

    def reset(self) -> None:
        """End what was started, take back the first pair, forget `state_dir`, restart nginx."""
        end_processes(self.practice.root)
        shutil.rmtree(self.practice.state_dir, ignore_errors=True)
        shutil.rmtree(self.practice.root / "etc/aos")
        shutil.copytree(self._first, self.practice.root / "etc/aos")
        self.practice.restart_container()
        wait_until(lambda: bool(self.served()))
