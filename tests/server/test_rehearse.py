"""The dress rehearsal on both servers: what nginx can serve, what it cannot, and that nothing is left of it."""

import subprocess
from pathlib import Path

import pytest

from runbook_lib.models import ChangeFolder, Check, Pair, Verdict
from runbook_lib.pki.certificates import read_certificates
from runbook_lib.steps import rehearse
from tests.servers import ServerUnderTest, wait_until

SCRIPT = (Path(__file__).parents[2] / "runbook_lib/server/rehearse.sh").read_text()
CONTAINER = "aos_nginx_1"
NEW = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=new "
    "-keyout nginx.key -out nginx.crt 2>/dev/null; "
)


class Staged:
    """A change's folder on a server, with a pair in it and the rehearsal's script."""

    def __init__(self, server: ServerUnderTest, made_by: str) -> None:
        self.server = server
        self.folder = f"{server.parameters['state_dir']}/changes/change"
        self.run(f"umask 077; mkdir -p {self.folder}; cd {self.folder}; {made_by}")
        self.path("rehearse.sh").write_text(SCRIPT)
        self.before = (server.snapshot(), server.served())

    def path(self, name: str) -> Path:
        return self.server.path(f"{self.folder}/{name}")

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return self.server.run(script, timeout_s=60)

    def rehearsed(self, container: str = CONTAINER) -> Check:
        """What comes of the rehearsal."""
        said = self.run(f"sh {self.folder}/rehearse.sh {container}")
        assert said.returncode == 0
        chain = read_certificates(self.path("chain.pem").read_bytes())
        change = ChangeFolder("change", staged=Pair(chain=chain))
        (check,) = rehearse.checks(change, said.stdout, said.stderr)
        return check

    def assert_nothing_is_left(self) -> None:
        """No folder, socket or process; the live pair and what is served are as before."""
        pid, name = self.run(f"docker inspect --format '{{{{.State.Pid}}}} {{{{.Id}}}}' {CONTAINER}").stdout.split()
        places = f"/tmp/apstra-runbook-{name[:12]}-"  # noqa: S108 - in the container
        assert self.run(f"ls -d /proc/{pid}/root{places}*").returncode != 0
        assert self.run(f"pgrep -f 'nginx -[c] {places}'").returncode == 1
        assert (self.server.snapshot(), self.server.served()) == self.before


PAIRS = {
    "a pair that fits": (NEW + "cp nginx.crt chain.pem", Verdict.PASS, "the same"),
    "an RSA key beside an EC certificate": (
        NEW + "openssl genrsa -out nginx.key 2048 2>/dev/null; cp nginx.crt chain.pem", Verdict.FAIL, "alert handshake failure",
    ),
    "a key of the same kind that is another one": (
        NEW + "openssl ecparam -name prime256v1 -genkey -noout -out nginx.key; cp nginx.crt chain.pem", Verdict.FAIL, "key values mismatch",
    ),
    "no certificate": (NEW + "cp nginx.crt chain.pem; echo none >nginx.crt", Verdict.FAIL, "[emerg]"),
    "a chain cut short": (
        NEW + "cp nginx.crt leaf; mv nginx.key kept; " + NEW.replace("CN=new", "CN=root") + "cat leaf nginx.crt >chain.pem; mv leaf nginx.crt; mv kept nginx.key",
        Verdict.FAIL, "another chain",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_what_nginx_can_serve(server: ServerUnderTest, name: str) -> None:
    """Only a pair that clients can shake hands with passes, leaf and chain as staged; the live pair serves on."""
    made_by, verdict, found = PAIRS[name]
    staged = Staged(server, made_by)
    check = staged.rehearsed()
    assert check.verdict is verdict, check
    assert found in check.found
    assert bool(check.todo) is (verdict is not Verdict.PASS)
    staged.assert_nothing_is_left()


def test_a_rehearsal_that_cannot_be_held_says_nothing_of_the_pair(server: ServerUnderTest) -> None:
    """Without the container the check is unknown, with docker's own word, and not passed."""
    staged = Staged(server, NEW + "cp nginx.crt chain.pem")
    check = staged.rehearsed("nosuch")
    assert check.verdict is Verdict.UNKNOWN
    assert "the rehearsal could not be held: " in check.found
    assert "nosuch" in check.found
    staged.assert_nothing_is_left()


@pytest.fixture
def slow(server: ServerUnderTest) -> Staged:
    """A pair whose handshake takes a minute, in `slow`, where `shaking` appears when it begins."""
    staged = Staged(server, NEW + "cp nginx.crt chain.pem")
    folder = staged.path("slow")
    folder.mkdir()
    wait = '[ "$2" = openssl ] && : >"${0%/*}/shaking" && sleep 60'
    (folder / "timeout").write_text(f'#!/bin/sh\n{wait}\nexec /usr/bin/timeout "$@"\n')
    (folder / "timeout").chmod(0o755)
    return staged


def test_it_is_held_again_over_what_a_killed_one_left(slow: Staged) -> None:
    """Killed while the handshake is awaited: nginx there ends with the pipe, and the next rehearsal is as good as the first."""
    place = f"{slow.folder}/slow"
    slow.run(
        f"PATH={place}:$PATH setsid sh {slow.folder}/rehearse.sh {CONTAINER} >/dev/null 2>&1 & echo $! >{place}/pid"
    )
    wait_until(slow.path("slow/shaking").exists)
    slow.run(f"kill -KILL -- -$(cat {place}/pid)")
    again = slow.rehearsed()
    assert again.verdict is Verdict.PASS, again.found
    slow.assert_nothing_is_left()


def test_what_is_killed_inside_is_taken_away_from_outside(slow: Staged) -> None:
    """The shell in the container dies with nginx beside it: the key does not stay there, nor does nginx."""
    place = f"{slow.folder}/slow"
    slow.run(
        f"PATH={place}:$PATH setsid sh {slow.folder}/rehearse.sh {CONTAINER} >/dev/null 2>&1 & echo $! >{place}/pid"
    )
    wait_until(slow.path("slow/shaking").exists)
    slow.run("kill -KILL $(pgrep -f '^sh -c .*/tmp/[a]pstra-runbook-' -o)")
    slow.run("pkill -f '^sleep [6]0'")
    wait_until(lambda: slow.run(f"kill -0 $(cat {place}/pid)").returncode != 0)
    slow.assert_nothing_is_left()
