"""Step 6: arm the guard, swap the pair, test, activate, look. The guard's script is the one way back."""

import shlex
from collections.abc import Sequence

from runbook_lib.models import ARMING, Certificate, ChangeFolder, Check, Command, Facts, Pair, Verdict, judged
from runbook_lib.parameters import Parameters
from runbook_lib.steps.folder import folder_of

LOOK_S = 60
ACTIVATE_S = 90
RESTORE = """#!/bin/sh
# Puts the pair back that was live before this change; needs sudo and nothing else.
exec sh "$(dirname -- "$0")/guard.sh" restore
"""


def way_back(parameters: Parameters, change_id: str, options: Sequence[str] = ()) -> str:
    """The one line that puts the old pair back by hand, to be typed on the operator's side.

    Args:
        parameters: The run's parameters.
        change_id: The change.
        options: Of ssh, so that it takes the same key, the same pinned host keys and the same way as the run.
    """
    port = () if parameters.ssh_port == 22 else ("-p", str(parameters.ssh_port))  # noqa: PLR2004 - SSH
    login = f"{parameters.user}@{parameters.host}"
    remote = f"sudo sh {folder_of(parameters, change_id)}/restore.sh"
    return f"{shlex.join(('ssh', '-t', *port, *options, login))} {remote}"


def guard_files(
    facts: Facts, parameters: Parameters, change_id: str, *, guard: str, connect: str
) -> tuple[Command, ...]:
    """Puts the guard into the change's folder with all that it must know, and lays an earlier attempt aside.

    Args:
        facts: The server as found, with a staged pair.
        parameters: The run's parameters.
        change_id: The change to install.
        guard: Text of guard.sh.
        connect: Socket address on the server at which nginx answers.
    """
    folder, change = folder_of(parameters, change_id), facts.change(change_id)
    conf = "".join(
        f"{name}={shlex.quote(value)}\n" for name, value in _settings(facts, parameters, change, connect).items()
    )
    aside = Command(
        "lay the attempt that was taken back aside",
        f"cd {folder} && aside=attempt-$(cut -d ' ' -f 1 armed) && mkdir $aside && "
        "for each in armed decided settled guard.log; do [ ! -e $each ] || mv $each $aside; done",
        undo="none needed: it is kept",
    )
    script = (
        f'cd {folder} && cat >guard.sh && {{ printf "PATH=\'%s\'\\n" "$PATH"; printf %s {shlex.quote(conf)}; }} >guard.conf && '
        f"printf %s {shlex.quote(RESTORE)} >restore.sh && sync guard.sh guard.conf restore.sh ."
    )
    undo = f"cd {folder} && rm guard.sh guard.conf restore.sh"
    put = Command("put the guard in place, with what it must know, and restore.sh", script, undo=undo, stdin=guard)
    return (aside, put) if change.armed else (put,)


def plan(facts: Facts, parameters: Parameters, change_id: str) -> tuple[Command, ...]:
    """The commands from the armed guard to the look at what nginx serves; from the first on, the guard is the undo."""
    folder, change = folder_of(parameters, change_id), facts.change(change_id)
    back = f"sh {folder}/guard.sh restore"
    name = shlex.quote(facts.container.name if facts.container else parameters.container)
    activate = f"docker restart {name}" if parameters.activation == "restart" else f"docker exec {name} nginx -s reload"
    # a container that crash-loops runs nothing, not even the test, and between two crashes its status says that it runs
    runs = not parameters.accept_broken_start or any(each.chain for each in facts.served if each.vantage == "server")
    enlist = Command(
        "have systemd put the old pair back at boot, should the server restart before the confirm",
        f"sh {folder}/guard.sh enlist", undo=f"sh {folder}/guard.sh discharge",
    )  # fmt: skip
    test = Command("let nginx test its configuration", f"docker exec {name} nginx -t", undo=back)
    return (
        *([enlist] if facts.systemd else []),
        Command(f"{ARMING}: the old pair comes back in {parameters.rollback_after_s} s unless confirmed",
                f"sh {folder}/guard.sh arm {parameters.rollback_after_s}", undo=back),
        Command("swap the pair", f"sh {folder}/guard.sh swap", undo=back),
        *([test] if runs else []),
        Command(f"{parameters.activation} nginx", activate, undo=back, time_limit_s=ACTIVATE_S),
        Command("look at the container and at what it serves",
                f"sh {folder}/guard.sh look {_leaf(change.staged)} {LOOK_S}", undo=back, time_limit_s=LOOK_S + 30),
    )  # fmt: skip


def checks(parameters: Parameters) -> tuple[Check, ...]:
    """Whether the guard leaves the install its time."""
    longest = ACTIVATE_S + LOOK_S
    return (
        judged(
            "Is there more time to confirm than the slowest install takes?", f"{longest} s or more", f"{parameters.rollback_after_s} s",
            good=parameters.rollback_after_s >= longest, bad=Verdict.WARN, source="time limits of the plan",
            todo="set rollback_after_s higher: where nginx is slow the guard would end a healthy install",
        ),
    )  # fmt: skip


def arms(command: Command) -> bool:
    """Whether a command of the plan arms the guard; from there on the live pair may be touched."""
    return command.purpose.startswith(ARMING)


def _settings(facts: Facts, parameters: Parameters, change: ChangeFolder, connect: str) -> dict[str, str]:
    """What guard.sh must know, so that it works with nobody at the other end."""
    mounts = {mount.source for mount in facts.container.mounts} if facts.container else set()
    in_place = [name for name in ("nginx.key", "nginx.crt") if f"{parameters.conf_dir}/{name}" in mounts]
    return {
        "conf_dir": parameters.conf_dir,
        "container": facts.container.name if facts.container else "",
        "activation": parameters.activation,
        "connect": connect,
        "in_place": " ".join(in_place),
        "before_leaf": _leaf(change.before),
        "before_served": "yes" if change.before.matches and facts.serves(change.before) else "no",
        "before_sums": _sums(change.before),
        "after_sums": _sums(change.staged),
    }


def _leaf(pair: Pair) -> str:
    leaf: Certificate | None = pair.chain[0] if pair.chain else None
    return leaf.sha256 if leaf else "none"


def _sums(pair: Pair) -> str:
    return f"{pair.key_sha256}  nginx.key\n{pair.certificate_sha256}  nginx.crt\n"
