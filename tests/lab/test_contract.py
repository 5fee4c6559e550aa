"""What the embedded and the real server have in common: logins, sudo, commands, forwarding."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable

import asyncssh
import pytest

from tests.realserver.host import SUDO_PASSWORD
from tests.servers import ServerUnderTest, wait_until
from tests.ssh_client import connected, run, run_as_root

pytestmark = pytest.mark.asyncio
ServerWith = Callable[..., ServerUnderTest]


async def test_reset_brings_back_the_first_pair(server: ServerUnderTest) -> None:
    """Whatever a test did to the files, after `reset` they and what is served are the first ones."""
    first, leaf = server.snapshot(), server.served()
    conf_dir = server.parameters["conf_dir"]
    server.run(
        f"cd {conf_dir} && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=other -days 3 -keyout nginx.key -out nginx.crt; "
        f"touch stray; mkdir {server.parameters['state_dir']}; docker restart aos_nginx_1"
    )
    wait_until(lambda: server.served() != leaf)
    server.reset()
    assert server.served() == leaf
    assert {name: (state.sha256, state.mode) for name, state in server.snapshot().items()} == {
        name: (state.sha256, state.mode) for name, state in first.items()
    }
    assert not server.path(server.parameters["state_dir"]).exists()


async def test_a_command_has_streams_and_a_status_of_its_own(server: ServerUnderTest) -> None:
    """Standard output, standard error, input to its end and exit status reach the client apart."""
    result = await run(server, "cat; echo problem >&2; exit 7", "in\nput")
    assert (result.stdout, result.stderr, result.status) == ("in\nput", "problem\n", 7)


async def test_a_killed_command_ends_with_its_signal(server: ServerUnderTest) -> None:
    """A command that a signal ended has no exit status but the signal's name."""
    result = await run(server, "kill -KILL $$")
    assert result.status == -signal.SIGKILL


async def test_much_output_arrives_whole(server: ServerUnderTest) -> None:
    """More than any buffer holds arrives to the last byte."""
    result = await run(server, "head -c 3000000 /dev/zero | tr '\\0' x; echo end")
    assert result.stdout == "x" * 3_000_000 + "end\n"


async def test_detached_children_outlive_the_connection_and_others_see_its_end(server: ServerUnderTest) -> None:
    """A closed connection ends the input of a command and kills nothing: what has detached itself goes on."""
    folder = (await run(server, "mktemp -d")).stdout.strip()
    async with connected(server) as connection:
        process = await connection.create_process(
            f"(setsid sh -c 'sleep 0.5; echo alive >{folder}/detached' </dev/null >/dev/null 2>&1 &); echo up; cat; echo over >{folder}/attached"
        )
        assert await process.stdout.readline() == "up\n"
    wait_until(lambda: server.path(f"{folder}/attached").read_text() == "over\n")
    wait_until(lambda: server.path(f"{folder}/detached").read_text() == "alive\n")


async def test_admin_logs_in_with_password_or_key_and_nobody_else_does(server: ServerUnderTest) -> None:
    """The right password opens a connection, a wrong one and an unknown key do not."""
    given = server.parameters

    async def login(**credentials: object) -> str:
        options = {
            "username": "admin",
            "known_hosts": given["known_hosts"],
            "agent_path": None,
            "config": None,
            "client_keys": None,
        }
        async with asyncssh.connect(given["host"], given["ssh_port"], **(options | credentials)) as connection:
            return str((await connection.run("whoami || echo")).exit_status)

    assert await login(password=SUDO_PASSWORD) == "0"
    for wrong in (
        {"password": "wrong"},
        {"client_keys": [asyncssh.generate_private_key("ssh-ed25519")], "password": None},
    ):
        with pytest.raises(asyncssh.PermissionDenied):
            await login(**wrong)


async def test_sudo_asks_on_stderr_and_takes_one_line(server: ServerUnderTest) -> None:
    """The prompt and the lecture go to stderr; only one line of the input is the password, the rest is the command's."""
    result = await run(server, "sudo -S -p 'Password, please:' -- cat", f"{SUDO_PASSWORD}\nfirst\nsecond\n")
    assert result.stdout == "first\nsecond\n"
    assert "usual lecture" in result.stderr
    assert result.stderr.endswith("Password, please:")


async def test_sudo_without_a_way_to_ask_says_so(server: ServerUnderTest) -> None:
    """`-n`, no terminal, and an input that is over each end with status 1 and sudo's own words."""
    for command, said in (
        ("sudo -n true", "sudo: a password is required\n"),
        ("sudo true", "a terminal is required to read the password"),
        ("sudo -S -p '' true", "sudo: no password was provided\nsudo: a password is required\n"),
    ):
        result = await run(server, command)
        assert result.status == 1
        assert said in result.stderr


async def test_a_wrong_password_is_asked_for_again_up_to_three_times(server: ServerUnderTest) -> None:
    """Each wrong line costs an attempt; a right one within three runs the command."""
    second_time = await run(server, "sudo -S -p ask: cat", f"wrong\n{SUDO_PASSWORD}\nrest\n")
    assert (second_time.status, second_time.stdout) == (0, "rest\n")
    assert second_time.stderr.endswith("ask:Sorry, try again.\nask:")
    once = await run(server, "sudo -S -p ask: true", "wrong\n")
    assert (
        once.status,
        once.stderr.endswith(
            "ask:Sorry, try again.\nask:\nsudo: no password was provided\nsudo: 1 incorrect password attempt\n"
        ),
    ) == (1, True)
    never = await run(server, "sudo -S -p ask: true", "a\nb\nc\nd\n")
    assert (never.status, never.stderr.endswith("sudo: 3 incorrect password attempts\n")) == (1, True)


