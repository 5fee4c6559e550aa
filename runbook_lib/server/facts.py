"""Facts about the server, its container and what it serves."""

import datetime as dt
import ipaddress
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from runbook_lib.models import Command, Container, FileFact, Mount, Served
from runbook_lib.parameters import is_ip_address
from runbook_lib.server.reading import DOCKER, DOCKER_LIMIT_S, Fact, in_parts

TOOLS = ("docker", "flock", "openssl", "setsid", "sha256sum", "sync", "tar", "timeout")
LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_PROTOCOL = re.compile(r"^\s*Protocol\s*: (TLSv[0-9.]+)", re.MULTILINE)
_CIPHER_OF = re.compile(r"^New, (TLSv[0-9.]+)", re.MULTILINE)  # the oldest protocol that has the cipher
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Identity:
    """What the server says of itself; `clock` is its time, UTC; `systemd`: whether docker is a service of systemd's."""

    hostname: str
    os: str
    openssl: str
    root_uid: int
    clock: dt.datetime
    systemd: bool
    missing_tools: tuple[str, ...]


def identity() -> Fact[Identity]:
    """Host name, system, openssl, user id of the root shell, clock, missing programs."""
    lines = [
        "part hostname; hostname",
        'part os; (. /etc/os-release; echo "$PRETTY_NAME")',
        "part openssl; openssl version",
        "part uid; id -u",
        "part systemd; systemctl is-active docker.service",
        f"part missing; for tool in {' '.join(TOOLS)}; do command -v $tool >/dev/null || echo $tool; done",
        "part clock; date +%s.%N",
    ]

    def process(parts: dict[str, bytes]) -> Identity:
        said = {name: value.decode(errors="replace").strip() for name, value in parts.items()}
        clock = dt.datetime.fromtimestamp(float(said["clock"]), dt.UTC)
        return Identity(
            said["hostname"], said["os"], said["openssl"], int(said["uid"]), clock, said["systemd"] == "active",
            tuple(said["missing"].split()),
        )  # fmt: skip

    return in_parts("who the server is", ":", lines, process)


def containers() -> Fact[tuple[Container, ...]]:
    """Every container docker knows, running or not."""
    script = f"ids=$({DOCKER} ps --all --quiet --no-trunc) || exit; [ -n \"$ids\" ] || {{ echo '[]'; exit; }}; {DOCKER} inspect $ids"

    def process(text: str) -> tuple[Container, ...]:
        return tuple(_container(each) for each in json.loads(text or "[]"))

    return Fact(Command("which containers there are", script, time_limit_s=DOCKER_LIMIT_S), process, slow=True)


def container(container_id: str) -> Fact[Container | None]:
    """One container; None when it is gone."""

    def process(text: str) -> Container | None:
        return next(map(_container, json.loads(text or "[]")), None)

    return Fact(
        Command("how the container is", f"{DOCKER} inspect {shlex.quote(container_id)}", time_limit_s=DOCKER_LIMIT_S),
        process,
        slow=True,
    )


def _container(said: Mapping[str, Any]) -> Container:
    mounts = tuple(
        Mount(str(m.get("Type", "")), str(m["Source"]), str(m["Destination"])) for m in said.get("Mounts") or ()
    )
    return Container(
        name=str(said["Name"]).removeprefix("/"),
        container_id=str(said["Id"]),
        status=str(said["State"]["Status"]),
        pid=int(said["State"].get("Pid", 0)),
        mounts=mounts,
        started=str(said["State"].get("StartedAt", "")),
    )


def find_container(every: tuple[Container, ...], name: str, conf_dir: str) -> Container | None:
    """The nginx container: the one of that name; for `auto` the only one that mounts conf_dir and is called nginx."""
    if name != "auto":
        return next((each for each in every if each.name == name), None)
    mounting = [each for each in every if each.mounts_of(conf_dir)]
    called = [each for each in mounting or every if re.search(r"(^|[-_])nginx([-_]|$)", each.name)]
    return called[0] if len(called) == 1 else None


def folder_listing(folder: str) -> Fact[tuple[FileFact, ...]]:
    """Every entry of a folder with type, mode, owner, size and hash; changes no access that matters."""
    lines = [
        "part entries; find . -mindepth 1 -maxdepth 1 -printf '%f\\0%y\\0%m\\0%U\\0%G\\0%s\\0%T@\\0'",
        "part sums; find . -mindepth 1 -maxdepth 1 -type f -exec sha256sum --zero -- {} +",
    ]

    def process(parts: dict[str, bytes]) -> tuple[FileFact, ...]:
        sums = {}
        for row in parts["sums"].decode(errors="replace").split("\0")[:-1]:
            digest, _, name = row.partition("  ./")
            sums[name] = digest
        fields = iter(parts["entries"].decode(errors="replace").split("\0")[:-1])
        rows = zip(*[fields] * 7, strict=True)
        entries = (
            FileFact(name, kind, mode, owner, group, int(size), sums.get(name, ""), float(written))
            for name, kind, mode, owner, group, size, written in rows
        )
        return tuple(sorted(entries, key=lambda entry: entry.name))

    return in_parts(
        "what lies in conf_dir",
        f"cd {shlex.quote(folder)} 2>/dev/null || {{ echo 'conf_dir is not there: correct it' >&2; exit 1; }}",
        lines,
        process,
    )


