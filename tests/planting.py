"""Hostile texts planted in a practice server: what its programs say, what its files are called, what it serves."""

import datetime as dt
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from runbook_lib.pki.certificates import quiet
from tests.embedded import EmbeddedHost
from tests.hostile import CANARY, CORPUS, Hostile, encodable, file_names
from tests.pki.authority import DAY, Issued, issue, key_usage
from tests.servers import wait_until

# docker itself takes no such name, but what says that it is docker may print one
CONTAINER = f"x'\"$({CANARY} a)`{CANARY} b`;{CANARY} c;\n{CANARY} d\n<b onclick=x>\x1b[31m\x1b]52;c;$x$_nginx_1"


@dataclass(frozen=True)
class Planted:
    """A server on which everything is hostile that can be.

    Attributes:
        host: The server.
        sang: Whether the canary sang since it was asked last.
        names: What the files in conf_dir are called.
    """

    host: EmbeddedHost
    sang: Callable[[], bool]
    names: tuple[Hostile, ...]


def plant_everything(host: EmbeddedHost) -> Planted:
    """Host name, files and pair of a server are called by the texts; its container is CONTAINER where it was started so."""
    sang = plant_canary(host)
    plant_saying(host, "hostname", said(CORPUS))
    names = plant_names(host)
    plant_pair(host, hostile_authority())
    return Planted(host, sang, names)


def plant_canary(host: EmbeddedHost) -> Callable[[], bool]:
    """Puts the canary into the server's PATH; whether it sang since it was asked last."""
    song = host.practice.root / "song"
    plant_program(host, CANARY, f"echo sang >>{song}")

    def sang() -> bool:
        there = song.exists()
        song.unlink(missing_ok=True)
        return there

    return sang


def plant_program(host: EmbeddedHost, name: str, script: str) -> None:
    """Puts a program before the server's own of that name."""
    path = host.practice.root / "bin" / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def plant_saying(  # noqa: PLR0913 - a program has as many ways to speak
    host: EmbeddedHost, name: str, said: bytes, *, to: str = "", then: str = "exit 0", when: str = "*"
) -> None:
    """Has a program of the server say something.

    Args:
        host: The server.
        name: The program.
        said: What it says.
        to: Where, as shell writes it; empty: standard output.
        then: What it does afterwards, shell text; `$real` is the program whose place it takes.
        when: Its arguments, a pattern of the shell's; with others it is the program itself.
    """
    folder = host.practice.root / "bin"
    real, text = folder / f"{name}.real", folder / f"{name}.said"
    if (folder / name).exists() and not real.exists():
        (folder / name).rename(real)
    text.write_bytes(said)
    plant_program(
        host,
        name,
        f'real={shlex.quote(str(real))}\ncase "$*" in {when}) cat {text} {to}; {then} ;; *) exec "$real" "$@" ;; esac',
    )


def said(texts: Iterable[Hostile]) -> bytes:
    """Texts as a program prints them, a line each; half a letter goes out as its own bytes."""
    return b"\n".join(
        each.text.encode(errors="surrogatepass" if "\ud83d" in each.text else "surrogateescape") for each in texts
    )


def plant_names(host: EmbeddedHost) -> tuple[Hostile, ...]:
    """Files in conf_dir called by the texts, beside the pair; a part of them such as nginx would load."""
    planted = []
    for number, (name, each) in enumerate(file_names().items()):
        # tar in the C locale loses letters of this kind from the names that it writes: such a backup proves nothing and is refused
        if each.name == "letters that tag":
            continue
        (host.practice.conf_dir / f"{name}{'.conf' if number % 2 and '..' not in name else '.txt'}").touch()
        planted.append(each)
    return tuple(planted)


def hostile_name(first: str = "=1+1") -> x509.Name:
    """A subject of all the texts that one can hold, a formula first."""
    return named("\n".join([first, *(each.text for each in encodable())]))


def named(text: str) -> x509.Name:
    """A subject of this text, however long."""
    kinds = (NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME)
    with quiet():
        return x509.Name([x509.NameAttribute(kind, text, _validate=False) for kind in kinds])


def hostile_san() -> x509.SubjectAlternativeName:
    """Names that are no names, of several kinds."""
    texts = [each.text for each in CORPUS if each.text.isascii()]
    return x509.SubjectAlternativeName([
        *map(x509.DNSName, texts), *map(x509.UniformResourceIdentifier, texts), x509.DirectoryName(hostile_name()),
    ])  # fmt: skip


def hostile_authority() -> Issued:
    """A root whose name is made of the texts."""
    now = dt.datetime.now(dt.UTC)
    return issue(
        subject=hostile_name("@SUM(1)"),
        ca=True,
        days=3650,
        not_before=now - 30 * DAY,
        usage=key_usage("key_cert_sign", "crl_sign"),
    )


def plant_pair(host: EmbeddedHost, issuer: Issued) -> Issued:
    """A pair whose certificate is called by the texts, as the live one."""
    now = dt.datetime.now(dt.UTC)
    with quiet():
        leaf = issue(
            subject=hostile_name(), issuer=issuer, san=(), extra=[(hostile_san(), False)], not_before=now - DAY
        )
    folder = host.practice.conf_dir
    (folder / "nginx.crt").write_bytes(leaf.pem)
    (folder / "nginx.key").write_bytes(leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    host.practice.restart_container()
    wait_until(lambda: host.served().encode() == leaf.pem)
    return leaf
