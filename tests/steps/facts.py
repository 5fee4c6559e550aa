"""Facts to plan and judge over: a server as it should be, a change that is ready, and ways to make them otherwise."""

import dataclasses
import hashlib
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from runbook_lib.models import ChangeFolder, Container, Facts, FileFact, Mount, Pair, Served
from runbook_lib.parameters import Parameters
from runbook_lib.pki.certificates import spki_sha256_of
from runbook_lib.pki.csr import template
from runbook_lib.steps.folder import request_record
from tests.pki.authority import NOW, Issued, authority, issue

CHANGE = "20260601T120000Z-1a2b3c"
FOLDER = f"/var/lib/apstra-runbook/changes/{CHANGE}"
CONF_DIR = "/etc/aos/nginx.conf.d"
ROOT = authority("Example Root")
ISSUER = authority("Example Issuing CA", ROOT, path_length=0)
OLD = issue()
NEW = issue(issuer=ISSUER)
OTHER = issue()


def parameters(**given: object) -> Parameters:
    """Usable parameters."""
    known: dict[str, Any] = {"host": "apstra.example.com", "common_name": "apstra.example.com", "key_type": "ec-p256",
             "service_addresses": ["apstra.example.com", "192.0.2.10"]}  # fmt: skip
    return Parameters(**(known | given))


def sha256(data: bytes) -> str:
    """Lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def key_pem(issued: Issued) -> bytes:
    """The private key as nginx has it."""
    return issued.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(issued: Issued) -> str:
    """The public key as openssl prints it."""
    return issued.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def a_pair(leaf: Issued, *above: Issued) -> Pair:
    """A pair with its key, as facts show it."""
    chain = (leaf, *above)
    return Pair(
        certificate_sha256=sha256(b"".join(each.pem for each in chain)),
        key_sha256=sha256(key_pem(leaf)),
        chain=tuple(each.certificate for each in chain),
        key_spki_sha256=spki_sha256_of(leaf.key.public_key()),
    )


LIVE, STAGED, FOREIGN = a_pair(OLD), a_pair(NEW, ISSUER), a_pair(OTHER)
SUMS = {"aos.tar": "0" * 64, "nginx.crt": LIVE.certificate_sha256, "nginx.key": LIVE.key_sha256}
BACKED_UP = {f"backup/{name}": "600" for name in (*SUMS, "SHA256SUMS")}
PUBLIC = {
    name: (spki_sha256_of(NEW.key.public_key()), public_pem(NEW)) for name in ("key", "csr", "certificate")
}  # fmt: skip


def a_change(**given: Any) -> ChangeFolder:  # noqa: ANN401 - handed on to a typed constructor
    """A change that is ready to be installed, or with anything else about it."""
    ready: dict[str, Any] = {
        "change_id": CHANGE, "request": request_record(parameters().request()), "csr": "a CSR", "staged": STAGED, "public_keys": PUBLIC,
        "before": LIVE, "backup_sums": SUMS, "files": {"change.json": "600", "nginx.key": "600", "nginx.csr": "600", "nginx.crt": "600"} | BACKED_UP,
    }  # fmt: skip
    return ChangeFolder(**(ready | given))


def a_container(**given: Any) -> Container:  # noqa: ANN401 - handed on to a typed constructor
    """The nginx container, running."""
    running: dict[str, Any] = {"name": "aos_nginx_1", "container_id": "c" * 64, "status": "running",
               "pid": 4242, "mounts": (Mount("bind", CONF_DIR, "/etc/nginx/conf.d"),)}  # fmt: skip
    return Container(**(running | given))


def a_file(name: str, **given: Any) -> FileFact:  # noqa: ANN401 - handed on to a typed constructor
    """One entry of conf_dir."""
    as_it_is: dict[str, Any] = {"name": name, "kind": "f", "mode": "644", "owner": "0", "group": "0", "size": 100, "sha256": sha256(name.encode())}  # fmt: skip
    return FileFact(**(as_it_is | given))


CONF_FILES = (a_file("nginx.conf"), a_file("nginx.crt"), a_file("nginx.key", mode="600"))


def seen(address: str, *chain: Issued, vantage: str = "server", error: str = "") -> Served:
    """What a handshake saw."""
    return Served(address, vantage, tuple(each.pem.decode() for each in chain), "TLSv1.3" if chain else "", error)


def a_server(given: Parameters | None = None, **changed: Any) -> Facts:  # noqa: ANN401 - handed on to a typed constructor
    """A server on which everything is as it should be, or with anything else about it."""
    given = given or parameters()
    container = a_container(mounts=(Mount("bind", given.conf_dir, "/etc/nginx/conf.d"),))
    as_it_should_be: dict[str, Any] = {
        "host": given.host, "hostname": "aos-server", "host_key": "SHA256:abc", "os": "Ubuntu 22.04", "openssl": "OpenSSL 3.0.2 15 Mar 2022",
        "apstra_version": "6.0.0", "root_uid": 0, "container": container, "containers": (container,), "conf_files": CONF_FILES, "live": LIVE,
        "served": tuple(seen(each, OLD) for each in given.addresses), "listening": ("127.0.0.1:443",),
        "free_bytes": {"conf_dir": 1 << 40, "state_dir": 1 << 40}, "aos_bytes": 1 << 20, "clock_skew_s": 0.5, "now": NOW,
    }  # fmt: skip
    return Facts(**(as_it_should_be | changed))


def with_change(**given: Any) -> Facts:  # noqa: ANN401 - handed on to a typed constructor
    """That server with one change on it."""
    return a_server().with_change(a_change(**given))


def with_file(name: str, **given: Any) -> Facts:  # noqa: ANN401 - handed on to a typed constructor
    """That server with one file of conf_dir otherwise."""
    files = tuple(dataclasses.replace(each, **given) if each.name == name else each for each in CONF_FILES)
    return a_server(conf_files=files)


TEMPLATE = template(parameters().request())
