"""A practice server that has heard of planted secrets and tells them wherever it can."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from runbook_lib.lab import PracticeServer
from tests.embedded import EmbeddedHost
from tests.planted import Planted, forms

_TIMEOUT = """#!/bin/sh
read -r program <"{root}/babbles"
case "$1 $4 $5" in
  "-k /bin/sh -c") ;;
  *) case " $* " in *" $program "*) exec cat "{root}/leak" ;; *) exec "{own}" "$@" ;; esac ;;
esac
cat "{root}/leak" >&2
text=
[ ! -e "{root}/answers" ] || {{ read -r status && read -r text; }} <"{root}/answers"
[ -z "$text" ] || case $6 in *"$text"*) cat "{root}/leak"; exit "$status" ;; esac
exec "{own}" "$@"
"""


class TellingServer(PracticeServer):
    """A server that has heard of every secret: it bears them as its name, and writes all of them wherever it can."""

    leak = ""

    def _respond(self, path: str) -> tuple[str, str, bytes]:
        status, kind, body = super()._respond(path)
        return status, kind, body + self.leak.encode() if self.leak else body

    def cut(self) -> None:
        """Cuts every SSH connection, as a network does."""
        for each in list(self.connections):
            self._loop.call_soon_threadsafe(each.abort)


@dataclass
class Telling:
    """A telling server that was started, and its knobs."""

    server: TellingServer
    planted: Planted

    def __post_init__(self) -> None:
        self.server.password = self.planted.ssh_password
        self.server.start()
        self.host = EmbeddedHost(self.server)
        root = self.server.root
        (root / "sudo_password").write_text(self.planted.sudo_password)
        key = load_pem_private_key((root / "ca-key.pem").read_bytes(), (root / "ca_key_password").read_bytes())
        lock = BestAvailableEncryption(self.planted.ca_key_password.encode())
        (root / "ca-key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
        self.server.leak = _leak(self.planted.values)
        (root / "leak").write_text(self.server.leak)
        (root / "bin/timeout").write_text(_TIMEOUT.format(own=shutil.which("timeout"), root=root))
        (root / "bin/hostname").write_text(f"#!/bin/sh\nhead -n 1 {root}/leak\n")
        for each in ("timeout", "hostname"):
            (root / "bin" / each).chmod(0o755)
        self.babbles("")

    def answers(self, text: str, status: int) -> None:
        """From now on every command with this text tells all and ends with a status; with no text, every one does its work."""
        (self.server.root / "answers").write_text(f"{status}\n{text}\n")

    def babbles(self, program: str) -> None:
        """From now on this program, named with as many arguments as matter, answers with all that it has heard."""
        (self.server.root / "babbles").write_text(f"{program or 'none'}\n")

    @contextmanager
    def strays(self) -> Iterator[None]:
        """For a while there are files beside the pair that bear the secrets as their names."""
        strays = [self.server.conf_dir / f"{value}.conf" for value in self.planted.values]
        for each in strays:
            each.touch()
        yield
        for each in strays:
            each.unlink()

    @property
    def secret_files(self) -> tuple[Path, ...]:
        """The server's own files that hold a secret."""
        return tuple(self.server.root / each for each in ("sudo_password", "leak"))

    def values(self, references: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a run that logs in by password; `ca_key_password` becomes the signer's option of that name."""
        signing, given = self.host.signing, dict(references)
        options = signing["signer_options"] | {"ca_key_password": given.pop("ca_key_password")}
        return {**self.host.parameters, **signing, **given, "client_key": "", "signer_options": options}


def _leak(values: Iterable[str]) -> str:
    """Every secret in every form, and so often without a break that where a text is cut, as after 500 and 2000 characters, it is cut within one."""
    lines = [form.decode() for value in values for form in sorted(forms(value))]
    return "\n".join([f"an alert {' '.join(values)}", *lines, *(value * 30 for value in values), "that is it", ""])
