"""Facts: what the parsers make of what servers print, and all of it read from running servers."""

import asyncio
import base64
import dataclasses
import datetime as dt
import hashlib
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from runbook_lib.errors import Refused
from runbook_lib.models import ChangeFolder, Command, CommandResult, Container, Facts, Mount
from runbook_lib.parameters import Parameters, validate
from runbook_lib.server import facts as read
from runbook_lib.server.reading import Fact, all_at_once
from runbook_lib.server.survey import read_change, read_facts
from tests.embedded import EmbeddedHost
from tests.realserver.host import RealHost
from tests.server.facts import here
from tests.server.hosts import root_shell
from tests.servers import ServerUnderTest, wait_until

ServerWith = Callable[..., ServerUnderTest]
T = TypeVar("T")
CONF_DIR = "/etc/aos/nginx.conf.d"


def printed(fact: Fact[T], **parts: str) -> str:
    """What a server prints for a fact in parts."""
    mark = re.search(r"[0-9a-f]{32}", fact.command.script)
    assert mark
    text = "".join(f"\n{mark[0]} {name}\n{value}" for name, value in parts.items())
    return base64.b64encode(text.encode()).decode()


def parameters(server: ServerUnderTest, **changes: object) -> Parameters:
    """A run's parameters for a server under test."""
    judged, faults = validate(server.parameters | changes, asks_for_certificate=False)
    assert judged, faults
    return judged


async def survey(server: ServerUnderTest, **changes: object) -> Facts:
    """All facts of a server."""
    async with root_shell(server) as shell:
        return await read_facts(shell, parameters(server, **changes), "SHA256:shown", [])


def container(name: str, *mounts: tuple[str, str], status: str = "running") -> Container:
    """A container with bind mounts."""
    bound = tuple(Mount("bind", source, destination) for source, destination in mounts)
    return Container(name, "0" * 64, status, 1, bound)


# parsers on captured output


def test_identity() -> None:
    """Names, version, user id and clock as typed values; the clock is UTC."""
    fact = read.identity()
    text = printed(fact, hostname="aos-server\n", os="Ubuntu 18.04.6 LTS\n", openssl="OpenSSL 1.1.1  11 Sep 2018\n", uid="0\n",
                   systemd="active\n", missing="flock\nsetsid\n", clock="1764043200.500000000\n")  # fmt: skip
    identity = fact.process(text)
    assert identity.hostname == "aos-server"
    assert identity.os == "Ubuntu 18.04.6 LTS"
    assert identity.openssl == "OpenSSL 1.1.1  11 Sep 2018"
    assert (identity.root_uid, identity.systemd, identity.missing_tools) == (0, True, ("flock", "setsid"))
    assert identity.clock == dt.datetime(2025, 11, 25, 4, 0, 0, 500000, tzinfo=dt.UTC)


def test_identity_of_this_machine() -> None:
    """The command itself works in a plain shell."""
    identity = here(read.identity())
    assert abs(identity.clock - dt.datetime.now(dt.UTC)) < dt.timedelta(seconds=5)
    assert identity.root_uid == os.geteuid()
    assert identity.openssl.startswith("OpenSSL")


def inspected(name: str, *mounts: dict[str, Any], **state: object) -> dict[str, Any]:
    """One item of `docker inspect`, as docker 20.10 and 27 write it, without the keys that nobody reads."""
    return {
        "Id": "4f" * 32,
        "Created": "2025-11-20T10:00:00.0Z",
        "State": {"Status": "running", "Running": True, "Pid": 1234, "ExitCode": 0} | state,
        "Image": "sha256:" + "ab" * 32,
        "Name": f"/{name}",
        "RestartCount": 3,
        "Mounts": list(mounts),
        "Config": {"Image": "nginx:1.14.2-upload-echo"},
    }


