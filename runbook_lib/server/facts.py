"""Facts: what is read from a server. A fact is a command and a pure function that makes a value of what it printed."""

import base64
import contextlib
import datetime as dt
import ipaddress
import json
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from runbook_lib.models import Certificate, ChangeFolder, Command, Container, FileFact, Mount, Pair, Served
from runbook_lib.pki.certificates import read_certificates, spki_sha256

TOOLS = ("docker", "flock", "openssl", "setsid", "sha256sum", "sync", "tar", "timeout")
LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_PROTOCOL = re.compile(r"^\s*Protocol\s*: (TLSv[0-9.]+)", re.MULTILINE)
_CIPHER_OF = re.compile(r"^New, (TLSv[0-9.]+)", re.MULTILINE)  # the oldest protocol that has the cipher
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
_PUBLIC = "openssl pkey -in {} -pubout -passin pass:"
# prints one line a value: a label, a blank, and what a command printed in base64, so that no text can be taken for another
_SAY = 'say() { printf "%s " "$1"; shift; eval "$*" 2>/dev/null | base64 -w 0; echo; }'
# the same of a whole file, and of the public key that a command prints as PEM, with its digest; without a process too many
_SAY_FILE = 'say_file() { printf "%s " "$1"; [ ! -f "$1" ] || base64 -w 0 "$1"; echo; }'
_SAY_PUBLIC = (
    'say_public() { pem=$(eval "$2" 2>/dev/null); body=${pem#*KEY-----}; say "pem:$1" ${pem:+\'echo "$pem"\'}; '
    'say "digest:$1" ${pem:+\'echo "${body%-----END*}" | base64 -d | sha256sum\'}; }'
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A read-only command, and what makes a value of its standard output."""

    command: Command
    process: Callable[[str], T]


@dataclass(frozen=True, slots=True)
class Identity:
    """What the server says of itself; `clock` is its time, UTC."""

    hostname: str
    os: str
    openssl: str
    root_uid: int
    clock: dt.datetime
    missing_tools: tuple[str, ...]


def _labelled(text: str) -> dict[str, bytes]:
    rows = (line.partition(" ") for line in text.splitlines())
    return {label: base64.b64decode(value) for label, _, value in rows}


def identity() -> Fact[Identity]:
    """Host name, system, openssl, user id of the root shell, clock, missing programs."""
    lines = [
        _SAY,
        "say hostname hostname",
        "say os '. /etc/os-release; echo \"$PRETTY_NAME\"'",
        "say openssl openssl version",
        "say uid id -u",
        f"say missing 'for tool in {' '.join(TOOLS)}; do command -v $tool >/dev/null || echo $tool; done'",
        "say clock date +%s.%N",
    ]

    def process(text: str) -> Identity:
        said = {label: value.decode(errors="replace").strip() for label, value in _labelled(text).items()}
        clock = dt.datetime.fromtimestamp(float(said["clock"]), dt.UTC)
        return Identity(
            said["hostname"], said["os"], said["openssl"], int(said["uid"]), clock, tuple(said["missing"].split())
        )

    return Fact(Command("who the server is", "\n".join(lines)), process)


def containers() -> Fact[tuple[Container, ...]]:
    """Every container docker knows, running or not."""
    script = (
        "ids=$(docker ps --all --quiet --no-trunc) && if [ -n \"$ids\" ]; then docker inspect $ids; else echo '[]'; fi"
    )

    def process(text: str) -> tuple[Container, ...]:
        return tuple(_container(each) for each in json.loads(text or "[]"))

    return Fact(Command("which containers there are", script), process)


def container(container_id: str) -> Fact[Container | None]:
    """One container; None when it is gone."""

    def process(text: str) -> Container | None:
        return next(map(_container, json.loads(text or "[]")), None)

    return Fact(Command("how the container is", f"docker inspect {shlex.quote(container_id)}"), process)


def _container(said: Mapping[str, Any]) -> Container:
    mounts = tuple(
        Mount(str(m.get("Type", "")), str(m["Source"]), str(m["Destination"])) for m in said.get("Mounts") or ()
    )
    return Container(
        name=str(said["Name"]).removeprefix("/"),
        container_id=str(said["Id"]),
        status=str(said["State"]["Status"]),
        restart_count=int(said.get("RestartCount", 0)),
        image=str(said.get("Image", "")),
        pid=int(said["State"].get("Pid", 0)),
        mounts=mounts,
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
    quoted = shlex.quote(folder)
    script = (
        f"cd {quoted} && {_SAY}; say entries \"find . -mindepth 1 -maxdepth 1 -printf '%f\\\\0%y\\\\0%m\\\\0%U\\\\0%G\\\\0%s\\\\0'\"; "
        'say sums "find . -mindepth 1 -maxdepth 1 -type f -exec sha256sum --zero -- {} +"'
    )

    def process(text: str) -> tuple[FileFact, ...]:
        said = _labelled(text)
        sums = {}
        for row in said["sums"].decode(errors="replace").split("\0")[:-1]:
            digest, _, name = row.partition("  ./")
            sums[name] = digest
        fields = iter(said["entries"].decode(errors="replace").split("\0")[:-1])
        rows = zip(fields, fields, fields, fields, fields, fields, strict=True)
        entries = (
            FileFact(name, kind, mode, owner, group, int(size), sums.get(name, ""))
            for name, kind, mode, owner, group, size in rows
        )
        return tuple(sorted(entries, key=lambda entry: entry.name))

    return Fact(Command("what lies in conf_dir", script), process)


def pair(folder: str) -> Fact[Pair]:
    """The pair in a folder; the private key by its hash and its public key alone."""
    lines = [f"cd {shlex.quote(folder)} || exit 0", _SAY, _pair_lines(""), _public_line("")]
    return Fact(Command("what the pair is", "\n".join(lines)), lambda text: _pair(_labelled(text), ""))


def _pair_lines(folder: str) -> str:
    """Hashes and certificate of a pair; nothing where neither file is there."""
    certificate, key = f"{folder}nginx.crt", f"{folder}nginx.key"
    said = f"say sums:{folder} sha256sum {certificate} {key}; say {certificate} head -c 262144 {certificate}"
    return f"if [ -f {certificate} ] || [ -f {key} ]; then {said}; fi"


def _public_line(folder: str) -> str:
    return f"say public:{folder}nginx.key '[ -f {folder}nginx.key ] && {_PUBLIC.format(f'{folder}nginx.key')}'"


def _pair(said: Mapping[str, bytes], folder: str) -> Pair:
    certificate, key = f"{folder}nginx.crt", f"{folder}nginx.key"
    chain: tuple[Certificate, ...] = ()
    with contextlib.suppress(ValueError):
        chain = read_certificates(said.get(certificate, b""))
    digest = ""
    with contextlib.suppress(ValueError):
        digest = spki_sha256(said.get(f"public:{key}", b"").decode())
    rows = (line.split("  ", 1) for line in said.get(f"sums:{folder}", b"").decode().splitlines())
    sums = {name: sha256 for sha256, name in rows}
    return Pair(
        certificate_sha256=sums.get(certificate, ""),
        key_sha256=sums.get(key, ""),
        chain=chain,
        key_spki_sha256=digest,
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


def space(conf_dir: str, state_dir: str) -> Fact[tuple[dict[str, int], int]]:
    """Free bytes where conf_dir and state_dir lie (or will lie), and the bytes of the folder that is backed up."""
    above = shlex.quote(str(PurePosixPath(conf_dir).parent))
    script = (
        f'folder={shlex.quote(state_dir)}; while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done; '
        f'df -PB1 {shlex.quote(conf_dir)} "$folder" | tail -n +2; du -sb {above} | cut -f 1'
    )

    def process(text: str) -> tuple[dict[str, int], int]:
        *rows, size = text.splitlines()
        free = [int(row.split()[3]) for row in rows]
        return dict(zip(("conf_dir", "state_dir"), free, strict=True)), int(size)

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


def change_list(state_dir: str) -> Fact[tuple[tuple[str, str, str], ...]]:
    """The changes that have a folder, oldest first: id, `replace` or `restore`, and what was decided."""
    script = (
        f'cd {shlex.quote(state_dir)}/changes 2>/dev/null || exit 0; for each in *; do [ -f "$each/change.json" ] || continue; '
        'kind=replace; grep -q \'"kind": "restore"\' "$each/change.json" && kind=restore; '
        'echo "$each $kind $(cat "$each/decided" 2>/dev/null)"; done'
    )

    def process(text: str) -> tuple[tuple[str, str, str], ...]:
        rows = (line.split(" ", 2) for line in sorted(text.splitlines()))
        return tuple((name, kind, decided) for name, kind, decided in rows)

    return Fact(Command("which changes there are", script), process)


def change_folder(state_dir: str, change_id: str) -> Fact[ChangeFolder]:
    """Everything about one change that may be shown: never a private key, only its hash and its public key."""
    folder = f"{state_dir}/changes/{change_id}"
    small = ("change.json", "nginx.csr", "backup/SHA256SUMS", "armed", "decided", "journal-head")
    publics = {
        "key": ("nginx.key", _PUBLIC.format("nginx.key")),
        "csr": ("nginx.csr", "openssl req -in nginx.csr -noout -pubkey"),
        "certificate": ("nginx.crt", "openssl x509 -in nginx.crt -noout -pubkey"),
    }
    lines = [
        f"cd {shlex.quote(folder)} || exit 0",
        _SAY,
        _SAY_FILE,
        _SAY_PUBLIC,
        *(f"say_file {name}" for name in small),
        _pair_lines(""),
        _pair_lines("backup/"),
        _public_line("backup/"),
        *(f"say_public {name} '[ -f {file} ] && {script}'" for name, (file, script) in publics.items()),
        "say files 'find . -type f -printf \"%m %P\\n\" | sort'",
    ]
    command = Command("where the change stands", "\n".join(lines))
    return Fact(command, lambda text: _change_folder(change_id, _labelled(text)) if text else ChangeFolder(change_id))


def _change_folder(change_id: str, said: Mapping[str, bytes]) -> ChangeFolder:
    text = {label: value.decode(errors="replace") for label, value in said.items()}
    begun = _begun(text["change.json"])
    sums = (line.split("  ", 1) for line in text["backup/SHA256SUMS"].splitlines())
    names = ("key", "csr", "certificate")
    return ChangeFolder(
        change_id=change_id,
        kind=begun.get("kind", "replace"),
        request=begun.get("request", {}),
        csr=text["nginx.csr"],
        staged=_pair({**said, "public:nginx.key": said["pem:key"]}, ""),
        public_keys={name: (text[f"digest:{name}"][:64], text[f"pem:{name}"]) for name in names if text[f"pem:{name}"]},
        before=_pair(said, "backup/"),
        backup_sums={name: digest for digest, name in sums},
        armed=bool(text["armed"]),
        decided=text["decided"].strip(),
        journal_head=text["journal-head"].strip(),
        files={name: mode for mode, _, name in (line.partition(" ") for line in text["files"].splitlines())},
    )


def _begun(text: str) -> Mapping[str, Any]:
    """What a change began with; nothing where the writing of it was cut off, so that later runs can take its place."""
    try:
        begun = json.loads(text)
    except ValueError:
        return {}
    return begun if isinstance(begun, dict) else {}


def served(connect: str, server_name: str) -> Fact[Served]:
    """What nginx serves, seen on the server itself by its own openssl."""
    sni = "" if _is_ip(server_name) else f" -servername {shlex.quote(server_name)}"
    script = f"timeout 10 openssl s_client -connect {shlex.quote(connect)}{sni} -showcerts </dev/null"

    def process(text: str) -> Served:
        chain = tuple(_PEM.findall(text))
        protocol = _PROTOCOL.search(text) or _CIPHER_OF.search(text)
        error = "" if chain else "no handshake"
        return Served(server_name, "server", chain, protocol.group(1) if protocol and chain else "", error)

    return Fact(Command(f"what nginx serves for {server_name}", script, time_limit_s=15), process)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
