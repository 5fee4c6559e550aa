"""The SSH connection to a server: every hop opened by us, its host key verified, at most one password attempt."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import asyncssh

from runbook_lib.errors import HostKeyChanged, HostKeyUnknown, Unreachable

CONNECT_LIMIT_S = 15
LOGIN_LIMIT_S = 30
MOST_KEYS = 3  # with one password attempt that stays inside a hardened MaxAuthTries of 4
MOST_HOPS = 4
_EXPIRED = ("password has expired", "Password change required", "password change")


@dataclass(frozen=True, slots=True)
class Login:
    """How to reach a server.

    Attributes:
        host: Name, IP address or ssh_config alias.
        port: TCP port; 22 leaves it to ssh_config.
        user: Login name.
        known_hosts: Files of pinned host keys; empty: ssh_config's UserKnownHostsFile, then `~/.ssh/known_hosts`.
        client_key: Private key file; empty: agent, then ssh_config and the usual files.
        ssh_config: OpenSSH client configuration file; empty: `~/.ssh/config` where it exists.
        password: The login's password; None: keys alone.
        bastion_passwords: Passwords by the bastion's name as ProxyJump writes it.
    """

    host: str
    port: int = 22
    user: str = "admin"
    known_hosts: str = ""
    client_key: str = ""
    ssh_config: str = ""
    password: str | None = field(default=None, repr=False)
    bastion_passwords: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class _Hop:
    """One connection on the way: the name as the user wrote it, and how to log in there."""

    name: str
    port: int | None
    user: str | None
    client_key: str
    password: str | None = field(repr=False)


class Connection:
    """A logged-in connection with the hops it runs through."""

    def __init__(self, ssh: asyncssh.SSHClientConnection, hops: Sequence[asyncssh.SSHClientConnection]) -> None:
        self.ssh, self._hops = ssh, tuple(hops)

    @property
    def host_key(self) -> str:
        """The server's host key as OpenSSH shows it, `SHA256:…`."""
        key = self.ssh.get_server_host_key()
        return key.get_fingerprint() if key else ""

    async def close(self) -> None:
        """Closes the connection and every hop, the last one first."""
        for each in (self.ssh, *reversed(self._hops)):
            each.close()
            await each.wait_closed()


async def connect(login: Login) -> Connection:
    """Opens the connection, through the bastions that ssh_config's ProxyJump names.

    Raises:
        HostKeyUnknown: A hop's host key was never pinned.
        HostKeyChanged: A hop showed another host key than the pinned one.
        Unreachable: No connection, or the login was turned down.
    """
    hops = await _open_hops(login, login.host, depth=0)
    hop = _Hop(
        login.host,
        None if login.port == asyncssh.DEFAULT_PORT else login.port,
        login.user,
        login.client_key,
        login.password,
    )
    try:
        return Connection(await _open(login, hop, hops), hops)
    except BaseException:
        for each in reversed(hops):
            each.close()
        raise


async def read_host_key(login: Login) -> tuple[asyncssh.SSHKey, str, int, str]:
    """The host key that a server shows, not verified, for a person to judge.

    Returns:
        The key; the name and port it would be pinned under; and the file it would be pinned in.

    Raises:
        Unreachable: The server or a bastion did not answer.
    """
    hops = await _open_hops(login, login.host, depth=0)
    try:
        options = await _options(
            login, _Hop(login.host, None if login.port == asyncssh.DEFAULT_PORT else login.port, login.user, "", None)
        )
        key = await _shown_key(options, hops[-1] if hops else None)
    finally:
        for each in reversed(hops):
            each.close()
    if key is None:
        raise Unreachable(
            "the server showed no host key", server=login.host, todo="check host, ssh_port and the network"
        )
    return key, options.host_key_alias or options.host, options.port, _known_hosts_files(login, options)[0]


