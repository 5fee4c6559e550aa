"""What must be true of a server before anything on it changes."""

import datetime as dt
import math

from runbook_lib.models import Check, Facts, State, Verdict, judged
from runbook_lib.parameters import Parameters, inside_window
from runbook_lib.state import same_files, state_of

MOST_SKEW_S = 300
ROOM = 32 << 20  # bytes left free beside the backup
_PAIR = ("nginx.crt", "nginx.key")


def checks(facts: Facts, parameters: Parameters) -> tuple[Check, ...]:
    """Every judgement over the server as found; none stops the others."""
    return (
        *_system(facts),
        *_container(facts, parameters),
        *_files(facts, parameters),
        *_place(facts, parameters),
        *_served(facts, parameters),
        *_drift(facts),
        *window(facts, parameters),
    )


def _system(facts: Facts) -> tuple[Check, ...]:
    version = facts.openssl.split()[1:2]
    known = bool(version) and version[0].startswith(("1.1.1", "3."))
    return (
        judged(
            "Does the root shell run as root?", "user id 0", f"user id {facts.root_uid}",
            good=facts.root_uid == 0, bad=Verdict.WARN, source="design: the lab alone runs without root",
            todo="on a real server log in as a user whom sudo makes root",
        ),
        judged(
            "Has the server the programs that the commands need?", "all of them", ", ".join(facts.missing_tools) or "all of them",
            good=not facts.missing_tools, source="the commands of the plan", todo="install what is named (coreutils, util-linux, openssl, docker)",
        ),
        judged(
            "Is its OpenSSL one that the commands are known to work with?", "1.1.1 or 3.x", facts.openssl or "unknown",
            good=known, bad=Verdict.WARN, source="Ubuntu 18.04 to 22.04", todo="compare the CSR with special care",
        ),
        judged(
            "Do its clock and ours agree?", f"within {MOST_SKEW_S} s", f"{facts.clock_skew_s:+.1f} s",
            good=abs(facts.clock_skew_s) <= MOST_SKEW_S, bad=Verdict.WARN, source="RFC 5280, section 4.1.2.5",
            todo="set the clocks: a new certificate may be not valid yet on one side",
        ),
    )  # fmt: skip


def _container(facts: Facts, parameters: Parameters) -> tuple[Check, ...]:
    container, names = facts.container, ", ".join(each.name for each in facts.containers) or "none"
    if container is None:
        worker = any("node_keeper" in each.name for each in facts.containers)
        todo = (
            "name the controller: this is a worker node, which serves no web UI" if worker
            else "set `container` to the nginx container's name; `docker ps -a` on the server lists them"
        )  # fmt: skip
        return (
            judged("Is this an Apstra controller with one nginx container?", "one nginx container",
                   f"{'worker node, ' if worker else ''}containers: {names}", good=False, source="vendor's step 6", todo=todo),
        )  # fmt: skip
    mounts = container.mounts_of(parameters.conf_dir)
    return (
        judged(
            "Is this an Apstra controller with one nginx container?", "running", f"{container.name} is {container.status}",
            good=container.status == "running", source="vendor's step 6",
            todo="bring the container up first, or set accept_broken_start to go on as it is",
            bad=Verdict.WARN if parameters.accept_broken_start else Verdict.FAIL,
        ),
        judged(
            "Does the container see conf_dir?", f"a mount of {parameters.conf_dir}",
            ", ".join(f"{each.source} on {each.destination}" for each in mounts) or "no mount",
            good=bool(mounts), source="docker inspect", todo="correct conf_dir: files put there would not reach nginx",
        ),
    )  # fmt: skip


def _files(facts: Facts, parameters: Parameters) -> tuple[Check, ...]:
    entries = {each.name: each for each in facts.conf_files}
    odd = [name for name in _PAIR if name not in entries or entries[name].kind != "f"]
    stray = sorted(name for name in entries if name.endswith(".conf") and name != "nginx.conf")
    key = entries.get("nginx.key")
    loose = key is not None and key.kind == "f" and int(key.mode, 8) & 0o077
    broken = Verdict.WARN if parameters.accept_broken_start else Verdict.FAIL
    there = judged(
        "Are certificate and key regular files?", "nginx.crt and nginx.key", ", ".join(odd) + " missing or no file" if odd else "both",
        good=not odd, source="vendor's step 2", todo="correct conf_dir, or put the files there",
    )  # fmt: skip
    if odd == list(_PAIR):
        return (there,)  # all else would follow from that
    checks = [
        there,
        judged(
            "Do the live key and certificate match?", "the same public key", "the same" if facts.live.matches else "different or unreadable",
            good=facts.live.matches, bad=broken, source="vendor's step 5",
            todo="the way back would not serve; set accept_broken_start to go on all the same",
        ),
        judged(
            "Would nginx load nothing but its own configuration?", "nginx.conf alone", ", ".join(stray) or "nginx.conf alone",
            good=not stray, bad=Verdict.WARN, source="vendor's step 3", todo="look at the files named: nginx loads every *.conf at start",
        ),
        judged(
            "Is the live key closed to other users?", "no access for group and others", f"mode {key.mode}" if key else "no key",
            good=not loose, bad=Verdict.WARN, source="vendor's step 2", todo="chmod 600 it; this run keeps the mode as it is",
        ),
    ]  # fmt: skip
    return tuple(checks)


