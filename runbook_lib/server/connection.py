"""The SSH connection to a server: every hop opened by us, its host key verified, at most one password attempt."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import asyncssh

from runbook_lib.errors import Unreachable
from runbook_lib.server.hostkeys import PinnedKeys, host_key_error, pinned_files, shown_key

CONNECT_LIMIT_S = 15
LOGIN_LIMIT_S = 30
CLOSE_LIMIT_S = 5
KEEPALIVE_S = 10
MOST_MISSED = 3
MOST_KEYS = 3  # with one password attempt that stays inside a hardened MaxAuthTries of 4
MOST_HOPS = 4
# OpenSSH hangs up where the pinned key is of a kind that it no longer has
_PERHAPS_THE_HOST_KEY = (
    asyncssh.HostKeyNotVerifiable,
    asyncssh.KeyExchangeFailed,
    asyncssh.ConnectionLost,
    ConnectionResetError,
)
_EXPIRED = ("expired", "change your password", "password change", "changing password")


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

    @property
    def ssh_options(self) -> tuple[str, ...]:
        """What makes OpenSSH's client take the same configuration, key and pinned host keys, where they were given."""
        configuration = ("-F", self.ssh_config) if self.ssh_config else ()
        key = ("-i", self.client_key) if self.client_key else ()
        file = f'"{self.known_hosts}"' if " " in self.known_hosts else self.known_hosts  # else ssh takes it for two
        pinned = ("-o", f"UserKnownHostsFile={file}") if file else ()
        return (*configuration, *key, *pinned)


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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_LIMIT_S):
                for each in (self.ssh, *reversed(self._hops)):
                    each.close()
                    await each.wait_closed()


class _Client(asyncssh.SSHClient):
    """Answers for a hop's password once, and only to a question for a password that is not shown while it is typed."""

    def __init__(self, password: str | None) -> None:
        self._password, self.expired = password, False

    def password_auth_requested(self) -> str | None:
        """Gives the password away: there is no second attempt with any method."""
        password, self._password = self._password, None
        return password

    def password_change_requested(self, prompt: str, lang: str) -> Any:  # noqa: ANN401 - asyncssh's own NotImplemented
        """No new password is ever chosen by us."""
        self.expired = True
        return super().password_change_requested(prompt, lang)

    def kbdint_auth_requested(self) -> str | None:
        """Takes part in keyboard-interactive while the password is still there."""
        return None if self._password is None else ""

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str] | None:
        """Answers the one question that is ours to answer, and notices a password that has expired."""
        del lang
        said = " ".join([name, instructions, *(text for text, _ in prompts)]).lower()
        if any(sign in said for sign in _EXPIRED):
            self.expired = True
            return None
        if not prompts:
            return []
        shown_while_typed = prompts[0][1]
        asks = len(prompts) == 1 and "password" in said and not shown_while_typed
        password = self.password_auth_requested() if asks else None
        return None if password is None else [password]


async def connect(login: Login) -> Connection:
    """Opens the connection, through the bastions that ssh_config's ProxyJump names.

    Raises:
        HostKeyUnknown: A hop's host key was never pinned.
        HostKeyChanged: A hop showed another host key than the pinned one.
        Unreachable: No connection, or the login was turned down.
    """
    hops = await _open_hops(login, login.host, depth=0)
    with _closing_on_error(hops):
        return Connection(await _open(login, _target(login), hops), hops)


def _target(login: Login) -> _Hop:
    port = None if login.port == asyncssh.DEFAULT_PORT else login.port
    return _Hop(login.host, port, login.user, login.client_key, login.password)


