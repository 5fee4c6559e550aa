"""Logins: whose key is believed, which secrets go where and how often, and what is said when it does not work."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from runbook_lib.errors import HostKeyChanged, HostKeyUnknown, RunbookError, Unreachable
from runbook_lib.server import connection as room
from runbook_lib.server import hostkeys
from runbook_lib.server.connection import Login, connect
from runbook_lib.server.pinning import pin, show_key
from tests.embedded import EmbeddedHost
from tests.realserver.host import SUDO_PASSWORD, RealHost
from tests.server.hosts import Agent, cut, host_key, keypair, login, sshd, sshd_log
from tests.servers import ServerUnderTest, wait_until

pytestmark = pytest.mark.asyncio
FOREIGN_KEY = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()


async def said(given: Login, command: str = "whoami") -> str:
    """What a command prints over a connection that is closed afterwards."""
    connection = await connect(given)
    try:
        return str((await connection.ssh.run(command)).stdout).strip()
    finally:
        await connection.close()


async def refused(given: Login) -> RunbookError:
    """The error that a login ends with."""
    with pytest.raises(RunbookError) as caught:
        await said(given)
    return caught.value


def ssh_keygen(*arguments: str) -> None:
    """OpenSSH's own tool, on a file of pinned keys."""
    subprocess.run(["ssh-keygen", *arguments], check=True, capture_output=True)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# keys


async def test_a_key_file_logs_in_and_the_host_key_is_shown(server: ServerUnderTest) -> None:
    """The operator's key opens the connection, which tells the fingerprint of the host key it has verified."""
    connection = await connect(login(server))
    assert (await connection.ssh.run("whoami")).exit_status == 0
    assert connection.host_key == asyncssh.import_public_key(host_key(server)).get_fingerprint()
    await connection.close()


async def test_an_agent_logs_in(server: ServerUnderTest, agent: Agent) -> None:
    """Without client_key the keys of a real ssh-agent are offered."""
    agent.add(Path(server.parameters["client_key"]))
    assert await said(login(server, client_key=""))