def listening(port: int) -> Fact[tuple[tuple[str, str], ...]]:
    """Socket addresses that listen on a TCP port, each with its inode, from the kernel's own tables."""

    def process(text: str) -> tuple[tuple[str, str], ...]:
        rows = (line.split() for line in text.splitlines() if line.strip()[:1].isdigit())
        found = ((_socket_address(row[1]), row[9]) for row in rows if row[3] == LISTEN)
        return tuple((address, inode) for address, inode in found if address.endswith(f":{port}"))

    # there is no tcp6 where IPv6 is switched off; a busy server has too many other sockets to send them all
    script = f"grep -hs ' {LISTEN} ' /proc/net/tcp /proc/net/tcp6; true"
    return Fact(Command(f"what listens on port {port}", script), process)


def _socket_address(text: str) -> str:
    address, _, port = text.partition(":")
    words = (int(address[start : start + 8], 16).to_bytes(4, "little") for start in range(0, len(address), 8))
    parsed = ipaddress.ip_address(b"".join(words))
    return f"[{parsed}]:{int(port, 16)}" if parsed.version == 6 else f"{parsed}:{int(port, 16)}"  # noqa: PLR2004 - IPv6


def sockets_of(pid: int) -> Fact[frozenset[str]]:
    """Inodes of the sockets that a process holds."""
    script = f'for each in /proc/{pid}/fd/*; do readlink "$each"; done 2>/dev/null; true'
    return Fact(
        Command("which sockets nginx holds", script), lambda text: frozenset(re.findall(r"socket:\[(\d+)\]", text))
    )


def connect_address(addresses: tuple[str, ...], host: str) -> str:
    """Where on the server nginx is asked: a wildcard by its loopback address, else the host's own, else the first."""
    wildcards = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - read, not bound
    for wildcard, loopback in wildcards.items():
        for address in addresses:
            if address.rpartition(":")[0] == wildcard:
                return f"{loopback}:{address.rpartition(':')[2]}"
    own = [address for address in addresses if address.rpartition(":")[0].strip("[]") == host]
    return next(iter([*own, *addresses]), "")


def space(conf_dir: str, state_dir: str) -> Fact[tuple[dict[str, int], int, int]]:
    """Free bytes where conf_dir and state_dir lie (or will lie), and the bytes of the folder that is backed up and of state_dir."""
    above = shlex.quote(str(PurePosixPath(conf_dir).parent))
    script = (
        f'folder={shlex.quote(state_dir)}; while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done; '
        f'df -PB1 {shlex.quote(conf_dir)} "$folder" | tail -n +2; du -sb {above} | cut -f 1; '
        f"du -sb {shlex.quote(state_dir)} 2>/dev/null | cut -f 1 | grep . || echo 0"
    )

    def process(text: str) -> tuple[dict[str, int], int, int]:
        *rows, size, kept = text.splitlines()
        free = [int(row.split()[3]) for row in rows]
        return dict(zip(("conf_dir", "state_dir"), free, strict=True)), int(size), int(kept)

    return Fact(Command("how much space is free", script), process)


def state_dir_place(state_dir: str) -> Fact[tuple[str, ...]]:
    """What is wrong with state_dir's place: a link in its path, another owner, open to others; nothing when it is absent."""
    path = PurePosixPath(state_dir)
    chain = " ".join(shlex.quote(str(each)) for each in (path, *path.parents))
    script = f"id -u; for each in {chain}; do stat -c '%n|%F|%u|%a' -- \"$each\" 2>/dev/null; done"

    def process(text: str) -> tuple[str, ...]:
        uid, *rows = text.splitlines()
        faults = []
        for name, kind, owner, mode in (row.rsplit("|", 3) for row in rows):
            if kind != "directory":
                faults.append(f"{name} is a {kind}")
            elif name == state_dir and (owner != uid or int(mode, 8) & 0o077):
                faults.append(f"{name} belongs to user id {owner} with mode {mode}; it must be root's with mode 700")
            elif owner not in {uid, "0"} or (int(mode, 8) & 0o022 and not int(mode, 8) & 0o1000):
                faults.append(f"{name} can be changed by other users (owner {owner}, mode {mode})")
        return tuple(faults)

    return Fact(Command("whether state_dir's place is safe", script), process)


def served(connect: str, server_name: str) -> Fact[Served]:
    """What nginx serves, seen on the server itself by its own openssl."""
    sni = "" if is_ip_address(server_name) else f" -servername {shlex.quote(server_name)}"
    script = f"timeout 10 openssl s_client -connect {shlex.quote(connect)}{sni} -showcerts </dev/null"

    def process(text: str) -> Served:
        chain = tuple(_PEM.findall(text))
        protocol = _PROTOCOL.search(text) or _CIPHER_OF.search(text)
        error = "" if chain else "no handshake"
        return Served(server_name, "server", chain, protocol.group(1) if protocol and chain else "", error)

    return Fact(Command(f"what nginx serves for {server_name}", script, time_limit_s=15), process)