def test_containers_of_compose() -> None:
    """docker-compose v1 and `docker compose` v2 differ in the name alone; binds, volumes and tmpfs are all mounts."""
    bind = {"Type": "bind", "Source": CONF_DIR, "Destination": "/etc/nginx/conf.d", "Mode": "ro", "RW": False}
    volume = {"Type": "volume", "Name": "logs", "Source": "/var/lib/docker/volumes/logs/_data", "Destination": "/log"}
    tmpfs = {"Type": "tmpfs", "Source": "", "Destination": "/run"}
    text = json.dumps(
        [inspected("aos_nginx_1", bind), inspected("aos-nginx-1", bind, volume, tmpfs, Status="restarting", Pid=0)]
    )
    first, second = read.containers().process(text)
    assert (first.name, first.container_id, first.status, first.pid) == (
        "aos_nginx_1", "4f" * 32, "running", 1234)  # fmt: skip
    assert first.mounts == (Mount("bind", CONF_DIR, "/etc/nginx/conf.d"),)
    assert (second.name, second.status, second.pid) == ("aos-nginx-1", "restarting", 0)
    assert [each.kind for each in second.mounts] == ["bind", "volume", "tmpfs"]
    assert second.mounts_of(CONF_DIR) == first.mounts


def test_containers_without_mounts_or_none_at_all() -> None:
    """Older dockers write null for no mounts, and a server may have no container."""
    bare = inspected("aos_auth_1") | {"Mounts": None}
    assert read.containers().process(json.dumps([bare]))[0].mounts == ()
    assert read.containers().process("[]\n") == ()
    assert read.containers().process("") == ()


FOLDER = (CONF_DIR, "/etc/nginx/conf.d")
KEY_FILE = (f"{CONF_DIR}/nginx.key", "/etc/nginx/conf.d/nginx.key")
ABOVE = ("/etc/aos", "/etc/aos")


@pytest.mark.parametrize(
    ("every", "asked", "found"),
    [
        ([container("aos_controller_1", ABOVE), container("aos_nginx_1", FOLDER)], "auto", "aos_nginx_1"),
        ([container("aos-controller-1"), container("aos-nginx-1", FOLDER)], "auto", "aos-nginx-1"),
        ([container("aos_nginx_1", KEY_FILE), container("old_nginx")], "auto", "aos_nginx_1"),
        ([container("aos_nginx_1"), container("aos_auth_1")], "auto", "aos_nginx_1"),
        ([container("nginx", ABOVE)], "auto", "nginx"),
        ([container("aos_nginx_1", FOLDER, status="exited")], "auto", "aos_nginx_1"),
        ([container("aos_nginx_1", FOLDER), container("aos_nginx_2", FOLDER)], "auto", None),
        ([container("aos_nginx_1", FOLDER), container("aos_nginx_2", FOLDER)], "aos_nginx_2", "aos_nginx_2"),
        ([container("aos_node_keeper_1")], "auto", None),
        ([container("mynginxproxy", FOLDER)], "auto", None),
        ([container("mynginxproxy", FOLDER)], "mynginxproxy", "mynginxproxy"),
        ([container("aos_nginx_1", FOLDER)], "nginx", None),
        ([], "auto", None),
    ],
    ids=["v1", "v2", "file mounts", "no mounts", "plain", "stopped", "two", "named of two", "worker", "other name", "named", "no such", "none"],
)  # fmt: skip
def test_find_container(every: list[Container], asked: str, found: str | None) -> None:
    """The one that mounts conf_dir and is called nginx; several or none are for the operator to name."""
    answer = read.find_container(tuple(every), asked, CONF_DIR)
    assert (answer.name if answer else None) == found


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 21001 1 0000000000000000 100 0 0 10 0
   1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 21002 1 0000000000000000 100 0 0 10 0
   2: 0A00A8C0:01BB 3200A8C0:C35A 01 00000000:00000000 02:000A7B2C 00000000     0        0 21003 2 0000000000000000 20 4 30 10 -1
   3: 0A00A8C0:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 21004 1 0000000000000000 100 0 0 10 0
   4: 0100007F:5DBB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 21005 1 0000000000000000 100 0 0 10 0
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31001 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31002 1 0000000000000000 100 0 0 10 0
   2: B80D012000000000000000003412CDAB:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31003 1 0000000000000000 100 0 0 10 0