async def _open_hops(login: Login, name: str, *, depth: int) -> list[asyncssh.SSHClientConnection]:
    """Opens the bastions on the way to `name`, the nearest first."""
    if depth > MOST_HOPS:
        raise Unreachable(
            f"more than {MOST_HOPS} bastions in a row", server=login.host, todo="look for a circle in ProxyJump"
        )
    options = await _options(login, _Hop(name, None, None, "", None))
    hops: list[asyncssh.SSHClientConnection] = []
    for text in options.tunnel.split(",") if isinstance(options.tunnel, str) else ():
        hop = _parse_hop(text, login)
        if not hops:
            hops += await _open_hops(login, hop.name, depth=depth + 1)
        try:
            hops.append(await _open(login, hop, hops))
        except BaseException:
            for each in reversed(hops):
                each.close()
            raise
    return hops


def _parse_hop(text: str, login: Login) -> _Hop:
    user, _, place = text.strip().removeprefix("ssh://").rpartition("@")
    name, _, port = place.rpartition(":") if place.count(":") == 1 or "]:" in place else (place, "", "")
    bare = name.strip("[]")
    password = login.bastion_passwords.get(bare, login.bastion_passwords.get(text.strip()))
    return _Hop(bare, int(port) if port.isdigit() else None, user or None, "", password)


async def _options(login: Login, hop: _Hop) -> asyncssh.SSHClientConnectionOptions:
    """The options for one hop as ssh_config and the parameters give them, never with an agent forwarded."""
    config = Path(login.ssh_config).expanduser() if login.ssh_config else Path("~/.ssh/config").expanduser()
    if login.ssh_config and not config.exists():
        raise Unreachable(f"ssh_config {config} is not there", server=login.host, todo="correct ssh_config")
    settings: dict[str, Any] = {"config": [str(config)] if config.exists() else None, "host": hop.name}
    if hop.port:
        settings["port"] = hop.port
    if hop.user:
        settings["username"] = hop.user
    if hop.client_key:
        settings["client_keys"] = [str(Path(hop.client_key).expanduser())]
        settings["agent_path"] = None
    try:
        options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
            **settings, agent_forwarding=False, x11_forwarding=False
        )
    except (asyncssh.Error, OSError, ValueError) as error:
        raise Unreachable(
            f"the SSH settings for {hop.name} cannot be used", server=login.host, why=str(error),
            todo="correct client_key or ssh_config; a key with a passphrase goes into ssh-agent",
        ) from None  # fmt: skip
    return options


def _known_hosts_files(login: Login, options: asyncssh.SSHClientConnectionOptions) -> list[str]:
    configured = cast("list[str]", options.config.get("UserKnownHostsFile", []))
    named = [login.known_hosts] if login.known_hosts else configured or ["~/.ssh/known_hosts"]
    return [str(Path(each).expanduser()) for each in named]


