"""The folder of a practice server: its tree, keys, secrets and shims, made at the first start and kept."""

import contextlib
import datetime as dt
import fcntl
import ipaddress
import os
import re
import secrets
import shlex
import shutil
import socket
import stat
import sys
from functools import cache
from pathlib import Path
from typing import Any

import asyncssh
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOST = "127.0.0.1"
_SHIMS = Path(__file__).parent / "shims"
_KEY_USAGES = [
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
]
_NGINX_CONF = """\
# The pair's names stand here; an upgrade may replace this file.
server {{
    listen {host}:{port} ssl;
    server_name _;
    ssl_certificate /etc/nginx/conf.d/nginx.crt;
    ssl_certificate_key /etc/nginx/conf.d/nginx.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    location /api {{
        proxy_pass http://127.0.0.1:8888;
        proxy_read_timeout 300s;
    }}
    location / {{
        root /usr/share/nginx/html;
        index index.html;
    }}
}}
"""


_SOMEBODY_ELSES = "belongs to user id {}, who has practised here before: have it removed, or choose another with --root"


class UnsafeFolderError(Exception):
    """The folder cannot be a practice server's; the text says why and what to do."""


def claim(root: Path) -> int:
    """Make the folder where it is missing, see that it is ours alone, and hold it.

    Returns:
        A descriptor of the folder that holds its lock until it is closed.

    Raises:
        UnsafeFolderError: It is a link, somebody else's, open to others, or in use.
    """
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700, parents=True)
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except PermissionError:
        raise UnsafeFolderError(f"{root} {_SOMEBODY_ELSES.format(root.lstat().st_uid)}") from None
    except OSError as error:
        raise UnsafeFolderError(f"{root} is not a folder but a link or a file ({error.strerror}); remove it") from None
    info = os.fstat(descriptor)
    wrong = ""
    if info.st_uid != os.geteuid():
        wrong = _SOMEBODY_ELSES.format(info.st_uid)
    elif stat.S_IMODE(info.st_mode) & 0o077:
        wrong = (
            f"is open to others (mode {stat.S_IMODE(info.st_mode):04o}); look into it, then remove it or `chmod 700` it"
        )
    else:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            wrong = "is in use: a practice server runs on it already"
    if wrong:
        os.close(descriptor)
        raise UnsafeFolderError(f"{root} {wrong}")
    return descriptor


def furnish(root: Path, *, name: str, https_port: int, password: str) -> None:
    """Put in place what is missing.

    Args:
        root: The claimed folder.
        name: Host name, and subject of the first certificate.
        https_port: Where nginx listens.
        password: Of `admin`, for SSH and sudo; empty is a random one.
    """
    for folder in ("bin/inside", "tickets", "root", "home/admin", "etc/aos/nginx.conf.d", "var/lib"):
        (root / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
    for ticket in (root / "tickets").iterdir():
        ticket.unlink()
    _shims(root / "bin")
    if not (root / "sudo_password").exists() or password:
        _write(root / "sudo_password", (password or secrets.token_urlsafe(12)).encode(), 0o600)
    if not (root / "ssh_host_ed25519_key").exists():
        _ssh_keys(root)
    if not (root / "ca.pem").exists():
        make_authority(root)
    if not (root / "etc/aos/nginx.conf.d/nginx.conf").exists():
        _apstra_files(root / "etc/aos", name, https_port)


def pin_host_key(root: Path, ssh_port: int) -> None:
    """Write `known_hosts` for the port that the server now listens on."""
    key = (root / "ssh_host_ed25519_key.pub").read_text().split()[:2]
    _write(root / "known_hosts", f"[{HOST}]:{ssh_port} {' '.join(key)}\n".encode(), 0o600)


def https_port(root: Path) -> int:
    """The port that nginx.conf names, 0 where there is none."""
    conf = root / "etc/aos/nginx.conf.d/nginx.conf"
    found = re.search(r"listen [^;]*:(\d+) ssl", conf.read_text()) if conf.exists() else None
    return int(found[1]) if found else 0


def free_port() -> int:
    """A port nobody listens on, below those that the system gives to outgoing connections."""
    while True:
        port = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port


def _shims(folder: Path) -> None:
    for shim in ("sudo", "systemctl"):
        shutil.copyfile(_SHIMS / shim, folder / shim)
    python, script = shlex.quote(sys.executable), shlex.quote(str(_SHIMS / "docker.py"))
    (folder / "docker").write_text(f'#!/bin/sh\nexec {python} -I -S {script} "${{0%/*/*}}" "$@"\n')
    docker = shlex.quote(str(folder / "docker"))
    (folder / "inside/nginx").write_text((_SHIMS / "nginx").read_text().replace("DOCKER", docker))
    for shim in ("sudo", "systemctl", "docker", "inside/nginx"):
        (folder / shim).chmod(0o755)


def _ssh_keys(root: Path) -> None:
    for file, comment in (
        ("ssh_host_ed25519_key", "practice server"),
        ("id_ed25519", "operator of the practice server"),
    ):
        key = asyncssh.generate_private_key("ssh-ed25519", comment)
        _write(root / f"{file}.pub", key.export_public_key(), 0o644)
        _write(root / file, key.export_private_key(), 0o600)


@cache
def _first_key() -> rsa.RSAPrivateKey:
    """One for all servers of a process: making it takes longer than all the rest."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _apstra_files(folder: Path, name: str, https_port: int) -> None:
    _write(folder / "aos.conf", b"[controller]\nmetadb = tbt:?hostname=localhost\nrole = controller\n", 0o644)
    key, conf = _first_key(), folder / "nginx.conf.d"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(HOST))]
    certificate = (
        _certificate(subject, subject, key.public_key(), years=10)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(conf / "nginx.crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    _write(conf / "nginx.key", _pem(key, serialization.NoEncryption()), 0o600)
    _write(conf / "nginx.conf", _NGINX_CONF.format(host=HOST, port=https_port).encode(), 0o644)


def make_authority(root: Path) -> None:
    """Make a CA to practise with: `ca.pem`, `ca-key.pem` (encrypted) and `ca_key_password` in a folder."""
    key, password = ec.generate_private_key(ec.SECP256R1()), secrets.token_urlsafe(12).encode()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Apstra practice CA"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Practice"),
        ]
    )
    usages = dict.fromkeys(_KEY_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
    certificate = (
        _certificate(name, name, key.public_key(), years=10)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usages), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(root / "ca_key_password", password, 0o600)
    _write(root / "ca-key.pem", _pem(key, serialization.BestAvailableEncryption(password)), 0o600)
    _write(root / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def signing_parameters(root: Path) -> dict[str, Any]:
    """The parameters of a run that the CA of `make_authority` signs for."""
    return {
        "signer": "local-ca",
        "signer_options": {
            "ca_certificate": str(root / "ca.pem"),
            "ca_key": str(root / "ca-key.pem"),
            "ca_key_password": f"file:{root / 'ca_key_password'}",
        },
        "ca_file": str(root / "ca.pem"),
    }


def _certificate(
    subject: x509.Name, issuer: x509.Name, public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, *, years: int
) -> x509.CertificateBuilder:
    start = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=365 * years))
    )


def _pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption
) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _write(file: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)
        stream.write(content)
