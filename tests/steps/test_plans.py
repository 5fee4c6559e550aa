"""Plans: given these facts, exactly these commands; none where nothing is to do."""

import json
import os
import shlex
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runbook_lib.models import ChangeFolder, Command, Facts, Mount, Pair
from runbook_lib.parameters import Parameters
from runbook_lib.steps import backup, confirm, csr, folder, install, key, stage
from tests.steps.facts import (
    CHANGE,
    CONF_DIR,
    FOLDER,
    LIVE,
    NEW,
    OLD,
    STAGED,
    SUMS,
    TEMPLATE,
    a_container,
    a_server,
    parameters,
    with_change,
)

ELSEWHERE = parameters(conf_dir="/srv/aos-x/nginx/conf.d", state_dir="/srv/state")
BACKUP = f"""set -e; cd {FOLDER}; rm -rf backup.new; mkdir -m 700 backup.new
tar --xattrs -C /etc -cpf backup.new/aos.tar aos
cp --preserve=timestamps /etc/aos/nginx.conf.d/nginx.crt /etc/aos/nginx.conf.d/nginx.key backup.new/; chmod 600 backup.new/*
tar -C /etc -df backup.new/aos.tar
for each in nginx.crt nginx.key; do tar -xOf backup.new/aos.tar aos/nginx.conf.d/$each | cmp - backup.new/$each; done
cd backup.new; sha256sum aos.tar nginx.crt nginx.key >SHA256SUMS; sync ./* .; cd ..
mv -T backup.new backup; sync ."""
BACKED_UP = Command("back up /etc/aos and the pair, and prove the copy against the original", BACKUP, "none needed: the backup is kept", time_limit_s=300)  # fmt: skip


def made(kind: str, options: str) -> tuple[Command, ...]:
    """The command that makes a key."""
    script = (
        f"cd {FOLDER} && umask 077 && rm -f nginx.key.new && openssl genpkey {options} -out nginx.key.new && "
        "sync nginx.key.new && mv -T nginx.key.new nginx.key"
    )
    return (Command(f"make a new {kind} key", script, f"rm {FOLDER}/nginx.key", time_limit_s=180),)


KEYS = {
    "rsa-2048": "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    "rsa-3072": "-algorithm RSA -pkeyopt rsa_keygen_bits:3072",
    "rsa-4096": "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
    "ec-p256": "-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:named_curve",
    "ec-p384": "-algorithm EC -pkeyopt ec_paramgen_curve:P-384 -pkeyopt ec_param_enc:named_curve",
}
CSR = Command(
    "make the CSR",
    f"cd {FOLDER} && openssl req -new -sha256 -key nginx.key -config /dev/stdin -out nginx.csr.new && sync nginx.csr.new && mv -T nginx.csr.new nginx.csr",
    f"rm {FOLDER}/nginx.csr",
    TEMPLATE,
)
STAGE = Command(
    "stage the certificate beside its key",
    f"cd {FOLDER} && cat >nginx.crt.new && sync nginx.crt.new && mv -T nginx.crt.new nginx.crt && sync .",
    f"rm {FOLDER}/nginx.crt",
    "PEM",
)
RECORDED = Command(
    "stage the recorded pair",
    f"cd {FOLDER} && cp /x/backup/nginx.key /x/backup/nginx.crt . && chmod 600 nginx.key nginx.crt && sync nginx.key nginx.crt .",
    f"rm {FOLDER}/nginx.key {FOLDER}/nginx.crt",
)
CONFIRM = Command("keep the new pair, disarm the guard", f"sh {FOLDER}/guard.sh confirm", f"sh {FOLDER}/guard.sh restore", time_limit_s=90)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What a step's plan gave, and what it should be."""

    planned: tuple[Command, ...]
    wanted: tuple[Command, ...]


FRESH = a_server()
PLANS: dict[str, Case] = {
    "back up, nothing there": Case(backup.plan(FRESH, parameters(), CHANGE), (BACKED_UP,)),
    "back up, an unproven attempt there": Case(backup.plan(with_change(backup_sums={}), parameters(), CHANGE), (BACKED_UP,)),
    "back up, done before": Case(backup.plan(with_change(), parameters(), CHANGE), ()),
    "back up, done before, live pair is another": Case(backup.plan(with_change(before=Pair("a", "b")), parameters(), CHANGE), ()),
    "back up, done for another change": Case(backup.plan(with_change(change_id="another"), parameters(), CHANGE), (BACKED_UP,)),
    **{f"make key, {kind}": Case(key.plan(FRESH, parameters(key_type=kind), CHANGE), made(kind, options)) for kind, options in KEYS.items()},
    "make key, done before": Case(key.plan(with_change(), parameters(), CHANGE), ()),
    "make key, done before as another kind": Case(key.plan(with_change(), parameters(key_type="rsa-2048"), CHANGE), ()),
    "make key, unreadable key there": Case(key.plan(with_change(staged=Pair(key_sha256="a" * 64)), parameters(), CHANGE), ()),
    "make CSR": Case(csr.plan(with_change(csr=""), parameters(), CHANGE), (CSR,)),
    "make CSR, done before": Case(csr.plan(with_change(), parameters(), CHANGE), ()),
    "stage a certificate": Case(stage.plan(parameters(), CHANGE, "PEM"), (STAGE,)),
    "stage a recorded pair": Case(stage.plan_recorded(parameters(), CHANGE, "/x/backup"), (RECORDED,)),
    "confirm": Case(confirm.plan(parameters(), CHANGE), (CONFIRM,)),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANS.values(), ids=PLANS)