"""


def test_listening() -> None:
    """Listeners of the one port, IPv4 and IPv6, from the kernel's own form; no connection and no other port."""
    assert read.listening(443).process(TCP) == (
        ("0.0.0.0:443", "21001"),
        ("192.168.0.10:443", "21004"),
        ("[::]:443", "31001"),
        ("[::1]:443", "31002"),
        ("[2001:db8::abcd:1234]:443", "31003"),
    )
    assert read.listening(80).process(TCP) == (("127.0.0.1:80", "21002"),)
    assert read.listening(8443).process("") == ()


def test_listening_is_filtered_on_the_server(tmp_path: Path) -> None:
    """A busy server's connections are not sent, and a kernel without IPv6 is no failure."""
    (tmp_path / "tcp").write_text(TCP.partition("  sl  local_address        ")[0])
    fact = read.listening(443)
    assert "/proc/net/tcp6" in fact.command.script
    moved = dataclasses.replace(
        fact, command=dataclasses.replace(fact.command, script=fact.command.script.replace("/proc/net", str(tmp_path)))
    )
    assert here(moved) == (("0.0.0.0:443", "21001"), ("192.168.0.10:443", "21004"))
    sent = subprocess.run(["/bin/sh", "-c", moved.command.script], capture_output=True, text=True, check=True).stdout
    assert "21003" not in sent
    (tmp_path / "tcp").write_text("")
    assert here(moved) == ()


@pytest.mark.parametrize(
    ("addresses", "found"),
    [
        (("0.0.0.0:443", "[::]:443"), "127.0.0.1:443"),
        (("10.0.0.5:443", "0.0.0.0:443"), "127.0.0.1:443"),
        (("[::]:443",), "[::1]:443"),
        (("10.0.0.4:443", "10.0.0.5:443"), "10.0.0.5:443"),
        (("10.0.0.4:443", "[fd00::5]:443"), "10.0.0.4:443"),
        (("[fd00::5]:8443",), "[fd00::5]:8443"),
        ((), ""),
    ],
)
def test_connect_address(addresses: tuple[str, ...], found: str) -> None:
    """A wildcard is asked at loopback, else the address of the parameters, else any; nowhere where nothing listens."""
    assert read.connect_address(addresses, "10.0.0.5") == found


def test_connect_address_of_an_ipv6_host() -> None:
    """The host of the parameters is written without brackets."""
    assert read.connect_address(("10.0.0.4:443", "[fd00::5]:443"), "fd00::5") == "[fd00::5]:443"


def test_folder_listing_with_odd_names(tmp_path: Path) -> None:
    """Any name that a file can have is data: read whole, hashed rightly, run by nobody."""
    folder = tmp_path / "it's a $(touch run) folder"
    folder.mkdir()
    odd = ["plain", "two\nlines", "-rf", "$(touch run)", "a'b\"c", "back\\slash", " . ", "ünï\u202e", "x  . y"]
    for name in odd:
        (folder / name).write_text(name)
    (folder / "link").symlink_to("plain")
    (folder / "sub").mkdir(mode=0o750)
    os.mkfifo(folder / "fifo", 0o600)
    (folder / "plain").chmod(0o640)
    (Path(os.fsdecode(bytes(folder) + b"/\xff"))).write_bytes(b"")
    listing = {entry.name: entry for entry in here(read.folder_listing(str(folder)))}
    assert listing.keys() == {*odd, "link", "sub", "fifo", "\ufffd"}
    for name in odd:
        assert (listing[name].kind, listing[name].sha256) == ("f", hashlib.sha256(name.encode()).hexdigest())
        assert listing[name].size == len(name.encode())
    assert [(listing[name].kind, listing[name].sha256) for name in ("link", "sub", "fifo")] == [
        ("l", ""),
        ("d", ""),
        ("p", ""),
    ]
    assert (listing["plain"].mode, listing["sub"].mode) == ("640", "750")
    assert (listing["plain"].owner, listing["plain"].group) == (str(os.geteuid()), str(os.getegid()))
    assert not list(tmp_path.rglob("run"))