def _known_hosts(login: Login, options: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHKnownHosts:
    files = [each for each in _known_hosts_files(login, options) if Path(each).is_file()]
    try:
        return asyncssh.read_known_hosts(files)
    except (OSError, ValueError) as error:
        raise Unreachable(
            f"{', '.join(files)} cannot be read as pinned host keys",
            server=login.host,
            why=str(error),
            todo="correct the file",
        ) from None


async def _keys(options: asyncssh.SSHClientConnectionOptions, agent: asyncssh.SSHAgentClient | None) -> list[Any]:
    """The agent's keys, then the files', so few that the server does not cut us off."""
    offered = list(await agent.get_keys(options.agent_identities)) if agent else []
    return [*offered, *(options.client_keys or ())][:MOST_KEYS]


async def _open(login: Login, hop: _Hop, via: Sequence[asyncssh.SSHClientConnection]) -> asyncssh.SSHClientConnection:
    options = await _options(login, hop)
    known = _known_hosts(login, options)
    tunnel = via[-1] if via else None
    agent = await _agent(options)
    try:
        return await asyncssh.connect(
            hop.name,
            options=options,
            config=None,
            known_hosts=known,
            tunnel=tunnel,
            client_keys=await _keys(options, agent) or None,
            agent_path=None,
            password=hop.password,
            preferred_auth=("publickey", *(("keyboard-interactive", "password") if hop.password is not None else ())),
            connect_timeout=CONNECT_LIMIT_S,
            login_timeout=LOGIN_LIMIT_S,
            keepalive_interval=10,
            keepalive_count_max=3,
        )
    except (asyncssh.HostKeyNotVerifiable, asyncssh.KeyExchangeFailed) as error:
        raise await _host_key_error(login, options, known, tunnel, error) from None
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise _login_error(login, hop, error) from None
    finally:
        if agent:
            agent.close()


async def _agent(options: asyncssh.SSHClientConnectionOptions) -> asyncssh.SSHAgentClient | None:
    if not options.agent_path:
        return None
    try:
        return await asyncssh.connect_agent(options.agent_path)
    except OSError:
        return None


async def _shown_key(
    options: asyncssh.SSHClientConnectionOptions, tunnel: asyncssh.SSHClientConnection | None
) -> asyncssh.SSHKey | None:
    try:
        async with asyncio.timeout(CONNECT_LIMIT_S):
            return await asyncssh.get_server_host_key(options.host, options.port, tunnel=tunnel or ())
    except (asyncssh.Error, OSError, TimeoutError):
        return None


async def _host_key_error(
    login: Login,
    options: asyncssh.SSHClientConnectionOptions,
    known: asyncssh.SSHKnownHosts,
    tunnel: asyncssh.SSHClientConnection | None,
    error: Exception,
) -> Unreachable | HostKeyUnknown | HostKeyChanged:
    key = await _shown_key(options, tunnel)
    if key is None:
        return Unreachable(
            f"no SSH session with {options.host}", server=login.host, why=str(error), todo="check host and ssh_port"
        )
    shown = f"{key.get_algorithm()} {key.get_fingerprint()}"
    name = options.host_key_alias or options.host
    pinned = known.match(name, "", options.port)[0]
    if key in pinned and isinstance(error, asyncssh.KeyExchangeFailed):
        return Unreachable(
            f"no SSH session with {options.host}",
            server=login.host,
            why=str(error),
            todo="compare the algorithms of both sides",
        )
    if pinned:
        was = ", ".join(f"{each.get_algorithm()} {each.get_fingerprint()}" for each in pinned)
        return HostKeyChanged(
            f"the host key of {name} is not the pinned one",
            server=login.host, why=f"shown {shown}, pinned {was}",
            todo=f"ask who manages the server whether it was set up anew; if so, remove the old line (`ssh-keygen -R {name}`) and run `runbook trust`",
        )  # fmt: skip
    return HostKeyUnknown(
        f"the host key of {name} was never pinned",
        server=login.host, why=f"shown {shown}",
        todo=f"compare it with the server's own (`ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub` at its console), then run `runbook trust {login.host}`",
    )  # fmt: skip


def _login_error(login: Login, hop: _Hop, error: Exception) -> Unreachable:
    text = str(error)
    if isinstance(error, asyncssh.PermissionDenied):
        if any(sign in text for sign in _EXPIRED):
            return Unreachable(
                f"the password of {hop.user} on {hop.name} has expired", server=login.host, why=text,
                todo="log in once by hand (`ssh`), set a new password, then run again",
            )  # fmt: skip
        what = f"{hop.name} turned the login of {hop.user or 'the user'} down"
        return Unreachable(
            what, server=login.host, why=text,
            todo="check user, client_key and ssh_password (bastion_passwords for a bastion); one attempt was made",
        )  # fmt: skip
    why = text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return Unreachable(
        f"no SSH connection to {hop.name}", server=login.host, why=why, todo="check host, ssh_port and the network"
    )
