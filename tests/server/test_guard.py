"""The guard: one way back, whatever fails, whoever dies, and nothing left over."""

import asyncio
import contextlib
import hashlib
import os
import shlex
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runbook_lib.models import Command
from runbook_lib.server.shell import ShellLost
from runbook_lib.steps.install import RESTORE
from tests.embedded import EmbeddedHost
from tests.realserver.host import RealHost
from tests.server.hosts import cut, root_shell
from tests.servers import FileState, ServerUnderTest, wait_until
from tests.ssh_client import run_as_root

GUARD = Path(__file__).parents[2] / "runbook_lib/server/guard.sh"
ServerWith = Callable[..., ServerUnderTest]
PAIR = ("nginx.key", "nginx.crt")
DECIDED_BEFORE, NOT_RESTORED = 3, 7


class Guarded:
    """A change's folder on a server, with a backup of the live pair, a new pair, and the guard."""

    def __init__(self, server: ServerUnderTest, **settings: str) -> None:
        self.server = server
        given = server.parameters
        self.conf_dir = given["conf_dir"]
        self.folder = f"{given['state_dir']}/changes/change"
        self.timer = f"{self.folder}/[g]uard.sh timer"  # the bracket keeps the pattern from finding itself
        self.before = server.snapshot()
        self.old = fingerprint(server.served())
        self.run(
            f"umask 077; mkdir -p {self.folder}/backup; cd {self.folder}; "
            f"cp {self.conf_dir}/nginx.key {self.conf_dir}/nginx.crt backup/; echo tar >backup/aos.tar; "
            "cd backup; sha256sum aos.tar nginx.crt nginx.key >SHA256SUMS; cd ..; "
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=new "
            "-keyout nginx.key -out nginx.crt"
        )
        for name, text in (("guard.sh", GUARD.read_text()), ("restore.sh", RESTORE)):
            self.path(name).write_text(text)
        self.settings = {
            "PATH": self.run("echo $PATH").strip(),
            "conf_dir": self.conf_dir,
            "container": "aos_nginx_1",
            "activation": "restart",
            "connect": f"{given['host']}:{given['https_port']}",
            "in_place": "",
            "before_leaf": self.old,
            "before_served": "yes",
            "before_sums": self.sums("backup"),
        } | settings
        self.stage()

    def stage(self, certificate: str = "") -> None:
        """Writes down what is staged, after it was replaced by another text where one is given."""
        if certificate:
            self.path("nginx.crt").write_text(certificate)
        else:
            self.new = fingerprint(self.path("nginx.crt").read_text())
        settings = self.settings | {"after_sums": self.sums(".")}
        self.path("guard.conf").write_text(
            "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        )

    def sums(self, folder: str) -> str:
        return "".join(
            f"{hashlib.sha256(self.path(f'{folder}/{name}').read_bytes()).hexdigest()}  {name}\n" for name in PAIR
        )

    def path(self, name: str) -> Path:
        return self.server.path(f"{self.folder}/{name}")

    def run(self, script: str) -> str:
        done = self.server.run(script, timeout_s=90)
        assert done.returncode == 0, (script, done)
        return done.stdout

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Runs the guard: its status, and what it said."""
        done = self.server.run(shlex.join(["sh", f"{self.folder}/guard.sh", *arguments]), timeout_s=90)
        return done.returncode, done.stdout + done.stderr

    def ok(self, *arguments: str) -> str:
        status, said = self(*arguments)
        assert status == 0, said
        return said

    def install(self, seconds: int = 60) -> None:
        """Arms, swaps and restarts: the new pair is served, unconfirmed."""
        self.ok("arm", str(seconds))
        self.ok("swap")
        self.restart()
        self.ok("look", self.new, "20")

    def restart(self) -> None:
        self.run("docker restart aos_nginx_1")

    @property
    def decided(self) -> str:
        file = self.path("decided")
        return file.read_text().strip() if file.exists() else ""

    @property
    def live(self) -> str:
        """Whose files the live ones are: `old`, `new`, or `other`."""
        now = {name: state.sha256 for name, state in self.server.snapshot().items() if name in PAIR}
        if now == {name: self.before[name].sha256 for name in PAIR}:
            return "old"
        staged = {name: hashlib.sha256(self.path(name).read_bytes()).hexdigest() for name in PAIR}
        return "new" if now == staged else "other"

    def served(self) -> str:
        with contextlib.suppress(OSError):
            return {self.old: "old", self.new: "new"}.get(fingerprint(self.server.served()), "other")
        return "nothing"

    def assert_as_before(self) -> None:
        """The old pair is live and served; names, owners, modes and all other files are what they were."""
        assert (self.live, self.served()) == ("old", "old")
        assert shape(self.server.snapshot()) == shape(self.before)

    def timers(self) -> int:
        return int(self.server.run(f"pgrep -cf '{self.timer}'").stdout or 0)


def fingerprint(pem: str) -> str:
    """SHA-256 over a certificate's DER, as the guard writes it."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).hexdigest()


def shape(files: dict[str, FileState]) -> dict[str, tuple[str, str, str]]:
    """All but the times."""
    return {name: (state.sha256, state.mode, state.owner) for name, state in files.items()}


@pytest.fixture
def guarded(server: ServerUnderTest) -> Guarded:
    """A guarded change on either server."""
    return Guarded(server)


@pytest.fixture
def on_real(real: RealHost) -> Guarded:
    """A guarded change on the real server."""
    return Guarded(real)


@pytest.fixture
def on_practice(practice: EmbeddedHost) -> Guarded:
    """A guarded change on the embedded server."""
    return Guarded(practice)


# the way forth


def test_a_confirmed_pair_stays(guarded: Guarded) -> None:
    """Arm, swap, restart, look, confirm: the new pair is served, the timer ends by itself and never acts."""
    guarded.install(seconds=2)
    assert guarded.timers() == 1
    assert "stays" in guarded.ok("confirm")
    wait_until(lambda: guarded.timers() == 0, timeout_s=5)
    time.sleep(1.5)
    assert (guarded.decided, guarded.live, guarded.served()) == ("confirmed", "new", "new")
    assert guarded.server.snapshot().keys() == guarded.before.keys()


def test_what_is_not_the_pair_is_not_touched(guarded: Guarded) -> None:
    """nginx.conf and every other file keep bytes, mode, owner and even their times."""
    guarded.install()
    after = guarded.server.snapshot()
    assert after.keys() == guarded.before.keys()
    for name in after.keys() - set(PAIR):
        assert after[name] == guarded.before[name]


def test_owner_mode_and_attributes_stay(guarded: Guarded) -> None:
    """Of the live files, not of the staged ones: after the swap, and after the way back."""
    files = {name: guarded.server.path(f"{guarded.conf_dir}/{name}") for name in PAIR}
    # nobody but root can give a file away, or set an attribute that root alone may set
    owner, attribute = (
        ((1234, 2345), "trusted.note") if os.geteuid() == 0 else ((os.geteuid(), os.getegid()), "user.note")
    )
    for name, file in files.items():
        os.chown(file, *owner)
        file.chmod(0o640 if name == "nginx.key" else 0o604)
        os.setxattr(file, attribute, name.encode())
    guarded.ok("arm", "60")
    for act, expected in (("swap", "new"), ("roll-back because", "old")):
        guarded.ok(*act.split())
        assert guarded.live == expected
        for name, file in files.items():
            state = guarded.server.snapshot()[name]
            assert (state.owner, state.mode[-3:]) == ("{}:{}".format(*owner), "640" if name == "nginx.key" else "604")
            assert os.getxattr(file, attribute) == name.encode()


def test_files_are_renamed_over_in_a_mounted_folder(guarded: Guarded) -> None:
    """Nobody ever sees half a file: each is written aside and takes the old one's place at once."""
    inodes = {name: guarded.server.path(f"{guarded.conf_dir}/{name}").stat().st_ino for name in PAIR}
    guarded.ok("arm", "60")
    guarded.ok("swap")
    for name, inode in inodes.items():
        assert guarded.server.path(f"{guarded.conf_dir}/{name}").stat().st_ino != inode


def test_files_that_are_mounts_are_written_in_place(server_with: ServerWith) -> None:
    """A file that is itself a mount keeps its inode, so that the container sees the new bytes, and the old ones again."""
    guarded = Guarded(server_with(mount="files"), in_place="nginx.key nginx.crt")
    inodes = {name: guarded.server.path(f"{guarded.conf_dir}/{name}").stat().st_ino for name in PAIR}
    inside = "docker exec aos_nginx_1 cat /etc/nginx/conf.d/nginx.crt"
    guarded.ok("arm", "60")
    guarded.ok("swap")
    assert guarded.run(inside) == guarded.path("nginx.crt").read_text()
    guarded.restart()
    guarded.ok("look", guarded.new, "20")
    guarded.ok("roll-back", "because")
    assert guarded.run(inside) == guarded.path("backup/nginx.crt").read_text()
    assert {name: guarded.server.path(f"{guarded.conf_dir}/{name}").stat().st_ino for name in PAIR} == inodes
    guarded.assert_as_before()


def test_a_look_waits_for_the_certificate(guarded: Guarded) -> None:
    """The right one is seen at once; another one until the time is over, and then it is said what was served."""
    guarded.ok("look", guarded.old, "5")
    status, said = guarded("look", guarded.new, "1")
    assert status == 1
    assert guarded.old in said
    assert "running" in said


def test_a_look_sees_a_crash_loop(guarded: Guarded) -> None:
    """`docker restart` succeeds with a broken pair; the look does not wait its time out, and the way back works."""
    guarded.stage("broken\n")
    guarded.ok("arm", "60")
    guarded.ok("swap")
    guarded.restart()
    begun = time.monotonic()
    status, said = guarded("look", guarded.new, "60")
    assert status == 1
    assert "restarting" in said
    assert time.monotonic() - begun < 20
    guarded.ok("roll-back", "it crash-loops")
    guarded.assert_as_before()


# the way back


def test_without_a_confirm_the_old_pair_comes_back_by_itself(guarded: Guarded) -> None:
    """Nobody calls: after its seconds the server has the old pair in place and serves it."""
    begun = time.monotonic()
    guarded.install(seconds=3)
    assert guarded.served() == "new"
    wait_until(lambda: guarded.decided == "rolled-back")
    assert time.monotonic() - begun >= 2
    wait_until(lambda: guarded.served() == "old" and guarded.timers() == 0)
    guarded.assert_as_before()
    assert "no confirm within 3 s" in guarded.path("guard.log").read_text()
    status, said = guarded("confirm")
    assert (status, "rolled-back" in said) == (DECIDED_BEFORE, True)


def test_a_rollback_that_died_half_way_is_done_by_the_timer(guarded: Guarded) -> None:
    """Decided is not done: whoever decided may have been killed before the old pair was back."""
    guarded.install()
    guarded.run(f"cd {guarded.folder}; echo rolled-back >decided")
    wait_until(lambda: guarded.served() == "old" and guarded.timers() == 0)
    guarded.assert_as_before()
    assert guarded.path("settled").exists()


def other_change(guarded: Guarded, name: str, word: str) -> Path:
    """Another change on the same server, decided."""
    folder = guarded.server.path(str(Path(guarded.folder).with_name(name)))
    folder.mkdir(exist_ok=True)
    (folder / "decided").write_text(f"{word}\n")
    return folder / "decided"


def test_a_clock_that_was_ahead_switches_no_guard_off(on_practice: Guarded) -> None:
    """An earlier change was confirmed while the server's clock was a year ahead: this one is undone all the same."""
    earlier = other_change(on_practice, "earlier", "confirmed")
    os.utime(earlier, (time.time() + 31_536_000,) * 2)
    on_practice.ok("arm", "1")
    on_practice.ok("swap")
    wait_until(lambda: on_practice.decided == "rolled-back" and on_practice.timers() == 0)
    on_practice.assert_as_before()


def test_a_later_change_that_was_confirmed_is_left_alone(on_practice: Guarded) -> None:
    """Even one with a clock that has gone back since: what lies there is that change's."""
    on_practice.ok("arm", "2")
    on_practice.ok("swap")
    os.utime(other_change(on_practice, "later", "confirmed"), (1, 1))
    wait_until(lambda: on_practice.timers() == 0)
    assert on_practice.live == "new"
    assert "left alone" in on_practice.path("guard.log").read_text()


def test_nobody_else_can_keep_the_lock_for_ever(on_real: Guarded) -> None:
    """Any user of the server can lock a folder that he can read: the old pair comes back without it."""
    script = on_real.path("guard.sh")
    assert "flock -w 120 9" in script.read_text()
    script.write_text(script.read_text().replace("flock -w 120 9", "flock -w 2 9"))
    on_real.ok("arm", "2")
    on_real.ok("swap")
    on_real.run(f"setsid su -s /bin/sh nobody -c 'exec 9<{on_real.conf_dir}; flock 9; exec sleep 60' >/dev/null 2>&1 &")
    wait_until(lambda: on_real.decided == "rolled-back" and on_real.timers() == 0)
    assert "going on without it" in on_real.path("guard.log").read_text()
    on_real.run("pkill -u nobody sleep")
    on_real.assert_as_before()


@pytest.mark.asyncio
async def test_by_hand_a_confirmed_pair_goes_before_a_run_that_sleeps(on_real: Guarded) -> None:
    """The change was confirmed long ago; another run sleeps with the lock in its hand: restore.sh ends it."""
    on_real.install()
    on_real.ok("confirm")
    async with root_shell(on_real.server) as shell:
        await shell.lock(on_real.conf_dir)
        assert (await asyncio.to_thread(on_real, "restore"))[0] == 0
        with pytest.raises(ShellLost):
            await shell.run(Command("anything", "true"))
    on_real.assert_as_before()


def test_a_timer_leaves_a_third_pair_alone(on_practice: Guarded) -> None:
    """A later change, or a person, has put another pair there: nothing of it is undone, at boot neither."""
    on_practice.install(seconds=3)
    make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=third -keyout nginx.key -out nginx.crt -days 9"
    on_practice.run(f"cd {on_practice.conf_dir}; {make}; docker restart aos_nginx_1")
    wait_until(lambda: on_practice.timers() == 0)
    assert (on_practice.live, on_practice.served(), on_practice.decided) == ("other", "other", "rolled-back")
    assert "left alone" in on_practice.path("guard.log").read_text()
    on_practice.run(f"cd {on_practice.folder}; rm -f decided settled")
    assert "left alone" in on_practice.ok("settle")
    assert on_practice.live == "other"


def test_an_unconfirmed_nginx_that_answers_nobody_is_not_waited_for(on_real: Guarded) -> None:
    """Long before its time is over the guard acts, when nginx has been silent for some seconds and nobody is at work."""
    on_real.install(seconds=600)
    on_real.run("docker stop aos_nginx_1")
    wait_until(lambda: on_real.decided == "rolled-back" and on_real.timers() == 0)
    on_real.assert_as_before()
    assert "nginx has answered nobody for 5 s" in on_real.path("guard.log").read_text()


SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >>"$(dirname "$0")/said"
"""
SYSTEMD_RUN = """#!/bin/sh
while [ "$1" != sh ]; do shift; done
setsid "$@" </dev/null >/dev/null 2>&1 &
"""


def test_under_systemd_a_restart_before_the_confirm_brings_the_old_pair_back(on_real: Guarded) -> None:
    """A unit before docker's puts it back; the unit goes with the decision. The two programs of systemd are stand-ins."""
    folder, unit = on_real.folder, "/etc/systemd/system/apstra-runbook-change.service"
    on_real.run(f"mkdir -p {folder}/bin /etc/systemd/system")
    for name, text in (("systemctl", SYSTEMCTL), ("systemd-run", SYSTEMD_RUN)):
        on_real.path(f"bin/{name}").write_text(text)
        on_real.path(f"bin/{name}").chmod(0o755)
    on_real.settings["PATH"] = f"{folder}/bin:{on_real.settings['PATH']}"
    on_real.stage()
    for decide in ("confirm", "settle"):
        on_real.run(
            f"cd {folder}; rm -f armed decided settled; cp -p backup/nginx.key backup/nginx.crt {on_real.conf_dir}/"
        )
        on_real.ok("enlist")
        text = on_real.server.path(unit).read_text()
        assert f"ExecStart=/bin/sh {folder}/guard.sh settle\n" in text
        assert "Before=docker.service\n" in text
        on_real.ok("arm", "600")
        assert on_real.timers() == 1
        on_real.ok("swap")
        on_real.run(f"pkill -KILL -f '{on_real.timer}'")
        on_real.ok(decide)
        assert not on_real.server.path(unit).exists()
        assert (on_real.live, on_real.decided) == (
            ("new", "confirmed") if decide == "confirm" else ("old", "rolled-back")
        )
    said = on_real.path("bin/said").read_text()
    assert "systemctl --quiet enable apstra-runbook-change.service" in said
    assert "systemctl --quiet disable apstra-runbook-change.service" in said


def test_a_roll_back_can_be_repeated(guarded: Guarded) -> None:
    """Twice is as good as once, and a confirm comes too late."""
    guarded.install()
    for why in ("first", "second"):
        assert why in guarded.ok("roll-back", why)
        guarded.assert_as_before()
    assert guarded("confirm")[0] == DECIDED_BEFORE
    assert guarded.decided == "rolled-back"


def test_a_roll_back_after_the_confirm_is_refused(guarded: Guarded) -> None:
    """What is confirmed stays, and who comes second hears who was first; a second confirm is no error."""
    guarded.install()
    guarded.ok("confirm")
    status, said = guarded("roll-back", "too late")
    assert (status, "confirmed" in said) == (DECIDED_BEFORE, True)
    guarded.ok("confirm")
    assert (guarded.decided, guarded.live, guarded.served()) == ("confirmed", "new", "new")


def test_nginx_is_restarted_only_where_that_is_needed(guarded: Guarded) -> None:
    """A pair that was swapped and never loaded is put back without an outage."""
    started = "docker inspect --format '{{.State.StartedAt}}' aos_nginx_1"
    before = guarded.run(started)
    guarded.ok("arm", "60")
    guarded.ok("swap")
    guarded.ok("roll-back", "nginx -t failed")
    guarded.assert_as_before()
    assert guarded.run(started) == before


def test_a_reload_is_undone_by_a_reload(server: ServerUnderTest) -> None:
    """With activation=reload the container is not restarted on the way back."""
    guarded = Guarded(server, activation="reload")
    started = "docker inspect --format '{{.State.StartedAt}}' aos_nginx_1"
    before = guarded.run(started)
    guarded.ok("arm", "60")
    guarded.ok("swap")
    guarded.run("docker exec aos_nginx_1 nginx -s reload")
    guarded.ok("look", guarded.new, "20")
    guarded.ok("roll-back", "because")
    wait_until(lambda: all(guarded.served() == "old" for _ in range(3)))  # the workers of before end when they can
    guarded.assert_as_before()
    assert guarded.run(started) == before


@pytest.mark.asyncio
async def test_a_person_with_sudo_can_restore(guarded: Guarded) -> None:
    """restore.sh needs nothing but sudo, from any folder, even after the confirm; and again."""
    guarded.install()
    guarded.ok("confirm")
    for _ in range(2):
        ended = await run_as_root(guarded.server, f"sh {guarded.folder}/restore.sh")
        assert ended.status == 0, ended
        assert "the old pair is serving" in ended.stdout
        guarded.assert_as_before()


def test_without_arguments_it_explains_itself(on_practice: Guarded) -> None:
    """Whoever finds the script on a server learns what it does, and it does nothing."""
    status, said = on_practice()
    assert status == 1
    for word in ("arm", "swap", "look", "confirm", "roll-back", "restore"):
        assert f"guard.sh {word}" in said
    assert on_practice.live == "old"


# one decision


def test_exactly_one_of_confirm_and_roll_back_wins(guarded: Guarded) -> None:
    """Raced, and with a head start: one ends 0, the other 3 and names the winner, and the live pair is the winner's."""
    folder, conf_dir = guarded.folder, guarded.conf_dir
    winners = set()
    for number in range(6):
        guarded.run(
            f"cd {folder}; rm -f decided settled; echo 0 >armed; cp backup/nginx.key backup/nginx.crt {conf_dir}/; "
            "sh guard.sh swap"
        )
        contenders = ["confirm >confirm.log", "roll-back race >roll-back.log"][:: 1 if number % 2 else -1]
        head_start = "sleep 0.5;" if number > 3 else ""
        said = guarded.run(
            f"cd {folder}; " + "".join(f"sh guard.sh {each} 2>&1 & pid{index}=$!; {head_start} " for index, each in enumerate(contenders))
            + "wait $pid0; echo $?; wait $pid1; echo $?; cat decided"
        ).split()  # fmt: skip
        assert sorted(said[:2]) == ["0", str(DECIDED_BEFORE)], said
        first_won = said[0] == "0"
        winner = "confirmed" if contenders[0 if first_won else 1].startswith("confirm") else "rolled-back"
        winners.add(winner)
        assert said[2] == winner
        loser = "roll-back.log" if winner == "confirmed" else "confirm.log"
        assert f"decided before: {winner}" in guarded.path(loser).read_text()
        assert guarded.live == ("new" if winner == "confirmed" else "old")
    assert winners == {"confirmed", "rolled-back"}


def test_a_decision_is_written_whole_or_not_at_all(on_practice: Guarded) -> None:
    """Many decide at once without the lock: one wins, every reader sees a whole word, and no scrap is left."""
    body = GUARD.read_text().partition("trap '' HUP PIPE")[0]
    on_practice.path("decide.sh").write_text(body + 'decide "$1" && echo won || cat "$here/decided"\n')
    for number in range(10):
        words = on_practice.run(
            f"cd {on_practice.folder}; rm -f decided; for i in 1 2 3; do sh decide.sh confirmed & sh decide.sh rolled-back & done; wait"
        ).split()
        assert words.count("won") == 1, (number, words)
        assert set(words) - {"won"} == {on_practice.decided}
    assert not [file for file in on_practice.path(".").iterdir() if file.name.startswith(".decide")]


def test_a_new_attempt_makes_an_older_timer_void(on_practice: Guarded) -> None:
    """A change that was rolled back may be installed again; the first attempt's timer does not end the second."""
    on_practice.ok("arm", "2")
    on_practice.ok("roll-back", "first attempt")
    on_practice.run(f"cd {on_practice.folder} && mkdir attempt && mv armed decided guard.log attempt")
    on_practice.ok("arm", "60")
    on_practice.ok("swap")
    time.sleep(3.5)
    wait_until(lambda: on_practice.timers() == 1)
    assert (on_practice.decided, on_practice.live) == ("", "new")


# refusals


@pytest.mark.parametrize(
    "damage",
    [
        "echo >>backup/nginx.key", "rm backup/nginx.crt", "rm backup/SHA256SUMS", ": >backup/SHA256SUMS",
        "cp nginx.key nginx.crt backup/; cd backup; sha256sum aos.tar nginx.crt nginx.key >SHA256SUMS",
    ],
    ids=["a byte more", "a file less", "no sums", "empty sums", "another pair"],
)  # fmt: skip
def test_it_is_not_armed_without_a_proven_backup(on_practice: Guarded, damage: str) -> None:
    """Without a way back there is no way forth: nothing is armed, no timer runs, and a swap is refused."""
    on_practice.run(f"cd {on_practice.folder}; {damage}")
    status, said = on_practice("arm", "60")
    assert status == 1
    assert "backup" in said
    assert (on_practice.path("armed").exists(), on_practice.timers()) == (False, 0)
    assert on_practice("swap")[0] == 1
    on_practice.assert_as_before()


def test_it_is_armed_once(guarded: Guarded) -> None:
    """A second arming is refused, and the first one's timer goes on."""
    guarded.ok("arm", "60")
    armed = guarded.path("armed").read_text()
    status, said = guarded("arm", "1")
    assert (status, "already" in said) == (1, True)
    assert (guarded.path("armed").read_text(), guarded.timers()) == (armed, 1)


def test_armed_means_that_a_timer_runs(on_practice: Guarded) -> None:
    """Where the timer cannot start, arming fails instead of promising a way back."""
    on_practice.run(
        f"mkdir {on_practice.folder}/bin; cd {on_practice.folder}/bin; printf '#!/bin/sh\\nexit 1\\n' >setsid; chmod 755 setsid"
    )
    path = f"{on_practice.server.path(on_practice.folder)}/bin:{on_practice.settings['PATH']}"
    on_practice.settings["PATH"] = path
    on_practice.stage()
    text = on_practice.path("guard.sh").read_text().replace("$(clock) + 10", "$(clock) + 1")
    on_practice.path("guard.sh").write_text(text)
    status, said = on_practice("arm", "60")
    assert (status, "cannot arm" in said) == (1, True)
    assert not on_practice.path("armed").exists()


def test_a_swap_needs_what_was_backed_up(guarded: Guarded) -> None:
    """A live pair that changed since the backup, a staged pair that is not the one judged, and a decided change are refused."""
    guarded.ok("arm", "60")
    guarded.run(f"echo >>{guarded.conf_dir}/nginx.crt")
    changed = shape(guarded.server.snapshot())
    status, said = guarded("swap")
    assert (status, "live pair changed" in said) == (1, True)
    assert shape(guarded.server.snapshot()) == changed
    guarded.run(f"cp {guarded.folder}/backup/nginx.crt {guarded.conf_dir}/nginx.crt; echo >>{guarded.folder}/nginx.key")
    assert guarded("swap")[0] == 1
    guarded.assert_as_before()
    guarded.ok("roll-back", "because")
    guarded.stage()
    assert guarded("swap")[0] == 1
    guarded.assert_as_before()


def test_only_the_new_pair_can_be_confirmed(guarded: Guarded) -> None:
    """A confirm while something else is live would record what is not so; the way back stays open."""
    guarded.ok("arm", "60")
    status, said = guarded("confirm")
    assert (status, guarded.decided) == (1, "")
    assert "not the new one" in said
    guarded.ok("roll-back", "because")


def test_a_backup_that_broke_meanwhile_is_not_put_over_a_good_pair(guarded: Guarded) -> None:
    """The old pair cannot come back: that is said by a status of its own, and what serves goes on serving."""
    guarded.install()
    guarded.run(f"echo >>{guarded.folder}/backup/nginx.key")
    status, said = guarded("roll-back", "because")
    assert status == NOT_RESTORED
    assert "could not be put back" in said
    assert (guarded.live, guarded.served()) == ("new", "new")
    assert guarded.server.snapshot().keys() == guarded.before.keys()


# deaths


@pytest.mark.asyncio
async def test_it_outlives_the_connection_that_armed_it(guarded: Guarded) -> None:
    """The connection is cut, the hang-up is signalled, and the old pair comes back all the same."""
    async with root_shell(guarded.server) as shell:
        await shell.lock(guarded.conf_dir)
        for script in ("arm 3", "swap"):
            result = await shell.run(Command("guard", f"sh {guarded.folder}/guard.sh {script}"))
            assert result.status == 0, result
        await shell.run(Command("restart", "docker restart aos_nginx_1"))
        await asyncio.to_thread(cut, guarded.server)
    guarded.server.run(f"pkill -HUP -f '{guarded.timer}'")
    await asyncio.to_thread(wait_until, lambda: guarded.timers() == 1, timeout_s=1)
    await asyncio.to_thread(wait_until, lambda: guarded.decided == "rolled-back" and guarded.timers() == 0)
    guarded.assert_as_before()


@pytest.mark.asyncio
async def test_a_run_that_hangs_with_the_lock_is_ended(on_real: Guarded) -> None:
    """The timer ends the shell of its run, waits for what that had started, and acts."""
    async with root_shell(on_real.server) as shell:
        await shell.lock(on_real.conf_dir)
        for script in ("arm 1", "swap"):
            await shell.run(Command("guard", f"sh {on_real.folder}/guard.sh {script}"))
        with pytest.raises(ShellLost):
            await shell.run(Command("hang", "sleep 60", time_limit_s=8))
    await asyncio.to_thread(wait_until, lambda: on_real.decided == "rolled-back" and on_real.timers() == 0)
    on_real.assert_as_before()
    assert "ending the shell of the run that holds it" in on_real.path("guard.log").read_text()


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["timer", "restore"])
async def test_a_colleagues_run_that_sleeps_with_the_lock_is_ended(on_real: Guarded, by: str) -> None:
    """Its operator's machine may be asleep: neither the timer nor a person at the server waits for that."""
    on_real.ok("arm", "1" if by == "timer" else "60")
    on_real.ok("swap")
    async with root_shell(on_real.server) as shell:
        await shell.lock(on_real.conf_dir)
        if by == "restore":
            assert (await asyncio.to_thread(on_real, "restore"))[0] == 0
        await asyncio.to_thread(wait_until, lambda: on_real.decided == "rolled-back" and on_real.timers() == 0)
        with pytest.raises(ShellLost):
            await shell.run(Command("anything", "true"))
    on_real.assert_as_before()