def _place(facts: Facts, parameters: Parameters) -> tuple[Check, ...]:
    needed = facts.aos_bytes + ROOM
    free = min(facts.free_bytes.values(), default=0)
    unconfirmed = [each for each in facts.changes if state_of(each, facts.live) is State.UNCONFIRMED]
    gone = [each.change_id for each in unconfirmed if not each.watched]
    wait = "wait until its guard has put the old pair back, then run again"
    settle = f"the guard of {', '.join(gone)} is gone: run with apply: true, which first puts the old pair back, or by hand its restore.sh"
    return (
        judged(
            "Is state_dir in a safe place?", "root's, mode 700, no link in its path", "; ".join(facts.state_dir_faults) or "yes",
            good=not facts.state_dir_faults, source="design, invariant 12", todo=f"mend {parameters.state_dir}, or name another state_dir",
        ),
        judged(
            "Is there room for the backup?", f"{needed >> 20} MiB free", f"{free >> 20} MiB free",
            good=free >= needed, source="LVM volumes of / and /var", todo="free some space on the file systems of state_dir and conf_dir",
        ),
        judged(
            "Is no other change waiting for its confirm?", "none", ", ".join(each.change_id for each in unconfirmed) or "none",
            good=not unconfirmed, source="design: commit confirmed", todo=settle if gone else wait,
        ),
    )  # fmt: skip


def _served(facts: Facts, parameters: Parameters) -> tuple[Check, ...]:
    seen = [each for each in facts.served if each.vantage == "server"]
    leaf = facts.live.chain[0] if facts.live.chain else None
    if not {each.name for each in facts.conf_files if each.kind == "f"} & set(_PAIR):
        return ()
    live = leaf.pem.strip() if leaf else ""
    failed = [
        f"{each.address}: {each.error or 'another certificate'}"
        for each in seen
        if not each.chain or each.chain[0].strip() != live
    ]
    same = bool(seen) and not failed
    found = ("; ".join(failed) + _written_later(facts) if failed else "yes") if seen else "nothing listens"
    broken = Verdict.WARN if parameters.accept_broken_start else Verdict.FAIL
    days = (leaf.not_after - facts.now) / dt.timedelta(days=1) if leaf else 0.0
    return (
        judged(
            "Does nginx serve the live certificate?", "yes, at each service address", found,
            good=same, bad=broken, source="vendor's step 7",
            todo="restart nginx or look at its log first; set accept_broken_start to go on as it is",
        ),
        judged(
            "How long is the live certificate still good?", "30 days or more", f"{math.floor(days)} days",
            good=days >= 30, bad=Verdict.WARN, source="RFC 5280, section 4.1.2.5", todo="replace it now",  # noqa: PLR2004
        ),
    )  # fmt: skip


def _written_later(facts: Facts) -> str:
    """Says so where the pair was written after nginx had started, so that it cannot know it."""
    started = facts.container.started if facts.container else ""
    written = max((each.written for each in facts.conf_files if each.name in _PAIR), default=0.0)
    try:
        # docker writes nanoseconds, which no datetime takes
        later = dt.datetime.fromtimestamp(written, dt.UTC) > dt.datetime.fromisoformat(f"{started[:19]}+00:00")
    except ValueError:
        return ""
    return "; the pair was written after nginx was started" if later else ""


def _drift(facts: Facts) -> tuple[Check, ...]:
    """Whether what the last change left is still there: upgrades and people put other files in its place."""
    last = next((name for name, _, decided in reversed(facts.listed) if decided == "confirmed"), "")
    change = facts.change(last)
    if not last or not change.staged.chain:
        return ()
    as_left = same_files(change.staged, facts.live)
    leaf = facts.live.chain[0] if facts.live.chain else None
    found = (
        "the pair from before it"
        if same_files(change.before, facts.live)
        else f"another pair, {leaf.subject if leaf else 'unreadable'}"
    )
    judgements = [
        judged(
            "Is the live pair the one that the last change put there?", f"as change {last} left it", "the same" if as_left else found,
            good=as_left, bad=Verdict.WARN, source="upgrades bring the factory's pair back",
            todo=f"if that was not on purpose: runbook restore with change_id={last} and pair=installed puts it back",
        ),
    ]  # fmt: skip
    if change.nginx_conf:
        judgements.append(judged(
            "Is nginx.conf the one that the last change found?", f"as at change {last}", "the same" if change.nginx_conf == facts.nginx_conf else "another",
            good=change.nginx_conf == facts.nginx_conf, bad=Verdict.WARN, source="upgrades replace it",
            todo="read it: what an upgrade or a person changed there is not undone by a restore",
        ))  # fmt: skip
    return tuple(judgements)


def window(facts: Facts, parameters: Parameters) -> tuple[Check, ...]:
    """Whether the facts were read inside the change window, where there is one."""
    if not parameters.not_before and not parameters.not_after:
        return ()
    return (
        judged(
            "Is now inside the change window?", f"{parameters.not_before or 'any time'} to {parameters.not_after or 'any time'}",
            facts.now.isoformat(timespec="seconds"), good=inside_window(parameters, facts.now), source="not_before, not_after",
            todo="run again inside the window", bad=Verdict.FAIL if parameters.apply else Verdict.WARN,
        ),
    )  # fmt: skip
