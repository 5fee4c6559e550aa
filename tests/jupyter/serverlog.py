"""A practice server's own log, kept by programs that stand in front of its own: it knows nothing of a journal.

`sudo` keeps every byte that the root shell was sent, `timeout` every command that was really begun and how it ended, with
the files as they were before and after, and `docker` every restart. A command can be held, to interrupt a run just there.
"""

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.embedded import EmbeddedHost
from tests.servers import wait_until

_SUDO = """#!/bin/sh
mkfifo -m 600 "{log}/$$.pipe" && exec 3<&0
tee "{log}/$$.received" <&3 >"{log}/$$.pipe" 2>/dev/null 3<&- &
exec "{own}" "$@" <"{log}/$$.pipe" 3<&-
"""
_DOCKER = """#!/bin/sh
case " $* " in " restart "* | *" -s reload "*) echo "$*" >>"{log}/restarts" ;; esac
exec "{own}" "$@"
"""
_TIMEOUT = """#!/bin/sh
case "$1 $4 $5" in "-k /bin/sh -c") ;; *) exec "{own}" "$@" ;; esac
looks() {{ ls -liR --time-style=full-iso "{state_dir}" "{conf_dir}" "{log}/restarts" 2>/dev/null; }}
held() {{
  [ -e "{log}/hold-$1" ] || return 0
  read -r text <"{log}/hold-$1"
  case $2 in *"$text"*) while [ -e "{log}/hold-$1" ]; do touch "{log}/held"; sleep 0.02; done ;; esac
}}
begun=$(date +%s%N)
printf %s "$6" >"{log}/$begun-$$.begun"
held before "$6"
before=$(looks)
"{own}" "$@"
status=$?
changed=no
[ "$before" = "$(looks)" ] || changed=yes
echo "$(date +%s%N) $status $changed" >"{log}/$begun-$$.ended"
held after "$6"
exit $status
"""
_FRAME = re.compile(
    r"printf '%s<' ([0-9a-f]{32}); printf '%s<' \1 >&2\n(.*?)\n"
    r"status=\$\?; printf '\\n%s' \$status; printf '>%s\\n' \1; printf '\\n0' >&2; printf '>%s\\n' \1 >&2\n",
    re.DOTALL,
)
_BOUNDED = re.compile(r"timeout -k \d+ \d+ (/bin/sh -c .*) (?:</dev/null|<<'[0-9a-f]{32}'\n.*)", re.DOTALL)


@dataclass(frozen=True)
class Ran:
    """A command that the server began.

    Attributes:
        script: Its text.
        begun: When, in seconds since 1970.
        ended: The same; None where it has not ended.
        status: Its exit status.
        changed: Whether a file in `conf_dir` or `state_dir` was another one afterwards, or nginx was restarted.
    """

    script: str
    begun: float
    ended: float | None = None
    status: int | None = None
    changed: bool | None = None


class ServerLog:
    """What a practice server wrote down of its root shells.

    Args:
        host: The server, on which nothing was run yet.
    """

    def __init__(self, host: EmbeddedHost) -> None:
        root = host.practice.root
        self._password = (root / "sudo_password").read_text()
        self.folder = root / "log"
        self.folder.mkdir()
        for name, script in {"sudo": _SUDO, "docker": _DOCKER, "timeout": _TIMEOUT}.items():
            own, path = root / f"bin/{name}-itself", root / "bin" / name
            if path.exists():
                path.rename(own)
            else:
                own = Path(shutil.which(name) or name)
            path.write_text(
                script.format(
                    log=self.folder, own=own, state_dir=host.practice.state_dir, conf_dir=host.practice.conf_dir
                )
            )
            path.chmod(0o755)

    def hold(self, when: Literal["before", "after"], text: str) -> None:
        """Has a command with this text wait, before it is begun or when it has done all that it does."""
        (self.folder / f"hold-{when}").write_text(f"{text}\n")

    def wait(self) -> None:
        """Waits until a command is held."""
        wait_until((self.folder / "held").exists, timeout_s=100)

    def let_go(self) -> None:
        """Lets every command go on."""
        for each in self.folder.glob("hold-*"):
            each.unlink()

    def ran(self) -> tuple[Ran, ...]:
        """Every command that was begun as a process of its own, oldest first."""
        return tuple(map(_ran, sorted(self.folder.glob("*.begun"), key=lambda each: int(each.stem.partition("-")[0]))))

    def at_rest(self) -> bool:
        """Whether every command that was begun has ended."""
        return all(each.ended for each in self.ran())

    def sent(self) -> tuple[str, ...]:
        """What the root shells were sent, a command each, as it stands in its frame; whatever stands in none is given as it is."""
        return tuple(
            text
            for each in self.folder.glob("*.received")
            for text in _frames(each.read_text().removeprefix(f"{self._password}\n"))
        )


def bounded(sent: str) -> str | None:
    """The script of a command that is sent to be run as a process with a time limit; None for what is none."""
    found = _BOUNDED.fullmatch(sent)
    return shlex.split(found[1])[2] if found else None


def _frames(text: str) -> list[str]:
    frames = [each[2] for each in _FRAME.finditer(text)]
    return [*frames, *filter(None, [_FRAME.sub("", text)])]


def _ran(begun: Path) -> Ran:
    started = int(begun.stem.partition("-")[0]) / 1e9
    try:
        at, status, changed = begun.with_suffix(".ended").read_text().split()
    except (OSError, ValueError):
        return Ran(begun.read_text(), started)
    return Ran(begun.read_text(), started, int(at) / 1e9, int(status), changed == "yes")