DEADLY = """#!/bin/sh
# Counts the programs that the guard starts, and ends the guard's whole process group instead of starting the one asked for.
read -r before <{folder}/count
echo $((before + 1)) >{folder}/count
read -r deadly <{folder}/deadly
[ $((before + 1)) != "$deadly" ] || kill -KILL 0
exec /usr/bin/{program} "$@"
"""


@pytest.mark.parametrize("act", ["swap", "roll-back again"])
def test_a_kill_between_any_two_programs_leaves_a_way_back_and_no_scrap(guarded: Guarded, act: str) -> None:
    """SIGKILL before each program that a swap or the way back itself starts: the next way back leaves the folder as it was."""
    guarded.ok("arm", "600")
    usual = guarded.settings["PATH"]
    place = str(guarded.server.path(f"{guarded.folder}/bin")) if "practice" in usual else f"{guarded.folder}/bin"
    guarded.run(f"mkdir {guarded.folder}/bin")
    for program in ("cat", "chmod", "cp", "ln", "mv", "rm", "sha256sum", "sync"):
        guarded.path(f"bin/{program}").write_text(DEADLY.format(folder=place, program=program))
        guarded.path(f"bin/{program}").chmod(0o755)
    seen, deadly = set(), 0
    while True:
        deadly += 1
        guarded.settings["PATH"] = usual
        guarded.stage()
        guarded.run(f"cd {guarded.folder}; rm -f decided settled")
        if act != "swap":
            guarded.ok("swap")
        guarded.run(f"echo 0 >{guarded.folder}/bin/count; echo {deadly} >{guarded.folder}/bin/deadly")
        guarded.settings["PATH"] = f"{place}:{usual}"
        guarded.stage()
        done = guarded.server.run(f"setsid -w sh {guarded.folder}/guard.sh {act}", timeout_s=90)
        seen.add((guarded.live, len(guarded.server.snapshot())))
        guarded.settings["PATH"] = usual
        guarded.stage()
        guarded.ok("roll-back", "killed")
        guarded.assert_as_before()
        if not done.returncode:
            break
    assert deadly > 10, "the kills hit nothing"
    assert len(seen) > 2, "the kills never hit anything in the middle"