def test_exactly_these_commands(case: Case) -> None:
    """Purpose, script, undo, standard input and time limit, letter by letter."""
    assert case.planned == case.wanted


def test_the_backup_is_of_the_folder_above_conf_dir() -> None:
    """Elsewhere than in /etc/aos, too."""
    (command,) = backup.plan(FRESH, ELSEWHERE, CHANGE)
    assert "tar --xattrs -C /srv/aos-x -cpf backup.new/aos.tar nginx\n" in command.script
    assert "aos.tar nginx/conf.d/$each | cmp" in command.script
    assert command.script.startswith(f"set -e; cd /srv/state/changes/{CHANGE};")


def test_opening_a_change_writes_what_is_asked_for() -> None:
    """The folder is new or the command fails; what was asked stands in it as JSON, for later runs to be held against."""
    (command,) = folder.plan(a_server(), parameters(organization="Käse"), CHANGE, kind="replace", supersedes=())
    assert command.purpose == "open the change: its folder, and what is asked for"
    assert command.undo == f"rm -r {FOLDER}"
    assert command.script == (
        "install -d -m 700 /var/lib/apstra-runbook /var/lib/apstra-runbook/changes && "
        f"mkdir -m 700 {FOLDER} && cat >{FOLDER}/change.json && sync {FOLDER}"
    )
    assert json.loads(command.stdin) == {
        "kind": "replace", "change_id": CHANGE, "host": "apstra.example.com", "nginx.conf": a_server().nginx_conf,
        "request": {
            "common_name": "apstra.example.com", "organization": "Käse", "organizational_unit": "", "locality": "", "state": "", "country": "", "email": "",
            "san": ["DNS:apstra.example.com", "IP:192.0.2.10"], "key_type": "ec-p256", "validity_days": None,
        },
    }  # fmt: skip


def test_opening_a_restore_asks_for_no_certificate() -> None:
    """A restore has no request."""
    (command,) = folder.plan(a_server(), parameters(common_name=""), CHANGE, kind="restore", supersedes=())
    assert json.loads(command.stdin) == {
        "kind": "restore", "change_id": CHANGE, "host": "apstra.example.com", "nginx.conf": a_server().nginx_conf,
    }  # fmt: skip


def test_superseded_changes_are_closed_first() -> None:
    """One command an open change, before the new folder; an armed one is not closed, and one decided meanwhile fails."""
    *closing, opening = folder.plan(a_server(), parameters(), CHANGE, kind="replace", supersedes=("a-1", "b-2"))
    assert opening.purpose.startswith("open the change")
    changes = "/var/lib/apstra-runbook/changes"
    assert closing == [
        Command(
            f"close the open change {each}, superseded",
            f"cd {changes}/{each} && [ ! -e armed ] && echo superseded >.decided && ln .decided decided; status=$?; rm -f .decided; exit $status",
            f"rm {changes}/{each}/decided",
        )
        for each in ("a-1", "b-2")
    ]


LOOK = NEW.certificate.sha256
BACK = f"sh {FOLDER}/guard.sh restore"


def activated(purpose: str, script: str, name: str = "aos_nginx_1", seconds: int = 300) -> tuple[Command, ...]:
    """The commands of step 6 with one way to activate."""
    return (
        Command(f"arm the guard: the old pair comes back in {seconds} s unless confirmed", f"sh {FOLDER}/guard.sh arm {seconds}", BACK),
        Command("swap the pair", f"sh {FOLDER}/guard.sh swap", BACK),
        Command("let nginx test its configuration", f"docker exec {name} nginx -t", BACK),
        Command(purpose, script, BACK, time_limit_s=90),
        Command("look at the container and at what it serves", f"sh {FOLDER}/guard.sh look {LOOK} 60", BACK, time_limit_s=90),
    )  # fmt: skip