async def test_sudo_remembers_a_shell_and_no_other_channel(server: ServerUnderTest) -> None:
    """A second sudo of the same shell is not asked, one of another channel of the same connection is; `-k` forgets."""
    same = await run(
        server, "sudo -S -p '' true; sudo -n echo again; sudo -k; sudo -n echo never", f"{SUDO_PASSWORD}\n"
    )
    assert (same.stdout, same.status) == ("again\n", 1)
    async with connected(server) as connection:
        first = await connection.run("exec sudo -S -p '' true", input=f"{SUDO_PASSWORD}\n")
        other = await connection.run("exec sudo -n true", stdin=asyncssh.DEVNULL)
    assert (first.exit_status, other.exit_status) == (0, 1)


async def test_sudo_gives_a_clean_environment(server: ServerUnderTest) -> None:
    """Root's command does not see the variables of the user's shell."""
    result = await run(server, "export SECRET=x; sudo -S -p '' env", f"{SUDO_PASSWORD}\n")
    variables = dict(line.split("=", 1) for line in result.stdout.splitlines())
    assert "SECRET" not in variables
    assert (variables["USER"], variables["SUDO_USER"]) == ("root", "admin")


async def test_nopasswd_reads_nothing(server_with: ServerWith) -> None:
    """With NOPASSWD sudo asks nothing, so a password that is sent all the same becomes the command's input."""
    server = server_with(nopasswd=True)
    assert (await run(server, "sudo -n true")).status == 0
    result = await run(server, "sudo -S -p ask: cat", "not a password\n")
    assert (result.stdout, result.stderr) == ("not a password\n", "")


async def test_an_expired_password_ends_every_command(server_with: ServerWith) -> None:
    """The login succeeds, and each command is refused with what has to be done."""
    result = await run(server_with(expired_password=True), "id")
    assert (result.status, result.stdout) == (1, "")
    assert "Your password has expired" in result.stderr


async def test_noise_comes_before_the_output(server_with: ServerWith) -> None:
    """What `.bashrc` prints stands before a command's own output on both streams."""
    result = await run(server_with(noise=True), "echo out; echo err >&2")
    assert result.stdout.endswith("\nout\n")
    assert result.stderr.endswith("\nerr\n")


async def test_a_connection_can_be_forwarded(server: ServerUnderTest) -> None:
    """A forwarded port reaches the server's own listeners, and the server can be its own bastion."""
    given = server.parameters
    async with connected(server) as bastion, connected(server, tunnel=bastion) as inner:
        assert (await inner.run("echo through")).stdout == "through\n"
        reader, writer = await bastion.open_connection(given["host"], given["ssh_port"])
        assert (await reader.readline()).startswith(b"SSH-2.0-")
        writer.close()


async def test_forwarding_can_be_forbidden(server_with: ServerWith) -> None:
    """With AllowTcpForwarding no, a channel to another port is refused and the connection lives on."""
    server = server_with(tcp_forwarding=False)
    async with connected(server) as connection:
        with pytest.raises(asyncssh.ChannelOpenError):
            await connection.open_connection(server.parameters["host"], server.parameters["ssh_port"])
        assert (await connection.run("echo alive")).stdout == "alive\n"


async def test_a_lock_on_a_folder_ends_with_its_shell(server: ServerUnderTest) -> None:
    """flock on a folder's own descriptor holds, and goes when the connection of its holder is cut."""
    conf_dir = server.parameters["conf_dir"]
    async with connected(server) as connection:
        holder = await connection.create_process(
            f"sudo -S -p '' sh -c 'exec 9<{conf_dir}; flock 9; echo held; read over'"
        )
        holder.stdin.write(f"{SUDO_PASSWORD}\n")
        assert await holder.stdout.readline() == "held\n"
        assert server.run(f"flock -n {conf_dir} true").returncode == 1
        connection.abort()
    wait_until(lambda: server.run(f"flock -n {conf_dir} true").returncode == 0)


async def test_docker_is_roots(server: ServerUnderTest) -> None:
    """Without sudo docker refuses; with it, it answers."""
    assert "permission denied" in (await run(server, "docker ps")).stderr
    assert "aos_nginx_1" in (await run_as_root(server, "docker ps")).stdout


async def test_many_channels_at_once(server: ServerUnderTest) -> None:
    """Five channels of one connection run side by side."""
    async with connected(server) as connection:
        start = time.monotonic()
        results = await asyncio.gather(*(connection.run(f"sleep 0.5; echo {number}") for number in range(5)))
        assert time.monotonic() - start < 2
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(5)]


async def test_the_banner_is_shown_before_the_login(server: ServerUnderTest) -> None:
    """The warning text is sent to whoever connects, logged in or not."""
    given, banners = server.parameters, []

    class Client(asyncssh.SSHClient):
        def auth_banner_received(self, msg: str, lang: str) -> None:
            banners.append((msg, lang))

    with contextlib.suppress(asyncssh.PermissionDenied):
        await asyncssh.create_connection(
            Client,
            given["host"],
            given["ssh_port"],
            username="nobody",
            known_hosts=given["known_hosts"],
            client_keys=None,
            agent_path=None,
            config=None,
        )
    assert "monitored" in banners[0][0]
