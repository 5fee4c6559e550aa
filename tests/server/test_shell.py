"""The root shell: how it is opened, what it takes and gives back, and how it ends."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.errors import Locked, Refused, Unreachable
from runbook_lib.models import Command, CommandResult
from runbook_lib.secrets import MASK, REGISTRY
from runbook_lib.server import shell as room
from runbook_lib.server.connection import connect
from runbook_lib.server.shell import LARGEST_OUTPUT, LONGEST_COMPLAINT, RootShell, ShellLost, open_root_shell
from tests.embedded import EmbeddedHost
from tests.realserver.host import SUDO_PASSWORD, RealHost
from tests.server.hosts import cut, login, root_shell
from tests.servers import ServerUnderTest, wait_until

pytestmark = pytest.mark.asyncio
ServerWith = Callable[..., ServerUnderTest]


async def run(shell: RootShell, script: str, **options: Any) -> CommandResult:  # noqa: ANN401 - handed on to Command
    """One command of no particular purpose."""
    return await shell.run(Command("a test", script, **options))


async def refused(server: ServerUnderTest, password: str | None = SUDO_PASSWORD) -> Unreachable:
    """The error that becoming root ends with."""
    with pytest.raises(Unreachable) as caught:
        async with root_shell(server, password):
            pass
    return caught.value


def in_processes(text: str) -> bool:
    """Whether an argument or a variable of any process of this machine, servers in namespaces included, holds a text."""
    for file in [*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")]:
        try:
            if text.encode() in file.read_bytes():
                return True
        except OSError:
            continue
    return False


# becoming root


async def test_it_is_roots_shell(server: ServerUnderTest) -> None:
    """Commands run as root, in `/`, closed to others, with messages in one language."""
    async with root_shell(server) as shell:
        result = await run(shell, 'id -u; pwd; umask; echo "$LC_ALL"; kill -0 $RUNBOOK_SHELL')
    root = 0 if isinstance(server, RealHost) else os.geteuid()  # the practice server's sudo changes no user
    assert (result.status, result.stdout) == (0, f"{root}\n/\n0077\nC\n")


async def test_one_sudo_serves_a_connection(real: RealHost) -> None:
    """However many commands are run, sudo is asked once."""
    real.run(": >/var/log/sudo.log")
    async with root_shell(real) as shell:
        results = await shell.run_all([Command("count", f"echo {number}") for number in range(20)])
        await run(shell, "true")
    assert [each.stdout for each in results] == [f"{number}\n" for number in range(20)]
    assert real.path("/var/log/sudo.log").read_text().count("COMMAND=") == 1


async def test_a_password_that_nobody_asks_for_is_not_sent(server_with: ServerWith) -> None:
    """With NOPASSWD the password reaches neither the shell, which would run it as root, nor a command."""
    server = server_with(nopasswd=True)
    trap = f"{server.parameters['conf_dir']}/password-was-run"
    async with root_shell(server, f"touch {trap}") as shell:
        assert (await run(shell, "cat")).stdout == ""
        assert (await run(shell, "cat", stdin="own\n")).stdout == "own\n"
    assert not server.path(trap).exists()
    async with root_shell(server, None) as shell:
        assert (await run(shell, "echo fine")).stdout == "fine\n"


async def test_a_wrong_password_is_tried_once(server: ServerUnderTest) -> None:
    """sudo would take three; one is sent, and the error says so without the password."""
    real = not isinstance(server, EmbeddedHost)
    log = server.path("/var/log/sudo.log" if real else f"{server.practice.root}/sudo.log")  # type: ignore[attr-defined]
    if log.exists():
        log.write_text("")
    error = await refused(server, "wrong password")
    assert "one attempt" in error.todo
    assert "wrong password" not in str(error)
    wait_until(lambda: log.exists() and log.read_text() != "")
    assert log.read_text().count("1 incorrect password attempt" if real else "incorrect password") == 1


async def test_no_password_where_sudo_asks_for_one(server: ServerUnderTest) -> None:
    """It is said at once, and no attempt is made."""
    begun = time.monotonic()
    error = await refused(server, None)
    assert "sudo_password is empty" in error.what
    assert "set sudo_password" in error.todo
    assert time.monotonic() - begun < 5
    if isinstance(server, EmbeddedHost):
        assert not (server.practice.root / "sudo.log").exists()


@pytest.mark.parametrize("rule", ["", "admin ALL=(ALL) /bin/true"], ids=["no rule", "another command"])
async def test_a_user_who_may_not_become_root(real: RealHost, rule: str) -> None:
    """That sudoers does not let this user is told apart from a wrong password."""
    real.run(f"cp -p /etc/sudoers.d/admin /run/lab/sudoers; echo '{rule}' >/etc/sudoers.d/admin")
    try:
        error = await refused(real)
    finally:
        real.run("cp -p /run/lab/sudoers /etc/sudoers.d/admin")
    assert "the user may not" in error.what
    assert "sudoers" in error.todo


async def test_an_expired_password_says_what_to_do(server_with: ServerWith) -> None:
    """The login with a key succeeds and each command is refused: the cure is a login by hand."""
    error = await refused(server_with(expired_password=True))
    assert "expired" in error.what
    assert "by hand" in error.todo


async def test_a_server_that_never_answers(bastion: RealHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Becoming root has a time limit."""
    monkeypatch.setattr(room, "START_LIMIT_S", 0.5)
    bastion.run("cp -n /home/admin/.bashrc /run/lab/; sed -i '1i sleep 20' /home/admin/.bashrc")
    try:
        error = await refused(bastion)
    finally:
        bastion.run("cp /run/lab/.bashrc /home/admin/.bashrc")
    assert "in time" in error.why