def test_a_full_disk_does_not_bar_the_way_back(on_real: Guarded) -> None:
    """With no room to write the decision down, the old pair comes back into its own file system all the same."""
    folder = on_real.folder
    on_real.run(
        f"cp -a {folder} /run/lab/kept; mount -t tmpfs -o size=300k tmpfs {folder}; cp -a /run/lab/kept/. {folder}/"
    )
    try:
        on_real.install()
        on_real.server.run(f"head -c 1000000 /dev/zero >{folder}/fill")
        on_real.ok("roll-back", "because")
        on_real.assert_as_before()
    finally:
        on_real.run(f"pkill -KILL -f '{on_real.timer}'; umount {folder}; rm -rf /run/lab/kept")


def test_a_clock_that_is_set_moves_nothing(on_practice: Guarded) -> None:
    """Time is counted from the boot: a date that jumps makes the timer act neither early nor late."""
    on_practice.run(
        f"mkdir {on_practice.folder}/bin; cd {on_practice.folder}/bin; "
        "printf '#!/bin/sh\\necho 2099-01-01T00:00:00Z\\n' >date; chmod 755 date"
    )
    on_practice.settings["PATH"] = f"{on_practice.folder}/bin:{on_practice.settings['PATH']}"
    on_practice.stage()
    begun = time.monotonic()
    on_practice.ok("arm", "3")
    on_practice.ok("swap")
    assert "2099" in on_practice.path("guard.log").read_text()
    wait_until(lambda: on_practice.decided == "rolled-back")
    assert 2 <= time.monotonic() - begun < 10
    assert "date" not in GUARD.read_text().replace('$(date -u +%Y-%m-%dT%H:%M:%SZ) $*" >>"$here/guard.log"', "")