@contextlib.contextmanager
def _closing_on_error(hops: Sequence[asyncssh.SSHClientConnection]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for each in reversed(hops):
            each.close()
        raise


async def read_host_key(login: Login) -> tuple[asyncssh.SSHKey, str, int, PinnedKeys]:
    """The host key that a server shows, not verified, for a person to judge.

    Returns:
        The key; the name and port it would be pinned under; and the pinned keys.

    Raises:
        Unreachable: The server or a bastion did not answer.
    """
    hops = await _open_hops(login, login.host, depth=0)
    try:
        options = await _options(login, _target(login))
        pinned = _pinned(login, options)
        name = options.host_key_alias or options.host
        key = await shown_key(options, hops[-1] if hops else None, pinned.of(name, options.port)[0])
    finally:
        for each in reversed(hops):
            each.close()
    if key is None:
        raise Unreachable(
            "the server showed no host key", server=login.host, todo="check host, ssh_port and the network"
        )
    return key, name, options.port, pinned


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
        if hop.name == name:  # a pattern that holds for the bastion too; OpenSSH skips it as well
            continue
        with _closing_on_error(hops):
            if not hops:
                hops += await _open_hops(login, hop.name, depth=depth + 1)
            hops.append(await _open(login, hop, hops))
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


def _pinned(login: Login, options: asyncssh.SSHClientConnectionOptions) -> PinnedKeys:
    files = pinned_files(options, login.known_hosts)
    try:
        return PinnedKeys(files)
    except (OSError, ValueError) as error:
        raise Unreachable(
            f"{', '.join(files)} cannot be read as pinned host keys",
            server=login.host,
            why=str(error),
            todo="correct the file",
        ) from None


async def _keys(options: asyncssh.SSHClientConnectionOptions, agent: asyncssh.SSHAgentClient | None) -> list[Any]:
    """The keys that ssh_config names, then the agent's, then the usual files; so few that the server does not cut us off."""
    held = list(await agent.get_keys(options.agent_identities)) if agent else []
    files = list(options.client_keys or ())
    names = cast("list[str]", options.config.get("IdentityFile", []))
    first = {_public_data(name) for name in names} | {key.public_data for key in files if names}
    ordered = sorted([*held, *files], key=lambda key: key.public_data not in first)
    return list({key.public_data: key for key in reversed(ordered)}.values())[::-1][:MOST_KEYS]


def _public_data(name: str) -> bytes:
    """What tells a key in the agent for the one in a file whose passphrase we do not know."""
    try:
        return asyncssh.read_public_key(f"{Path(name).expanduser()}.pub").public_data
    except (OSError, ValueError):
        return b""


async def _open(login: Login, hop: _Hop, via: Sequence[asyncssh.SSHClientConnection]) -> asyncssh.SSHClientConnection:
    options = await _options(login, hop)
    pinned = _pinned(login, options)
    tunnel = via[-1] if via else None
    agent = await _agent(options)
    client = _Client(hop.password)
    try:
        return await asyncssh.connect(
            hop.name,
            options=options,
            config=None,
            client_factory=lambda: client,
            known_hosts=pinned,
            tunnel=tunnel,
            client_keys=await _keys(options, agent) or None,
            agent_path=None,
            preferred_auth=("publickey", *(("keyboard-interactive", "password") if hop.password is not None else ())),
            connect_timeout=CONNECT_LIMIT_S,
            login_timeout=LOGIN_LIMIT_S,
            keepalive_interval=KEEPALIVE_S,
            keepalive_count_max=MOST_MISSED,
        )
    except _PERHAPS_THE_HOST_KEY as error:
        raise await host_key_error(options, pinned, tunnel, error, server=login.host) from None
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise _login_error(login, options, hop, error, expired=client.expired) from None
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


def _login_error(
    login: Login, options: asyncssh.SSHClientConnectionOptions, hop: _Hop, error: Exception, *, expired: bool
) -> Unreachable:
    text = str(error)
    if expired:
        return Unreachable(
            f"the password of {options.username} on {hop.name} has expired", server=login.host, why=text,
            todo="log in once by hand (`ssh`), set a new password, then run again",
        )  # fmt: skip
    if isinstance(error, asyncssh.PermissionDenied):
        tried = "one attempt with the password was made" if hop.password is not None else "keys alone were offered"
        bastion = hop.name != login.host
        password = f"bastion_passwords of {hop.name}" if bastion else "ssh_password"
        return Unreachable(
            f"{hop.name} turned the login of {options.username} down", server=login.host, why=f"{text}; {tried}",
            todo=f"check user, {'ssh_config' if bastion else 'client_key, ssh_config'} and {password}",
        )  # fmt: skip
    why = text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
    return Unreachable(
        f"no SSH connection to {hop.name}", server=login.host, why=why, todo="check host, ssh_port and the network"
    )