async def test_an_agent_that_is_gone_is_no_obstacle(bastion: RealHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSH_AUTH_SOCK may lead nowhere: what else there is gets its turn."""
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nonexistent/agent")
    assert await said(login(bastion, client_key="", password=SUDO_PASSWORD)) == "admin"


async def test_few_keys_are_offered(bastion: RealHost, agent: Agent, tmp_path: Path) -> None:
    """Of many keys in the agent three are offered, so that one password attempt still fits into MaxAuthTries 4."""
    sshd(bastion, "LogLevel VERBOSE")
    for number in range(6):
        agent.add(keypair(tmp_path / f"key{number}", kind="rsa" if number == 1 else "ed25519"))
    agent.add(Path(bastion.parameters["client_key"]))
    error = await refused(login(bastion, client_key="", password="wrong"))
    assert isinstance(error, Unreachable)
    assert sshd_log(bastion).count("Failed publickey") == 3
    assert sshd_log(bastion).count("Failed password") == 1


async def test_the_key_that_ssh_config_names_comes_first(bastion: RealHost, agent: Agent, tmp_path: Path) -> None:
    """A key with a passphrase is found in a crowded agent by the IdentityFile that names it."""
    named = keypair(tmp_path / "named", passphrase="passphrase")
    bastion.run(f"cat >>/home/admin/.ssh/authorized_keys <<'END'\n{named.with_suffix('.pub').read_text()}END\n")
    for number in range(4):
        agent.add(keypair(tmp_path / f"key{number}"))
    agent.add(named)
    config = tmp_path / "config"
    config.write_text(f"Host {bastion.address}\n  IdentityFile {named}\n")
    assert await said(login(bastion, client_key="", ssh_config=str(config))) == "admin"
    config.write_text("")
    await refused(login(bastion, client_key="", ssh_config=str(config)))


async def test_a_key_that_cannot_be_used_is_named(bastion: RealHost, tmp_path: Path) -> None:
    """A client_key with a passphrase or without a file is refused with what to do, and so is a missing ssh_config."""
    locked = keypair(tmp_path / "locked", passphrase="passphrase")
    error = await refused(login(bastion, client_key=str(locked)))
    assert "ssh-agent" in error.todo
    assert "client_key" in (await refused(login(bastion, client_key=str(tmp_path / "none")))).todo
    assert "ssh_config" in (await refused(login(bastion, ssh_config=str(tmp_path / "none")))).what


# passwords


@pytest.mark.parametrize("method", ["keyboard-interactive", "password"])
async def test_a_password_logs_in(bastion: RealHost, method: str) -> None:
    """A password is given by keyboard-interactive where the server has that, else by the password method."""
    sshd(bastion, "KbdInteractiveAuthentication yes" if method == "keyboard-interactive" else "LogLevel VERBOSE")
    assert await said(login(bastion, client_key="", password=SUDO_PASSWORD)) == "admin"
    assert f"Accepted {method}" in sshd_log(bastion)


@pytest.mark.parametrize("also", ["yes", "no"])
async def test_a_wrong_password_is_tried_once(bastion: RealHost, also: str) -> None:
    """A server that takes passwords by two methods and asks again hears one attempt, so that nobody is locked out."""
    sshd(bastion, f"KbdInteractiveAuthentication {also}\\nLogLevel VERBOSE")
    error = await refused(login(bastion, client_key="", password="wrong password"))
    wait_until(lambda: "Connection closed" in sshd_log(bastion))
    log = sshd_log(bastion)
    assert log.count("PAM: Authentication failure") + log.count("Failed password") == 1
    assert "one attempt" in error.why
    assert "ssh_password" in error.todo
    assert "wrong password" not in str(error)


async def test_the_embedded_server_counts_one_attempt_too(practice: EmbeddedHost) -> None:
    """With a key that is refused first, the password is still offered exactly once."""
    await refused(login(practice, client_key="", password="wrong"))
    assert practice.practice.password_attempts == 1


async def test_without_a_password_none_is_tried(practice: EmbeddedHost, tmp_path: Path) -> None:
    """Keys alone: a refused key ends the login, and the error says that no password was sent."""
    error = await refused(login(practice, client_key=str(keypair(tmp_path / "other"))))
    assert practice.practice.password_attempts == 0
    assert "keys alone" in error.why


async def test_an_expired_password_says_what_to_do(bastion: RealHost) -> None:
    """Where PAM wants a new password during the login, none is chosen: the operator is told to do it by hand."""
    sshd(bastion, "KbdInteractiveAuthentication yes")
    bastion.run("chage -d 0 admin")
    error = await refused(login(bastion, client_key="", password=SUDO_PASSWORD))
    assert isinstance(error, Unreachable)
    assert "expired" in error.what
    assert "by hand" in error.todo


async def test_a_login_shows_no_password() -> None:
    """Neither password is in the text of a login."""
    given = Login("host", password="secret-one", bastion_passwords={"bastion": "secret-two"})
    assert "secret" not in repr(given)


# agents


@pytest.mark.parametrize("forward", ["yes", ""], ids=["yes", "a socket"])
async def test_no_agent_is_forwarded(bastion: RealHost, agent: Agent, tmp_path: Path, forward: str) -> None:
    """`ForwardAgent` is honoured by asyncssh and not by us: there is no agent's socket on the server."""
    agent.add(Path(bastion.parameters["client_key"]))
    config = tmp_path / "config"
    config.write_text(f"Host *\n  ForwardAgent {forward or agent.socket}\n")
    show = 'echo "<$SSH_AUTH_SOCK>"'
    async with asyncssh.connect(
        bastion.address, username="admin", config=[config], known_hosts=bastion.parameters["known_hosts"]
    ) as control:
        assert "/agent" in str((await control.run(show)).stdout)
    for key in ("", bastion.parameters["client_key"]):
        assert await said(login(bastion, client_key=key, ssh_config=str(config)), show) == "<>"


# host keys


async def test_an_unknown_host_key_is_refused_with_what_to_do(server: ServerUnderTest, tmp_path: Path) -> None:
    """The fingerprint as shown, and where to compare it and how to pin it; no secret was sent."""
    error = await refused(login(server, known_hosts=str(tmp_path / "none"), password="never sent"))
    assert isinstance(error, HostKeyUnknown)
    assert asyncssh.import_public_key(host_key(server)).get_fingerprint() in error.why
    assert f"runbook trust {server.parameters['host']}" in error.todo
    if isinstance(server, EmbeddedHost):
        assert server.practice.password_attempts == 0


async def test_a_changed_host_key_is_told_apart(server: ServerUnderTest, tmp_path: Path) -> None:
    """Both fingerprints, and the very command that removes the old line."""
    known = tmp_path / "known_hosts"
    known.write_text(f"{hostkeys.place(server.parameters['host'], server.parameters['ssh_port'])} {FOREIGN_KEY}\n")
    error = await refused(login(server, known_hosts=str(known)))
    assert isinstance(error, HostKeyChanged)
    assert asyncssh.import_public_key(host_key(server)).get_fingerprint() in error.why
    assert asyncssh.import_public_key(FOREIGN_KEY).get_fingerprint() in error.why
    ssh_keygen(*error.todo.split("`")[1].replace("'", "").split()[1:])
    assert isinstance(await refused(login(server, known_hosts=str(known))), HostKeyUnknown)


async def test_hashed_names_are_found(server: ServerUnderTest, tmp_path: Path) -> None:
    """known_hosts as `ssh-keygen -H` leaves it works, with and without a port."""
    known = tmp_path / "known_hosts"
    shutil.copy(server.parameters["known_hosts"], known)
    ssh_keygen("-H", "-f", str(known))
    assert server.parameters["host"] not in known.read_text()
    assert await said(login(server, known_hosts=str(known)))


async def test_a_key_pinned_without_a_port_is_taken_but_no_other_is_called_changed(
    practice: EmbeddedHost, tmp_path: Path
) -> None:
    """As with OpenSSH: host alone may vouch for host:port; another key there is another server, not a changed one."""
    known = tmp_path / "known_hosts"
    known.write_text(f"127.0.0.1 {host_key(practice)}\n")
    assert await said(login(practice, known_hosts=str(known)))
    known.write_text(f"127.0.0.1 {FOREIGN_KEY}\n")
    assert isinstance(await refused(login(practice, known_hosts=str(known))), HostKeyUnknown)
    pin(await show_key(login(practice, known_hosts=str(known))))
    assert await said(login(practice, known_hosts=str(known)))


async def test_a_key_pinned_for_the_address_does_not_vouch_for_a_name(practice: EmbeddedHost, tmp_path: Path) -> None:
    """Whoever answers for the name server cannot send us to another server that we know."""
    error = await refused(login(practice, host="localhost"))
    assert isinstance(error, HostKeyUnknown)
    known = tmp_path / "known_hosts"
    known.write_text(f"[localhost]:{practice.practice.ssh_port} {host_key(practice)}\n")
    assert await said(login(practice, host="localhost", known_hosts=str(known)))


async def test_a_revoked_key_is_refused(practice: EmbeddedHost, tmp_path: Path) -> None:
    """A key marked @revoked is neither taken nor offered to be pinned, even beside a line that pins it."""
    known = tmp_path / "known_hosts"
    own = Path(practice.parameters["known_hosts"]).read_text()
    known.write_text(f"{own}@revoked {own}")
    error = await refused(login(practice, known_hosts=str(known)))
    assert isinstance(error, HostKeyChanged)
    assert "revoked" in error.what
    with pytest.raises(HostKeyChanged, match="is revoked") as caught:
        await show_key(login(practice, known_hosts=str(known)))
    assert "ssh-keygen -R" not in str(caught.value)


async def test_the_way_back_by_hand_finds_a_file_with_a_blank_in_its_path(
    practice: EmbeddedHost, tmp_path: Path
) -> None:
    """OpenSSH takes a blank for the end of a file's name, unless the name is quoted."""
    folder = tmp_path / "a person"
    folder.mkdir()
    known = Path(shutil.copy(practice.parameters["known_hosts"], folder))
    given = login(practice, known_hosts=str(known))
    line = [
        "ssh",
        "-F",
        "/dev/null",
        "-o",
        "StrictHostKeyChecking=yes",
        "-p",
        str(given.port),
        *given.ssh_options,
        f"{given.user}@{given.host}",
        "true",
    ]
    by_hand = await asyncio.create_subprocess_exec(*line, stdin=subprocess.DEVNULL)
    assert await by_hand.wait() == 0


async def test_a_damaged_known_hosts_is_no_crash(practice: EmbeddedHost, tmp_path: Path) -> None:
    """The file is named, and nobody is contacted."""
    known = tmp_path / "known_hosts"
    known.write_text("one-word\n")
    error = await refused(login(practice, known_hosts=str(known)))
    assert isinstance(error, Unreachable)
    assert str(known) in error.what


@pytest.mark.parametrize("nowhere", ["none", "/dev/null", "elsewhere"])
async def test_ssh_config_cannot_switch_the_check_off(
    bastion: RealHost, home: Path, tmp_path: Path, nowhere: str
) -> None:
    """`StrictHostKeyChecking no` and a UserKnownHostsFile of nothing change nothing, and a key can still be pinned."""
    config = tmp_path / "config"
    config.write_text(f"Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile {nowhere}\n")
    given = login(bastion, known_hosts="", ssh_config=str(config))
    assert isinstance(await refused(given), HostKeyUnknown)
    if nowhere == "elsewhere":
        return
    key = await show_key(given)
    assert key.file == home / ".ssh/known_hosts"
    pin(key)
    assert await said(given) == "admin"


async def test_an_alias_of_ssh_config_works(bastion: RealHost, home: Path) -> None:
    """HostName, Port, UserKnownHostsFile and HostKeyAlias of `~/.ssh/config` count, as for `ssh alias`."""
    known = home / "pinned"
    known.write_text(f"the-bastion {host_key(bastion)}\n")
    (home / ".ssh/config").write_text(
        f"Host gate\n  HostName {bastion.address}\n  HostKeyAlias the-bastion\n  UserKnownHostsFile {known}\n"
    )
    assert await said(login(bastion, host="gate", known_hosts="")) == "admin"
    known.write_text(f"{bastion.address} {host_key(bastion)}\n")
    error = await refused(login(bastion, host="gate", known_hosts=""))
    assert isinstance(error, HostKeyUnknown)
    assert "the-bastion" in error.what


# pinning


async def test_trust_pins_what_was_shown(server: ServerUnderTest, tmp_path: Path) -> None:
    """The key is shown as people compare it, lands in a file of our own, and is known from then on."""
    known = tmp_path / "deep/known_hosts"
    given = login(server, known_hosts=str(known))
    key = await show_key(given)
    assert asyncssh.import_public_key(host_key(server)).get_fingerprint() in key.text
    assert not key.pinned
    assert not known.exists()
    pin(key)
    assert (known.stat().st_mode & 0o777, known.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert await said(given)
    again = await show_key(given)
    assert again.pinned
    assert "already" in again.text


async def test_trust_keeps_the_lines_that_are_there(server: ServerUnderTest, tmp_path: Path) -> None:
    """A file whose last line has no end does not swallow the new line, and nothing else in it changes."""
    known = tmp_path / "known_hosts"
    known.write_text(f"other.example {FOREIGN_KEY}")
    given = login(server, known_hosts=str(known))
    pin(await show_key(given))
    first, second = known.read_text().splitlines()
    assert first == f"other.example {FOREIGN_KEY}"
    assert host_key(server) in second
    assert await said(given)


async def test_trust_refuses_a_changed_key(server: ServerUnderTest, tmp_path: Path) -> None:
    """What is pinned is never pinned over."""
    known = tmp_path / "known_hosts"
    known.write_text(f"{hostkeys.place(server.parameters['host'], server.parameters['ssh_port'])} {FOREIGN_KEY}\n")
    with pytest.raises(HostKeyChanged, match="not the pinned one"):
        await show_key(login(server, known_hosts=str(known)))


async def test_a_pinned_key_of_another_kind_is_asked_for(bastion: RealHost, tmp_path: Path) -> None:
    """A server with several host keys is known by any one of them, for a login and for trust."""
    bastion.run("ls /etc/ssh/ssh_host_rsa_key || ssh-keygen -q -t rsa -N '' -f /etc/ssh/ssh_host_rsa_key")
    sshd(bastion, "HostKey /etc/ssh/ssh_host_rsa_key\\nHostKey /etc/ssh/ssh_host_ed25519_key")
    known = tmp_path / "known_hosts"
    given = login(bastion, known_hosts=str(known))
    for kind in ("ed25519", "rsa"):
        known.write_text(f"{bastion.address} {bastion.path(f'/etc/ssh/ssh_host_{kind}_key.pub').read_text()}")
        assert await said(given) == "admin"
        assert (await show_key(given)).pinned
    bastion.run("sed -i '/ssh_host_rsa_key/d' /etc/ssh/sshd_config")
    sshd(bastion, "LogLevel VERBOSE")
    error = await refused(given)
    assert isinstance(error, HostKeyChanged)
    assert "ssh-ed25519" in error.why


# bastions


async def test_each_hop_has_a_secret_and_a_host_key_of_its_own(
    bastions: tuple[RealHost, RealHost], real: RealHost, tmp_path: Path
) -> None:
    """A password for the first bastion, a key of ssh_config for the second, client_key for the server; all pinned."""
    first, second = bastions
    first.run("mv /home/admin/.ssh/authorized_keys /home/admin/.ssh/put-aside")
    known = tmp_path / "known_hosts"
    known.write_text("".join(Path(host.parameters["known_hosts"]).read_text() for host in (first, second, real)))
    config = tmp_path / "config"
    config.write_text(
        f"Host {real.address}\n  ProxyJump admin@{first.address}:22,{second.address}\n"
        f"Host {second.address}\n  User admin\n  IdentityFile {second.parameters['client_key']}\n"
    )
    given = login(
        real, known_hosts=str(known), ssh_config=str(config), bastion_passwords={first.address: SUDO_PASSWORD}
    )
    try:
        assert await said(given, "hostname") == "apstra"
        assert "Accepted password" in sshd_log(first)
        assert "Accepted publickey" in sshd_log(second)
        wrong = login(real, known_hosts=str(known), ssh_config=str(config), bastion_passwords={first.address: "wrong"})
        error = await refused(wrong)
        assert first.address in error.what
        assert "bastion_passwords" in error.todo
        wait_until(lambda: "Connection closed by authenticating" in sshd_log(first))
        assert sshd_log(first).count("Failed password") == 1
    finally:
        first.run("mv /home/admin/.ssh/put-aside /home/admin/.ssh/authorized_keys")


def through(bastion: RealHost, target: RealHost, folder: Path, jump: str = "") -> Login:
    """A login through a bastion by key, both pinned."""
    known, config = folder / "known_hosts", folder / "config"
    known.write_text("".join(Path(host.parameters["known_hosts"]).read_text() for host in (bastion, target)))
    config.write_text(
        f"Host {bastion.address}\n  User admin\n  IdentityFile {bastion.parameters['client_key']}\n"
        f"Host 127.*\n  ProxyJump {jump or bastion.address}\n"
    )
    return login(target, known_hosts=str(known), ssh_config=str(config))


async def test_a_bastion_that_its_own_rule_covers_is_no_circle(
    bastions: tuple[RealHost, RealHost], tmp_path: Path
) -> None:
    """`Host *` with a ProxyJump holds for the bastion too; OpenSSH skips it there, and so do we."""
    assert await said(through(*bastions, tmp_path), "hostname") == "second"


async def test_a_bastion_may_be_behind_another(
    bastions: tuple[RealHost, RealHost], real: RealHost, tmp_path: Path
) -> None:
    """A bastion's own ProxyJump in ssh_config is followed; a circle of them is refused."""
    first, second = bastions
    known, config = tmp_path / "known_hosts", tmp_path / "config"
    known.write_text("".join(Path(host.parameters["known_hosts"]).read_text() for host in (first, second, real)))
    keys = "".join(
        f"Host {host.address}\n  User admin\n  IdentityFile {host.parameters['client_key']}\n" for host in bastions
    )
    config.write_text(
        f"{keys}Host {real.address}\n  ProxyJump {second.address}\nHost {second.address}\n  ProxyJump {first.address}\n"
    )
    given = login(real, known_hosts=str(known), ssh_config=str(config))
    assert await said(given, "hostname") == "apstra"
    assert "Accepted publickey" in sshd_log(first)
    config.write_text(
        f"Host {real.address}\n  ProxyJump {second.address}\nHost {second.address}\n  ProxyJump {first.address}\n"
        f"Host {first.address}\n  ProxyJump {second.address}\n"
    )
    assert "circle" in (await refused(given)).todo


@pytest.mark.parametrize("pinned", ["", FOREIGN_KEY], ids=["unknown", "changed"])
async def test_a_bastions_host_key_is_verified(
    bastions: tuple[RealHost, RealHost], tmp_path: Path, pinned: str
) -> None:
    """A bastion with an unknown or changed key is named, gets no secret, and nothing goes through it."""
    first, second = bastions
    given = through(first, second, tmp_path)
    known = tmp_path / "known_hosts"
    line = f"{first.address} {pinned}\n" if pinned else ""
    known.write_text(line + Path(second.parameters["known_hosts"]).read_text())
    error = await refused(given)
    assert isinstance(error, HostKeyChanged if pinned else HostKeyUnknown)
    assert first.address in error.what
    if not pinned:
        assert f"runbook trust {first.address}" in error.todo
    assert "Accepted" not in sshd_log(first)
    assert "Connection" not in sshd_log(second)


async def test_trust_works_through_a_bastion(bastions: tuple[RealHost, RealHost], tmp_path: Path) -> None:
    """The key of a server that only the bastion reaches is shown and pinned; the bastion must be known before."""
    first, second = bastions
    given = through(first, second, tmp_path)
    known = tmp_path / "known_hosts"
    known.write_text(Path(first.parameters["known_hosts"]).read_text())
    error = await refused(given)
    assert isinstance(error, HostKeyUnknown)
    assert second.address in error.what
    pin(await show_key(given))
    assert await said(given, "hostname") == "second"
    known.write_text("")
    with pytest.raises(HostKeyUnknown, match=first.address):
        await show_key(given)


async def test_a_server_that_the_bastion_does_not_reach(bastions: tuple[RealHost, RealHost], tmp_path: Path) -> None:
    """The hop that could not be opened is named, for a login and for trust."""
    given = through(*bastions, tmp_path)
    closed = Login(
        given.host, 9, known_hosts=given.known_hosts, ssh_config=given.ssh_config, client_key=given.client_key
    )
    error = await refused(closed)
    assert isinstance(error, Unreachable)
    assert given.host in error.what
    with pytest.raises(Unreachable):
        await show_key(closed)


async def test_closing_closes_every_hop(bastions: tuple[RealHost, RealHost], tmp_path: Path) -> None:
    """Nothing stays open on a bastion, neither after a connection nor after a login that failed behind it."""
    first, second = bastions
    sessions = "pgrep -cf '^sshd: admin'"
    connection = await connect(through(first, second, tmp_path))
    assert first.run(sessions).stdout != "0\n"
    await connection.close()
    wait_until(lambda: first.run(sessions).stdout == "0\n")
    given = through(first, second, tmp_path)
    (tmp_path / "known_hosts").write_text(Path(first.parameters["known_hosts"]).read_text())
    await refused(given)
    wait_until(lambda: first.run(sessions).stdout == "0\n")


# no connection


async def test_nothing_listens() -> None:
    """A refused connection is said at once, with what to look at."""
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = await refused(Login("127.0.0.1", port))
    assert isinstance(error, Unreachable)
    assert "ssh_port" in error.todo
    assert time.monotonic() - begun < 2


async def test_a_black_hole_ends_within_the_limit(silent_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes a connection and says nothing is given up, by a login and by trust."""
    monkeypatch.setattr(room, "CONNECT_LIMIT_S", 0.3)
    monkeypatch.setattr(hostkeys, "SHOW_LIMIT_S", 0.3)
    begun = time.monotonic()
    error = await refused(Login("127.0.0.1", silent_port))
    assert isinstance(error, Unreachable)
    assert error.why
    with pytest.raises(Unreachable):
        await show_key(Login("127.0.0.1", silent_port))
    assert time.monotonic() - begun < 2


async def test_something_that_is_not_ssh(practice: EmbeddedHost) -> None:
    """A TLS port, and a server that greets in another protocol, are no SSH server, and that is said."""
    assert isinstance(await refused(Login("127.0.0.1", practice.practice.https_port)), Unreachable)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n" * 3)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await refused(Login("127.0.0.1", port))
    assert isinstance(error, Unreachable)
    assert error.why


async def test_a_name_that_does_not_resolve() -> None:
    """It is the name that is at fault, and the error says which."""
    error = await refused(Login("no-such-host.invalid"))
    assert isinstance(error, Unreachable)
    assert "no-such-host.invalid" in error.what


# a connection that breaks


async def test_a_cut_connection_ends_the_waiting(server: ServerUnderTest) -> None:
    """Who waits for the server when the connection is cut hears of it at once."""
    connection = await connect(login(server))
    process = await connection.ssh.create_process("sleep 30")
    await asyncio.to_thread(cut, server)
    async with asyncio.timeout(5):
        with contextlib.suppress(asyncssh.Error):
            await process.wait()
    await connection.close()


async def test_a_server_that_falls_silent_is_noticed_and_left(
    bastion: RealHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an answer to keepalives the connection counts as lost; closing one that is stuck does not hang."""
    monkeypatch.setattr(room, "KEEPALIVE_S", 0.2)
    connection = await connect(login(bastion))
    process = await connection.ssh.create_process("sleep 30")
    bastion.run("pkill -STOP -f '^sshd: admin'")
    async with asyncio.timeout(5):
        with contextlib.suppress(asyncssh.Error):
            await process.wait()
        await connection.close()