# the lock


@contextlib.contextmanager
def locked(guarded: Guarded, seconds: float) -> Iterator[None]:
    """Somebody else holds the lock for a while."""
    holder = threading.Thread(target=guarded.server.run, args=(f"flock {guarded.conf_dir} sleep {seconds}",))
    holder.start()
    wait_until(lambda: guarded.server.run(f"flock -n {guarded.conf_dir} true").returncode == 1)
    yield
    holder.join()


def test_a_locked_folder_is_not_touched(on_practice: Guarded) -> None:
    """Arm and swap give up after five seconds; a way back waits its turn."""
    on_practice.ok("arm", "60")
    with locked(on_practice, 7):
        status, said = on_practice("swap")
        assert (status, "holds the lock" in said) == (1, True)
        assert on_practice.live == "old"
        on_practice.ok("roll-back", "waited")
    on_practice.assert_as_before()


def test_it_holds_the_lock_while_it_acts(on_real: Guarded) -> None:
    """Nobody can apply while the old pair is being put back."""
    on_real.install()
    back = threading.Thread(target=on_real.ok, args=("roll-back", "because"))
    back.start()
    taken = 0
    while back.is_alive():
        taken += on_real.server.run(f"flock -n {on_real.conf_dir} true").returncode
    assert taken > 1
    on_real.assert_as_before()


@pytest.mark.asyncio
async def test_the_runs_own_lock_is_handed_down(guarded: Guarded) -> None:
    """What the run's shell holds does not stop the guard that this shell calls, and the timer does not inherit it."""
    async with root_shell(guarded.server) as shell:
        await shell.lock(guarded.conf_dir)
        begun = time.monotonic()
        for script in ("arm 60", "swap"):
            assert (await shell.run(Command("guard", f"sh {guarded.folder}/guard.sh {script}"))).status == 0
        assert time.monotonic() - begun < 4
        await shell.unlock()
        assert guarded.server.run(f"flock -n {guarded.conf_dir} true").returncode == 0