def test_space(tmp_path: Path) -> None:
    """Free bytes where a state_dir that is not there yet will lie, and the size of the folder above conf_dir."""
    conf_dir = tmp_path / "aos/it's conf.d"
    conf_dir.mkdir(parents=True)
    (conf_dir / "file").write_bytes(b"x" * 100_000)
    free, size, kept = here(read.space(str(conf_dir), str(tmp_path / "not/there/yet")))
    assert kept == 0
    disk = os.statvfs(tmp_path)
    for name in ("conf_dir", "state_dir"):
        assert abs(free[name] - disk.f_bavail * disk.f_frsize) < 1 << 30
    assert 100_000 <= size < 200_000


def test_state_dir_place(tmp_path: Path) -> None:
    """A link, another owner, a folder open to others, or a parent that others may change is named; absence is fine."""
    place = tmp_path / "state"
    assert here(read.state_dir_place(str(place))) == ()
    place.mkdir(mode=0o700)
    assert here(read.state_dir_place(str(place))) == ()
    place.chmod(0o750)
    assert "mode 750" in here(read.state_dir_place(str(place)))[0]
    place.chmod(0o700)
    tmp_path.chmod(0o777)
    assert "can be changed by other users" in here(read.state_dir_place(str(place)))[0]
    tmp_path.chmod(0o1777)
    assert here(read.state_dir_place(str(place))) == ()
    tmp_path.chmod(0o700)
    (tmp_path / "link").symlink_to(tmp_path)
    assert "symbolic link" in here(read.state_dir_place(str(tmp_path / "link/state")))[0]
    if os.geteuid() == 0:
        os.chown(place, 1234, -1)
        assert "belongs to user id 1234" in here(read.state_dir_place(str(place)))[0]


# s_client

CERTIFICATES = [
    f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n" for body in ("TEVBRg==", "SU5URVI=")
]
CHAIN = f""" 0 s:CN = apstra
   i:CN = Issuing
{CERTIFICATES[0]} 1 s:CN = Issuing
   i:CN = Root
{CERTIFICATES[1]}---
Server certificate
subject=CN = apstra

issuer=CN = Issuing

---
"""
OPENSSL_111_TLS13 = f"""CONNECTED(00000003)
---
Certificate chain
{CHAIN}No client certificate CA names sent
Peer signing digest: SHA256
---
New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384
Server public key is 2048 bit
Secure Renegotiation IS NOT supported
Verify return code: 21 (unable to verify the first certificate)
---
"""
OPENSSL_111_TLS12 = f"""CONNECTED(00000003)
---
Certificate chain
{CHAIN}New, TLSv1.0, Cipher is ECDHE-RSA-AES256-SHA
Server public key is 2048 bit
SSL-Session:
    Protocol  : TLSv1.2
    Cipher    : ECDHE-RSA-AES256-SHA
    Verify return code: 0 (ok)
---
"""
OPENSSL_32 = OPENSSL_111_TLS13.replace("Server public key", "Protocol: TLSv1.3\nServer public key").replace(
    " 0 s:CN = ", " 0 s:CN="
)
OPENSSL_30_NOTHING = """CONNECTED(00000003)
---
no peer certificate available
---
New, (NONE), Cipher is (NONE)
SSL-Session:
    Protocol  : TLSv1.2
---
"""


@pytest.mark.parametrize(
    ("text", "protocol"),
    [(OPENSSL_111_TLS13, "TLSv1.3"), (OPENSSL_111_TLS12, "TLSv1.2"), (OPENSSL_32, "TLSv1.3")],
    ids=["1.1.1", "1.1.1 and an old cipher", "3.2"],
)
def test_served(text: str, protocol: str) -> None:
    """The chain as sent, leaf first and once, and the protocol rather than the cipher's age, whatever openssl it was."""
    seen = read.served("127.0.0.1:443", "apstra.example").process(text)
    assert (seen.chain, seen.protocol, seen.error) == (tuple(CERTIFICATES), protocol, "")
    assert (seen.address, seen.vantage) == ("apstra.example", "server")


@pytest.mark.parametrize("text", ["", OPENSSL_30_NOTHING, "connect: Connection refused\n"])
def test_nothing_served(text: str) -> None:
    """No handshake is an error and no protocol."""
    seen = read.served("127.0.0.1:443", "apstra.example").process(text)
    assert (seen.chain, seen.protocol, seen.error) == ((), "", "no handshake")