INSTALLS: dict[str, tuple[Facts, Parameters, tuple[Command, ...]]] = {
    "restart": (with_change(), parameters(), activated("restart nginx", "docker restart aos_nginx_1")),
    "reload": (with_change(), parameters(activation="reload"), activated("reload nginx", "docker exec aos_nginx_1 nginx -s reload")),
    "another container": (
        a_server(container=a_container(name="aos-nginx-1")).with_change(with_change().change(CHANGE)),
        parameters(rollback_after_s=60), activated("restart nginx", "docker restart aos-nginx-1", "aos-nginx-1", 60),
    ),
    "no container found, one named": (
        a_server(container=None).with_change(with_change().change(CHANGE)),
        parameters(container="aos_nginx_9"), activated("restart nginx", "docker restart aos_nginx_9", "aos_nginx_9"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INSTALLS.values(), ids=INSTALLS)
def test_the_guard_is_armed_before_anything_else(case: tuple[Facts, Parameters, tuple[Command, ...]]) -> None:
    """Arm, swap, test, activate, look: in this order, each with the same undo."""
    facts, given, wanted = case
    assert install.plan(facts, given, CHANGE) == wanted


def test_no_look_for_a_certificate_that_is_not_there() -> None:
    """Without a staged certificate the look can never succeed, so that the guard puts the old pair back."""
    assert f"look none {install.LOOK_S}" in install.plan(a_server(), parameters(), CHANGE)[-1].script


SETTINGS = (
    "conf_dir",
    "container",
    "activation",
    "connect",
    "in_place",
    "before_leaf",
    "before_served",
    "before_sums",
    "after_sums",
)


def settings_of(facts: Facts, given: Parameters | None = None) -> dict[str, str]:
    """What guard.conf says to the shell that reads it, as the command writes it."""
    chosen = given or parameters()
    *_, put = install.guard_files(facts, chosen, CHANGE, guard="GUARD\n", connect="127.0.0.1:443")
    with tempfile.TemporaryDirectory() as place:
        script = put.script.replace(folder.folder_of(chosen, CHANGE), place)
        subprocess.run(["sh", "-uec", script], input=put.stdin, text=True, check=True)
        assert Path(place, "guard.sh").read_text() == "GUARD\n"
        assert Path(place, "restore.sh").read_text() == install.RESTORE
        assert Path(place, "guard.conf").read_text().startswith(f"PATH='{os.environ['PATH']}'\n")
        shown = "".join(f'printf "%s\\0" "${name}"\n' for name in SETTINGS)
        ended = subprocess.run(
            ["sh", "-uc", f". {place}/guard.conf\n{shown}"], text=True, capture_output=True, check=True
        )
    return dict(zip(SETTINGS, ended.stdout.split("\0"), strict=False))


def test_the_guard_is_told_all_that_it_must_know() -> None:
    """Where, what nginx is, how it is activated, and both pairs by their hashes in the form of sha256sum."""
    assert settings_of(with_change()) == {
        "conf_dir": CONF_DIR, "container": "aos_nginx_1", "activation": "restart", "connect": "127.0.0.1:443", "in_place": "",
        "before_leaf": OLD.certificate.sha256, "before_served": "yes",
        "before_sums": f"{LIVE.key_sha256}  nginx.key\n{LIVE.certificate_sha256}  nginx.crt\n",
        "after_sums": f"{STAGED.key_sha256}  nginx.key\n{STAGED.certificate_sha256}  nginx.crt\n",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a'b", "$(id)", "a b; id"])
def test_the_guard_takes_foreign_text_as_text(name: str) -> None:
    """A container's name from docker is quoted: the shell that reads guard.conf runs nothing of it."""
    facts = a_server(container=a_container(name=name)).with_change(with_change().change(CHANGE))
    assert settings_of(facts)["container"] == name
    assert f"docker restart {shlex.quote(name)}" in [each.script for each in install.plan(facts, parameters(), CHANGE)]


MOUNTS: dict[str, tuple[tuple[str, ...], str]] = {
    "the folder": ((CONF_DIR,), ""),
    "a folder above": (("/etc/aos",), ""),
    "both files": ((f"{CONF_DIR}/nginx.crt", f"{CONF_DIR}/nginx.key"), "nginx.key nginx.crt"),
    "one file": ((CONF_DIR, f"{CONF_DIR}/nginx.crt"), "nginx.crt"),
    "another file": ((CONF_DIR, f"{CONF_DIR}/nginx.conf"), ""),
}


@pytest.mark.parametrize("case", MOUNTS.values(), ids=MOUNTS)
def test_a_file_that_is_itself_a_mount_is_written_in_place(case: tuple[tuple[str, ...], str]) -> None:
    """A rename over it would leave the container with the old one."""
    sources, in_place = case
    container = a_container(mounts=tuple(Mount("bind", each, f"/inside{each}") for each in sources))
    facts = a_server(container=container).with_change(with_change().change(CHANGE))
    assert settings_of(facts)["in_place"] == in_place


def test_the_guards_files() -> None:
    """One command puts all three there, one line takes them away; restore.sh is for a person with sudo alone."""
    (put,) = install.guard_files(with_change(), parameters(), CHANGE, guard="GUARD\n", connect="[::1]:443")
    assert put.stdin == "GUARD\n"
    assert put.undo == f"cd {FOLDER} && rm guard.sh guard.conf restore.sh"
    assert install.RESTORE.startswith("#!/bin/sh\n")
    assert install.RESTORE.endswith('exec sh "$(dirname -- "$0")/guard.sh" restore\n')


@pytest.mark.parametrize(("decided", "aside"), {"": False, "rolled-back": True, "confirmed": True}.items())
def test_an_attempt_that_was_taken_back_is_laid_aside_first(decided: str, *, aside: bool) -> None:
    """Its log is kept, and only then can the guard be armed anew: after a rollback, and after restore.sh on a confirmed change."""
    commands = install.guard_files(with_change(decided=decided, armed=bool(decided)), parameters(), CHANGE, guard="G", connect="")  # fmt: skip
    assert (commands[0].purpose == "lay the attempt that was taken back aside") is aside
    assert len(commands) == 1 + aside
    if aside:
        assert "for each in armed decided settled guard.log" in commands[0].script


WAYS_BACK = {
    "usual": (parameters(), f"ssh -t admin@apstra.example.com sudo sh {FOLDER}/restore.sh"),
    "another port and user": (parameters(ssh_port=2222, user="ops"), f"ssh -t -p 2222 ops@apstra.example.com sudo sh {FOLDER}/restore.sh"),
    "IPv6": (parameters(host="2001:db8::1"), f"ssh -t admin@2001:db8::1 sudo sh {FOLDER}/restore.sh"),
}  # fmt: skip


@pytest.mark.parametrize("case", WAYS_BACK.values(), ids=WAYS_BACK)
def test_the_way_back_is_one_line_to_type(case: tuple[Parameters, str]) -> None:
    """It needs ssh and sudo on the operator's side and nothing of ours."""
    given, line = case
    assert install.way_back(given, CHANGE) == line
    login = f"{given.user}@"
    assert install.way_back(given, CHANGE, ("-F", "a file", "-i", "key")) == line.replace(
        login, f"-F 'a file' -i key {login}"
    )


def test_systemd_is_told_only_where_it_runs_docker() -> None:
    """Then it is a command of the plan, before the guard is armed, with its undo."""
    first, *_ = install.plan(replace(with_change(), systemd=True), parameters(), CHANGE)
    assert (first.script, first.undo) == (f"sh {FOLDER}/guard.sh enlist", f"sh {FOLDER}/guard.sh discharge")
    assert install.arms(install.plan(with_change(), parameters(), CHANGE)[0])


EVERY = [
    *(command for case in PLANS.values() for command in case.planned),
    *folder.plan(a_server(), parameters(), CHANGE, kind="replace", supersedes=("a",)),
    *install.guard_files(with_change(decided="rolled-back", armed=True), parameters(), CHANGE, guard="G", connect=""),
    *install.plan(replace(with_change(), systemd=True), parameters(), CHANGE),
]


@pytest.mark.parametrize("command", EVERY, ids=[each.purpose for each in EVERY])
def test_every_command_says_what_it_is_for_and_how_it_is_undone(command: Command) -> None:
    """A row of the plan with an empty cell is none that can be approved; no failure is hidden by `|| true`."""
    assert command.purpose
    assert command.undo
    assert 0 < command.time_limit_s <= 300
    assert "|| true" not in command.script
    assert "|| :" not in command.script


@pytest.mark.parametrize("command", EVERY, ids=[each.purpose for each in EVERY])
def test_no_template_and_no_new_file_lies_in_conf_dir(command: Command) -> None:
    """Commands read conf_dir; only guard.sh, which is tested by itself, writes there."""
    assert f">{CONF_DIR}" not in command.script
    assert not any(f"{verb} {FOLDER}" in command.script and CONF_DIR in command.script for verb in ("mv", "cp"))
    assert "openssl.cnf" not in command.script


def test_facts_of_no_change_plan_everything() -> None:
    """Where the server has no such change, every step of a request has something to do."""
    assert a_server().change(CHANGE) == ChangeFolder(CHANGE)
    assert all((
        backup.plan(FRESH, parameters(), CHANGE), key.plan(FRESH, parameters(), CHANGE), csr.plan(FRESH, parameters(), CHANGE),
    ))  # fmt: skip
    assert set(SUMS) == set(backup.NAMES)