# commands


async def test_a_command_gives_back_all_there_is(server: ServerUnderTest) -> None:
    """Both streams apart and exact, the status, and how long it took."""
    async with root_shell(server) as shell:
        result = await run(shell, "printf 'out\\n\\n'; printf err >&2; sleep 0.3; exit 7")
        assert (result.stdout, result.stderr, result.status) == ("out\n\n", "err", 7)
        assert 0.3 <= result.duration_s < 3
        assert not result.timed_out
        nothing = await run(shell, "true")
        assert (nothing.stdout, nothing.stderr, nothing.status) == ("", "", 0)
        killed = await run(shell, "kill -TERM $$")
        assert killed.status == 128 + 15
        wrong = await run(shell, "if then 'unclosed")
        assert wrong.status == 2
        assert (await run(shell, "exit 3; echo never")).stdout == ""
        assert (await run(shell, "echo still there")).stdout == "still there\n"


async def test_commands_do_not_touch_the_shell(server: ServerUnderTest) -> None:
    """Variables, folder, umask and functions of one command are gone in the next."""
    async with root_shell(server) as shell:
        await run(shell, "cd /tmp; umask 0; A=b; export A; alias echo=false")
        assert (await run(shell, 'pwd; umask; echo "<$A>"')).stdout == "/\n0077\n<>\n"


@pytest.mark.parametrize(
    "text",
    [
        "a $HOME `id` $(id) \"double\" 'single' \\ back\\n slash\n",
        "EOF\nEND\n'\n<<EOF\n",
        "\n\n  leading and trailing  \n\t\n",
        "-----BEGIN NONE-----\nüñî \u202e ; rm -rf / & | > < * ? [ ] { } ! # ~ %s %n\n",
        "x" * 3000 + "\n",
        "a line of some length\n" * 10000,
    ],
    ids=["shell", "heredoc", "blanks", "symbols", "long line", "200 KB"],
)
async def test_stdin_arrives_byte_for_byte(server: ServerUnderTest, text: str) -> None:
    """Nothing that a template, a bundle or a script can hold is changed on its way."""
    async with root_shell(server) as shell:
        assert (await run(shell, "cat", stdin=text)).stdout == text
        ignored = await run(shell, "exit 4", stdin=text)
        assert (ignored.status, ignored.stdout) == (4, "")
        assert (await run(shell, "echo next")).stdout == "next\n"