def test_served_asks_for_a_name_by_sni_and_for_an_address_without() -> None:
    """SNI holds names alone (RFC 6066, section 3), and what is asked is quoted."""
    assert "-servername apstra.example" in read.served("[::1]:443", "apstra.example").command.script
    for address in ("10.0.0.5", "fd00::5"):
        assert "-servername" not in read.served("127.0.0.1:443", address).command.script
    assert "'$(id)'" in read.served("127.0.0.1:443", "$(id)").command.script


# a whole server


@pytest.mark.asyncio
async def test_all_facts_of_a_server(server: ServerUnderTest) -> None:
    """Every fact agrees with what can be seen past SSH and sudo, and reading them changes nothing."""
    before = server.snapshot()
    facts = await survey(server)
    given = server.parameters
    assert server.snapshot() == before
    assert not server.path(given["state_dir"]).exists()
    assert (facts.host, facts.host_key) == (given["host"], "SHA256:shown")
    assert facts.hostname == server.run("hostname").stdout.strip()
    assert facts.openssl == server.run("openssl version").stdout.strip()
    assert facts.root_uid == 0 or isinstance(server, EmbeddedHost)
    assert facts.container
    assert (facts.container.name, facts.container.status) == ("aos_nginx_1", "running")
    assert len(facts.containers) > 1
    assert [mount.source for mount in facts.container.mounts_of(given["conf_dir"])] == [given["conf_dir"]]
    assert {entry.name: entry.sha256 for entry in facts.conf_files} == {
        name: state.sha256 for name, state in before.items()
    }
    assert facts.live.matches
    assert (facts.live.key_sha256, facts.live.certificate_sha256) == (
        before["nginx.key"].sha256, before["nginx.crt"].sha256)  # fmt: skip
    assert facts.listening == (f"{given['host']}:{given['https_port']}",)
    (seen,) = facts.served
    assert [each.strip() for each in seen.chain] == [server.served().strip()]
    assert seen.protocol == "TLSv1.3"
    assert facts.free_bytes.keys() == {"conf_dir", "state_dir"}
    assert min(facts.free_bytes.values()) > 0
    assert facts.aos_bytes > 3000
    assert abs(facts.clock_skew_s) < 5
    assert (facts.state_dir_faults, facts.missing_tools, facts.listed, facts.changes) == ((), (), (), ())


@pytest.mark.asyncio
async def test_facts_of_a_server_with_file_mounts_and_noise(server_with: ServerWith) -> None:
    """Each file's own mount is seen, a container of another name is found, and noise is in no fact."""
    facts = await survey(server_with(mount="files", noise=True, container="aos-nginx-1"))
    assert facts.container
    assert facts.container.name == "aos-nginx-1"
    assert {Path(mount.source).name for mount in facts.container.mounts} == {"nginx.conf", "nginx.crt", "nginx.key"}
    assert facts.live.matches


@pytest.mark.asyncio
async def test_facts_of_a_worker(server_with: ServerWith) -> None:
    """A worker node has containers and no nginx; that is a fact, and no failure to read."""
    facts = await survey(server_with(role="worker"))
    assert facts.container is None
    assert [each.name for each in facts.containers] == ["aos_node_keeper_1"]
    assert not [each for each in facts.listening if each.startswith(f"{facts.host}:")]


@pytest.mark.asyncio
async def test_facts_of_a_server_that_crash_loops(server: ServerUnderTest) -> None:
    """A broken pair and a container that does not come up are described; what is not served is said."""
    conf_dir = server.parameters["conf_dir"]
    server.run(f"echo broken >{conf_dir}/nginx.crt; docker restart aos_nginx_1")
    wait_until(lambda: "Restarting" in server.run("docker ps -a").stdout)
    facts = await survey(server)
    assert facts.container
    assert facts.container.status in {"restarting", "running"}
    assert (facts.live.chain, facts.live.matches) == ((), False)
    assert not [each for each in facts.listening if each == f"{facts.host}:{server.parameters['https_port']}"]


@pytest.mark.asyncio
async def test_changes_are_read_in_full_where_it_matters(server: ServerUnderTest) -> None:
    """The open ones, the last confirmed one and those asked for; of the rest their names alone."""
    state_dir, ids = server.parameters["state_dir"], [f"2025110{day}T000000Z-aaaaaa" for day in range(1, 6)]
    words = ("confirmed", "confirmed", "rolled-back", "", "superseded", "confirmed")
    for name, decided in zip((*ids, f"{ids[4]}.bak"), words, strict=True):
        server.run(
            f"umask 077; mkdir -p {state_dir}/changes/{name}; cd {state_dir}/changes/{name}; "
            f"echo '{{\"kind\": \"replace\"}}' >change.json; [ -z '{decided}' ] || echo {decided} >decided"
        )
    async with root_shell(server) as shell:
        facts = await read_facts(shell, parameters(server), "", [ids[2]])
        one = await read_change(shell, parameters(server), ChangeFolder(ids[1]))
        none = await read_change(shell, parameters(server), ChangeFolder("none"))
    assert [name for name, _, _ in facts.listed] == ids, "a copy of a folder is no change"
    read_in_full = {each.change_id: each.decided for each in facts.changes}
    assert read_in_full == {ids[1]: "confirmed", ids[2]: "rolled-back", ids[3]: ""}
    assert (one.decided, none) == ("confirmed", ChangeFolder("none"))
    assert facts.state_dir_faults == ()


@pytest.mark.asyncio
async def test_what_must_be_readable_and_is_not(practice: EmbeddedHost) -> None:
    """Without docker, and without conf_dir, the run is refused with what the server said."""
    (practice.practice.root / "docker.sock").unlink()
    with pytest.raises(Refused, match="which containers there are") as caught:
        await survey(practice)
    assert "docker daemon" in caught.value.why
    practice.run(f"mv {practice.parameters['conf_dir']} {practice.practice.root}/aside")
    async with root_shell(practice) as shell:
        result = await shell.run(read.folder_listing(practice.parameters["conf_dir"]).command)
    assert result.status != 0


@pytest.mark.asyncio
async def test_nginx_is_told_from_others_on_its_port(real: RealHost) -> None:
    """Where something else listens on the same port at another address, nginx's own sockets decide."""
    with socket.create_server(("127.9.9.9", 443)):
        facts = await survey(real)
    assert facts.listening == (f"{real.address}:443",)


def test_slow_facts_are_read_beside_the_others(tmp_path: Path) -> None:
    """What takes long is begun first, each answer and exit status is its own, and they come in the order asked for."""
    waits = f"for each in $(seq 100); do [ -e {tmp_path}/begun ] && break; sleep 0.1; done; [ ! -e {tmp_path}/begun ] || echo begun"
    facts = [
        Fact(Command("slow", f"touch {tmp_path}/begun; echo slow; exit 3"), str, slow=True),
        Fact(Command("quick", waits), str),
        Fact(Command("none", "cat; exit 4"), str),
        Fact(Command("slow, too", "cat; printf 'no line end'"), str, slow=True),
    ]
    command, apart = all_at_once(facts)
    done = subprocess.run(["/bin/sh", "-c", command.script], capture_output=True, text=True, check=True)
    found = apart(CommandResult(command, done.returncode, done.stdout, done.stderr, 0))
    assert [(each.command.purpose, each.status, each.stdout) for each in found] == [
        ("slow", 3, "slow\n"),
        ("quick", 0, "begun\n"),
        ("none", 4, ""),
        ("slow, too", 0, "no line end"),
    ]


@pytest.mark.asyncio
async def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(server: ServerUnderTest) -> None:
    """It is no pair, and reading goes on; nothing is left running on the server."""
    conf_dir = server.parameters["conf_dir"]
    server.run(f"cd {conf_dir} && mv nginx.crt aside && mkfifo nginx.crt")
    try:
        facts = await asyncio.wait_for(survey(server), 20)
    finally:
        server.run(f"cd {conf_dir} && mv -f aside nginx.crt")
    assert facts.live.certificate_sha256 == ""
    assert {each.name: each.kind for each in facts.conf_files}["nginx.crt"] == "p"