async def test_a_line_like_the_heredocs_end_is_just_a_line(
    practice: EmbeddedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the input is a mark that is drawn anew for each command, so that no input can hold it."""
    drawn: list[str] = []
    draw = secrets.token_hex

    def remember(size: int) -> str:
        drawn.append(draw(size))
        return drawn[-1]

    monkeypatch.setattr(secrets, "token_hex", remember)
    async with root_shell(practice) as shell:
        await run(shell, "cat", stdin="first\n")
        earlier = "\n".join(drawn)
        assert (await run(shell, "cat", stdin=f"{earlier}\nrest\n")).stdout == f"{earlier}\nrest\n"
    assert len(set(drawn)) == len(drawn) == 4


async def test_stdin_without_a_line_end_is_a_mistake_of_ours(practice: EmbeddedHost) -> None:
    """It is refused before anything is sent, and the shell goes on."""
    async with root_shell(practice) as shell:
        with pytest.raises(ValueError, match="line end"):
            await run(shell, "cat", stdin="no end")
        assert (await run(shell, "echo fine")).stdout == "fine\n"


async def test_output_that_looks_like_a_frame_is_output(server: ServerUnderTest) -> None:
    """Nothing printed, whatever its form, ends a command early or changes its status."""
    fake = "0123456789abcdef" * 2
    script = f"printf '%s<' {fake}; printf '\\n0>%s\\n' {fake}; printf '\\n0>%s\\n' {fake} >&2; echo more; exit 5"
    async with root_shell(server) as shell:
        result = await run(shell, script)
    assert (result.stdout, result.status) == (f"{fake}<\n0>{fake}\nmore\n", 5)
    assert result.stderr == f"\n0>{fake}\n"


async def test_binary_output_is_no_crash(server: ServerUnderTest) -> None:
    """Bytes that are no text come as replacement characters, and NUL as itself."""
    async with root_shell(server) as shell:
        result = await run(shell, "printf 'a\\000b\\377c'; printf '\\376' >&2")
    assert (result.stdout, result.stderr) == ("a\0b\ufffdc", "\ufffd")


async def test_noise_is_told_apart(server_with: ServerWith) -> None:
    """What .bashrc, the banner and sudo's lecture print is in no command's output."""
    async with root_shell(server_with(noise=True)) as shell:
        result = await run(shell, "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


async def test_stderr_is_redacted(practice: EmbeddedHost) -> None:
    """A known secret that a command complains with is masked before anybody sees it."""
    REGISTRY.add("a-known-secret", name="test", public=())
    try:
        async with root_shell(practice) as shell:
            assert (await run(shell, "echo bad: a-known-secret >&2")).stderr == f"bad: {MASK}\n"
    finally:
        REGISTRY.clear()


# limits


async def test_a_command_that_hangs_is_ended(server: ServerUnderTest) -> None:
    """At its time limit a command ends with what it started, and the shell goes on."""
    async with root_shell(server) as shell:
        result = await run(shell, "echo begun; sleep 31.25 & sleep 31.25", time_limit_s=1)
        assert (result.status, result.timed_out, result.stdout) == (124, True, "begun\n")
        assert result.duration_s < 5
        wait_until(lambda: not in_processes("31.25"))
        assert (await run(shell, "echo fine")).stdout == "fine\n"


async def test_a_command_that_ignores_sigterm_is_killed(
    server: ServerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not take the hint gets SIGKILL."""
    monkeypatch.setattr(room, "KILL_AFTER_S", 1)
    async with root_shell(server) as shell:
        result = await run(shell, "trap '' TERM; while :; do sleep 0.2; done", time_limit_s=1)
        assert (result.status, result.timed_out) == (137, True)
        assert (await run(shell, "echo fine")).stdout == "fine\n"


async def test_a_child_that_holds_the_streams_holds_nobody_up(server: ServerUnderTest) -> None:
    """A command is over when it ends, whatever it left in the background, and closing the shell does not wait either."""
    begun = time.monotonic()
    async with root_shell(server) as shell:
        result = await run(shell, "sleep 20 & echo $!")
        assert (result.stdout.strip().isdigit(), result.status) == (True, 0)
    assert time.monotonic() - begun < 5
    assert server.run(f"kill {result.stdout}").returncode == 0


async def test_output_is_capped(server: ServerUnderTest) -> None:
    """A megabyte is taken; more, or no end of it, ends the shell instead of filling our memory."""
    async with root_shell(server) as shell:
        whole = await run(shell, f"head -c {LARGEST_OUTPUT - 100} /dev/zero | tr '\\0' x")
        assert whole.stdout == "x" * (LARGEST_OUTPUT - 100)
        three = Command("three commands in one", f"head -c {LARGEST_OUTPUT * 3 - 100} /dev/zero | tr '\\0' x")
        assert len((await shell.run(three, parts=3)).stdout) == LARGEST_OUTPUT * 3 - 100
    assert LARGEST_OUTPUT == 1 << 20
    for script in ("yes", f"head -c {LARGEST_OUTPUT * 2} /dev/zero"):
        async with root_shell(server) as shell:
            with pytest.raises(ShellLost) as caught:
                await run(shell, script, time_limit_s=5)
            assert str(LARGEST_OUTPUT) in caught.value.why


async def test_of_standard_error_the_end_is_kept(server: ServerUnderTest) -> None:
    """A program that complains without end is ended by its own time limit; the shell, and the way back with it, are still there."""
    async with root_shell(server) as shell:
        loud = await run(shell, f"head -c {LARGEST_OUTPUT * 3} /dev/zero | tr '\\0' x >&2; echo the end >&2; echo out")
        assert (loud.status, loud.stdout, loud.stderr[-9:]) == (0, "out\n", "the end\n"[-9:].rjust(9, "x"))
        assert len(loud.stderr) == LONGEST_COMPLAINT
        endless = await run(shell, "yes >&2", time_limit_s=1)
        assert (endless.timed_out, len(endless.stderr)) == (True, LONGEST_COMPLAINT)
        assert (await run(shell, "echo still here")).stdout == "still here\n"


async def test_a_shell_that_stops_answering_is_given_up(
    server: ServerUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer for longer than the command may take, its effect is unknown, and that is said."""
    monkeypatch.setattr(room, "GRACE_S", 0.3)
    monkeypatch.setattr(room, "KILL_AFTER_S", 0)
    async with root_shell(server) as shell:
        stopped = (await run(shell, "echo $RUNBOOK_SHELL")).stdout.strip()
        with pytest.raises(ShellLost) as caught:
            await run(shell, "kill -STOP $RUNBOOK_SHELL", time_limit_s=1)
        assert "in time" in caught.value.why
    server.run(f"kill -KILL {stopped}")


# secrets


async def test_no_secret_is_in_any_argument_or_variable(server: ServerUnderTest) -> None:
    """While a shell is open and a command reads a secret, neither it nor sudo's password is in /proc, here or there."""
    secret = "a-secret-in-a-template"
    async with root_shell(server) as shell:
        script = "exec 3<&0; sleep 1.125; cat <&3"
        task = asyncio.create_task(run(shell, script, stdin=f"{secret}\n"))
        await asyncio.to_thread(wait_until, lambda: in_processes("sleep\x001.125"))
        assert in_processes(script)
        assert not in_processes(secret)
        assert not in_processes(SUDO_PASSWORD)
        assert (await task).stdout == f"{secret}\n"


# the lock


async def test_a_second_run_is_refused_while_the_first_holds_the_lock(server: ServerUnderTest) -> None:
    """One apply at a time per folder; after an unlock, and after the end of the shell, the next one may."""
    folder = server.parameters["conf_dir"]
    async with root_shell(server) as second:
        async with root_shell(server) as first:
            await first.lock(folder)
            with pytest.raises(Locked) as caught:
                await second.lock(folder)
            assert folder in caught.value.what
            await first.unlock()
            await second.lock(folder)
            with pytest.raises(Locked):
                await first.lock(folder)
            await second.unlock()
            await first.lock(folder)
        await second.lock(folder)


async def test_a_lock_held_for_a_moment_is_waited_for(server: ServerUnderTest) -> None:
    """A guard that watches nginx takes it again and again; that is no other run."""
    folder = server.parameters["conf_dir"]
    async with root_shell(server) as shell:
        held = await asyncio.to_thread(
            server.run,
            f"flock {folder} sleep 0.7 >/dev/null 2>&1 & until ! flock -n {folder} true; do :; done",
        )
        assert held.returncode == 0
        await shell.lock(folder)


async def test_the_lock_ends_with_the_connection(server: ServerUnderTest) -> None:
    """A cut connection frees the lock, and a command that was running keeps it to its end."""
    folder = server.parameters["conf_dir"]
    async with root_shell(server) as shell:
        await shell.lock(folder)
        task = asyncio.create_task(run(shell, "sleep 1.5"))
        await asyncio.to_thread(wait_until, lambda: in_processes("sleep\x001.5"))
        begun = time.monotonic()
        await asyncio.to_thread(cut, server)
        with pytest.raises(ShellLost):
            await task
        assert server.run(f"flock -n {folder} true").returncode == 1
        await asyncio.to_thread(wait_until, lambda: server.run(f"flock -n {folder} true").returncode == 0)
        assert time.monotonic() - begun > 0.5


async def test_what_is_no_folder_is_not_called_locked(server: ServerUnderTest) -> None:
    """A missing conf_dir is no other run."""
    async with root_shell(server) as shell:
        with pytest.raises(Refused) as caught:
            await shell.lock("/nonexistent/it's")
        assert not isinstance(caught.value, Locked)
        assert (await run(shell, "echo fine")).stdout == "fine\n"


# the end


async def test_the_death_of_the_shell_is_heard(server: ServerUnderTest) -> None:
    """The command it died in and every later one are ShellLost at once, and closing it is no error."""
    begun = time.monotonic()
    async with root_shell(server) as shell:
        for script in ("kill -KILL $RUNBOOK_SHELL; sleep 1", "echo never"):
            with pytest.raises(ShellLost) as caught:
                await run(shell, script)
            assert caught.value.server == server.parameters["host"]
            assert "run again" in caught.value.todo
        with pytest.raises(ShellLost):
            await shell.lock(server.parameters["conf_dir"])
    assert time.monotonic() - begun < 10


async def test_a_cut_connection_is_heard(server: ServerUnderTest) -> None:
    """A connection that is cut in the middle of a command is ShellLost, not a traceback of the library."""
    async with root_shell(server) as shell:
        task = asyncio.create_task(run(shell, "sleep 2.75"))
        await asyncio.to_thread(wait_until, lambda: in_processes("sleep\x002.75"))
        await asyncio.to_thread(cut, server)
        with pytest.raises(ShellLost):
            await task


async def test_a_connection_that_is_closed_gives_no_shell(server: ServerUnderTest) -> None:
    """A connection that broke before the shell could be opened is a clear refusal."""
    connection = await connect(login(server))
    await connection.close()
    with pytest.raises(Unreachable):
        await open_root_shell(connection.ssh, host="host", sudo_password=None)


async def test_a_cancelled_command_does_not_spoil_the_next(server: ServerUnderTest) -> None:
    """Who stops listening loses the answer; the shell finishes the command and is in step again."""
    async with root_shell(server) as shell:
        task = asyncio.create_task(run(shell, "echo early; sleep 0.5; echo late; exit 9"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        result = await run(shell, "echo next")
        assert (result.stdout, result.status) == ("next\n", 0)


async def test_commands_of_many_tasks_take_turns(server: ServerUnderTest) -> None:
    """Each task gets its own answer."""
    async with root_shell(server) as shell:
        results = await asyncio.gather(*(run(shell, f"echo {number}") for number in range(30)))
    assert [each.stdout for each in results] == [f"{number}\n" for number in range(30)]
