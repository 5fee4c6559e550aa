"""Signers: each gives a certificate that our own judgement and openssl accept, and none gives a secret away."""

import asyncio
import datetime as dt
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from runbook_lib.errors import SigningRefused, UnusableParameters
from runbook_lib.models import Certificate, CertificateRequest, SubjectName, Verdict
from runbook_lib.pki.certificates import order_chain, read_certificates
from runbook_lib.pki.checks import check_certificate
from runbook_lib.pki.csr import template
from runbook_lib.signers import Signer, make_signer, option_faults
from runbook_lib.signers.local_ca import LocalCa
from tests.pki.authority import (
    DAY,
    Issued,
    Key,
    alternative_names,
    authority,
    ec_key,
    issue,
    key_usage,
    name_of,
    rsa_key,
)

NOW = dt.datetime.now(dt.UTC)
SAN = ("DNS:apstra.example.com", "IP:192.0.2.10", "IP:2001:db8::10")
REQUEST = CertificateRequest(
    SubjectName("apstra.example.com", organization="Käse, GmbH + $HOME", country="DE", email="netz@example.com"),
    SAN,
    "ec-p256",
)
PASSPHRASE = "correct horse battery staple"
SIGNING = key_usage("key_cert_sign", "crl_sign")


def identified(key: Key, by: Key) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """The key identifiers of a CA's certificate, as `openssl verify -x509_strict` wants them."""
    own, above = (
        x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
        x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()),
    )
    return ((own, False), (above, False))


ROOT_KEY, CA_KEY = ec_key(), ec_key()
ROOT = issue(
    "Example Root",
    ca=True,
    days=3650,
    not_before=NOW - 30 * DAY,
    usage=SIGNING,
    key=ROOT_KEY,
    extra=identified(ROOT_KEY, ROOT_KEY),
)
CA = issue(
    "Example Issuing CA",
    ROOT,
    ca=True,
    path_length=0,
    days=3000,
    not_before=NOW - 30 * DAY,
    usage=SIGNING,
    key=CA_KEY,
    extra=identified(CA_KEY, ROOT_KEY),
)
MakeSigner = Callable[..., Signer]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A change's folder with key and CSR, made by openssl as steps 2 and 3 do."""
    place = tmp_path / "a change's folder"
    place.mkdir()
    make_key = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "nginx.key"]
    subprocess.run(make_key, cwd=place, capture_output=True, check=True)
    make_csr = ["openssl", "req", "-new", "-sha256", "-key", "nginx.key", "-config", "/dev/stdin", "-out", "nginx.csr"]
    subprocess.run(make_csr, cwd=place, input=template(REQUEST).encode(), capture_output=True, check=True)
    return place


@pytest.fixture
def csr(folder: Path) -> str:
    """The CSR, PEM."""
    return (folder / "nginx.csr").read_text()


def encrypted(key: Issued) -> bytes:
    """The private key as an encrypted PEM."""
    return key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode()))


def in_clear(key: Issued) -> bytes:
    """The private key as a PEM without encryption."""
    return key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the CA's files, right ones and wrong ones."""
    contents = {
        "ca.pem": CA.pem, "chain.pem": ROOT.pem + CA.pem, "root.pem": ROOT.pem, "leaf.pem": issue(key=CA.key).pem, "ca.der": CA.der, "page.html": b"<html></html>",
        "ca.key": encrypted(CA), "root.key": encrypted(ROOT), "clear.key": in_clear(CA), "no.key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAAw\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "sly.key": b"ENCRYPTED, or so it says\n" + in_clear(CA), "garbage.key": os.urandom(64),
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.fixture
def make(files: Path) -> MakeSigner:
    """Makes a local-ca signer; the references know the passphrase and the key."""

    def resolve(option: str, reference: str) -> str:
        assert option in {"ca_key", "ca_key_password"}
        return {
            "env:PASSPHRASE": PASSPHRASE,
            "env:WRONG": "wrong passphrase",
            "env:KEY": in_clear(CA).decode(),
            "env:SEALED": encrypted(CA).decode(),
        }[reference]

    return lambda **options: make_signer("local-ca", options, None, resolve, files)


def signed(
    signer: Signer, csr: str, request: CertificateRequest = REQUEST, now: dt.datetime = NOW
) -> tuple[Certificate, ...]:
    """What a signer hands back, as it is read."""
    data = asyncio.run(signer.sign(csr, request, now))
    assert data
    return read_certificates(data)


def test_the_local_ca_signs_what_was_asked(make: MakeSigner, csr: str, tmp_path: Path) -> None:
    """Leaf and intermediate come back, every check of ours passes, and openssl takes them for a TLS server."""
    chain = signed(make(ca_certificate="ca.pem", ca_key="ca.key", ca_key_password="env:PASSPHRASE"), csr)
    assert [each.common_name for each in chain] == ["apstra.example.com", "Example Issuing CA"]
    checks = check_certificate(
        chain, REQUEST, (ROOT.certificate,), NOW, ("apstra.example.com", "192.0.2.10", "2001:db8::10")
    )
    assert {each.verdict for each in checks} == {Verdict.PASS}
    (tmp_path / "bundle.pem").write_text("".join(each.pem for each in chain))
    line = [
        "openssl",
        "verify",
        "-x509_strict",
        "-purpose",
        "sslserver",
        "-verify_ip",
        "192.0.2.10",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "bundle.pem",
        "bundle.pem",
    ]
    assert subprocess.run(line, cwd=tmp_path, capture_output=True, check=False, text=True).stderr == ""


def test_the_local_ca_takes_the_public_key_alone_from_a_csr() -> None:
    """A CSR that asks for another name, CA:TRUE and clientAuth gets what the request says."""
    key = ec_key()
    builder = x509.CertificateSigningRequestBuilder().subject_name(name_of("evil.example.com"))
    builder = builder.add_extension(alternative_names(["DNS:evil.example.com"]), critical=False)
    csr = (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    leaf = signed(LocalCa([CA.certificate], CA.key), csr)[0]
    assert (leaf.common_name, leaf.san, leaf.is_ca, leaf.extended_key_usage) == (
        "apstra.example.com",
        SAN,
        False,
        ("1.3.6.1.5.5.7.3.1",),
    )
    assert x509.load_pem_x509_certificate(leaf.pem.encode()).public_key() == key.public_key()
    assert (
        "evil"
        not in subprocess.run(
            ["openssl", "x509", "-noout", "-text"], input=leaf.pem, capture_output=True, check=True, text=True
        ).stdout
    )


def test_the_local_cas_certificate_has_the_fields_of_rfc_5280(csr: str) -> None:
    """Key identifiers on both sides, a serial number of at most 20 octets that never comes twice, a start five minutes ago."""
    first, second = (
        x509.load_pem_x509_certificate(signed(LocalCa([CA.certificate], CA.key), csr)[0].pem.encode()) for _ in range(2)
    )
    assert first.serial_number != second.serial_number
    assert 0 < first.serial_number < 1 << 159
    assert first.not_valid_before_utc == (NOW - dt.timedelta(minutes=5)).replace(microsecond=0)
    assert first.not_valid_after_utc == (NOW + 365 * DAY).replace(microsecond=0)
    own = first.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert own.key_identifier == x509.SubjectKeyIdentifier.from_public_key(CA.key.public_key()).digest
    assert first.extensions.get_extension_for_class(
        x509.SubjectKeyIdentifier
    ).value == x509.SubjectKeyIdentifier.from_public_key(first.public_key())


def test_a_certificate_does_not_outlive_its_ca(csr: str) -> None:
    """Validity is cut to the CA's own, and the checks say so."""
    chain = signed(LocalCa([CA.certificate], CA.key), csr, replace(REQUEST, validity_days=3650))
    assert chain[0].not_after == CA.certificate.not_after
    said = {
        each.question
        for each in check_certificate(chain, replace(REQUEST, validity_days=3650), (ROOT.certificate,), NOW, ())
        if each.verdict is Verdict.WARN
    }
    assert {"Did the CA give the validity asked for?", "Will its CA last longer than the certificate?"} <= said


def test_a_root_that_signs_is_not_sent(csr: str) -> None:
    """A self-signed CA stays out of the bundle: clients have it or do not trust it."""
    assert [each.common_name for each in signed(LocalCa([ROOT.certificate], ROOT.key), csr)] == ["apstra.example.com"]


def test_intermediates_above_the_ca_are_sent(csr: str) -> None:
    """Whatever stands above the CA in its file goes with the leaf, the root apart."""
    upper = authority("Upper CA", authority("Root"))
    lower = authority("Lower CA", upper)
    known = [each.certificate for each in (upper, lower)]
    chain = signed(LocalCa(order_chain(known, lower.certificate.spki_sha256), lower.key), csr)
    assert [each.common_name for each in chain] == ["apstra.example.com", "Lower CA", "Upper CA"]


USABLE = {
    "encrypted file": {"ca_certificate": "ca.pem", "ca_key": "ca.key", "ca_key_password": "env:PASSPHRASE"},
    "in DER": {"ca_certificate": "ca.der", "ca_key": "ca.key", "ca_key_password": "env:PASSPHRASE"},
    "with the root in its file": {
        "ca_certificate": "chain.pem",
        "ca_key": "ca.key",
        "ca_key_password": "env:PASSPHRASE",
    },
    "key by reference": {"ca_certificate": "ca.pem", "ca_key": "env:KEY"},
    "key by reference, a passphrase too many": {
        "ca_certificate": "ca.pem",
        "ca_key": "env:KEY",
        "ca_key_password": "env:PASSPHRASE",
    },
    "encrypted key by reference": {
        "ca_certificate": "ca.pem",
        "ca_key": "env:SEALED",
        "ca_key_password": "env:PASSPHRASE",
    },
}


@pytest.mark.parametrize("options", USABLE.values(), ids=USABLE.keys())
def test_a_ca_in_any_form_is_taken(make: MakeSigner, csr: str, options: dict[str, str]) -> None:
    """The same CA, however its certificate and key are given, sends itself and not its root."""
    assert not option_faults("local-ca", options)
    assert [each.common_name for each in signed(make(**options), csr)] == ["apstra.example.com", "Example Issuing CA"]


UNUSABLE = {
    "no such certificate": ({"ca_certificate": "none.pem", "ca_key": "env:KEY"}, "ca_certificate", "cannot be read"),
    "certificate is a folder": ({"ca_certificate": ".", "ca_key": "env:KEY"}, "ca_certificate", "cannot be read"),
    "certificate is a page": ({"ca_certificate": "page.html", "ca_key": "env:KEY"}, "ca_certificate", "an HTML page"),
    "certificate is a leaf": (
        {"ca_certificate": "leaf.pem", "ca_key": "env:KEY"},
        "ca_certificate",
        "is no CA's certificate",
    ),
    "no such key": ({"ca_certificate": "ca.pem", "ca_key": "none.key"}, "ca_key", "cannot be read"),
    "key in clear": ({"ca_certificate": "ca.pem", "ca_key": "clear.key"}, "ca_key", "without an encrypted PEM key"),
    "key in clear that says otherwise": (
        {"ca_certificate": "ca.pem", "ca_key": "sly.key", "ca_key_password": "env:PASSPHRASE"},
        "ca_key",
        "cannot be used",
    ),
    "key is garbage": ({"ca_certificate": "ca.pem", "ca_key": "garbage.key"}, "ca_key", "without an encrypted PEM key"),
    "key is damaged": (
        {"ca_certificate": "ca.pem", "ca_key": "no.key", "ca_key_password": "env:PASSPHRASE"},
        "ca_key",
        "cannot be used",
    ),
    "no passphrase": ({"ca_certificate": "ca.pem", "ca_key": "ca.key"}, "ca_key", "needs ca_key_password"),
    "wrong passphrase": (
        {"ca_certificate": "ca.pem", "ca_key": "ca.key", "ca_key_password": "env:WRONG"},
        "ca_key",
        "wrong ca_key_password",
    ),
    "key of another CA": (
        {"ca_certificate": "ca.pem", "ca_key": "root.key", "ca_key_password": "env:PASSPHRASE"},
        "ca_key",
        "belongs to another certificate",
    ),
}


@pytest.mark.parametrize(("options", "field", "words"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_unusable_ca_is_named(make: MakeSigner, options: dict[str, str], field: str, words: str) -> None:
    """The fault names the option and what is wrong; neither key nor passphrase stands in it, nor in what it was raised from."""
    with pytest.raises(UnusableParameters) as caught:
        make(**options)
    (fault,) = caught.value.faults
    assert (fault.field, words in fault.wrong) == (f"signer_options.{field}", True), fault
    said = f"{caught.value} {caught.value!r} {fault!r} {caught.value.__cause__!r}"
    assert not [
        secret for secret in (PASSPHRASE, "wrong passphrase", in_clear(CA).decode().splitlines()[1]) if secret in said
    ]


BAD_OPTIONS = {
    "nothing": ("local-ca", {}, {"ca_certificate": "is missing", "ca_key": "is missing"}),
    "misspelt": (
        "local-ca",
        {"ca_certificate": "a", "ca_key": "b", "ca_kee": "c"},
        {"ca_kee": "is no option of this signer"},
    ),
    "passphrase in clear": (
        "local-ca",
        {"ca_certificate": "a", "ca_key": "b", "ca_key_password": "Geheim-1234"},
        {"ca_key_password": "is no secret reference"},
    ),
    "key in clear": (
        "local-ca",
        {"ca_certificate": "a", "ca_key": in_clear(CA).decode()},
        {"ca_key": "is a key in clear"},
    ),
    "a number": (
        "local-ca",
        {"ca_certificate": 7, "ca_key": "b"},
        {"ca_certificate": "Input should be a valid string"},
    ),
    "an option for manual": ("manual", {"ca_key": "b"}, {"ca_key": "is no option of this signer"}),
    "an option for self-signed": ("self-signed", {"days": 3}, {"days": "is no option of this signer"}),
    "a signer that is none": ("vault", {"a": "b"}, {}),
}


@pytest.mark.parametrize(("name", "options", "wanted"), BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
def test_bad_options_are_all_named(name: str, options: dict[str, object], wanted: dict[str, str]) -> None:
    """Every fault at once, by the option's name, with what to write and without what was given."""
    faults = option_faults(name, options)
    assert {each.field.removeprefix("signer_options."): each.wrong for each in faults} == wanted
    assert all(each.write for each in faults)
    assert not [secret for secret in ("Geheim-1234", in_clear(CA).decode().splitlines()[1]) if secret in repr(faults)]


def tampered(csr: str) -> str:
    """A CSR whose signature does not hold."""
    der = x509.load_pem_x509_csr(csr.encode()).public_bytes(Encoding.DER)
    return (
        x509.load_der_x509_csr(der.replace(b"apstra.example.com", b"aqstra.example.com", 1))
        .public_bytes(Encoding.PEM)
        .decode()
    )


def test_the_local_ca_refuses_what_it_must(csr: str) -> None:
    """A CSR that its key did not sign, one for another kind of key, garbage, and a CA that is out of date."""
    signer = LocalCa([CA.certificate], CA.key)
    other = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name_of("a"))
        .sign(rsa_key(), hashes.SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )
    cases = ((tampered(csr), NOW, "not signed by its own key"), (other, NOW, "rsa-2048, and ec-p256 was asked for"), ("garbage", NOW, "cannot sign this request"),
             (csr, NOW - 40 * DAY, "not in date"), (csr, NOW + 4000 * DAY, "not in date"))  # fmt: skip
    for given, now, words in cases:
        with pytest.raises(SigningRefused, match=words):
            asyncio.run(signer.sign(given, REQUEST, now))


def test_a_key_that_may_not_sign_certificates_is_no_ca() -> None:
    """A CA certificate without keyCertSign is refused."""
    made = issue("CRL CA", ca=True, usage=key_usage("crl_sign"))
    with pytest.raises(ValueError, match="may not sign others"):
        LocalCa([made.certificate], made.key)


def self_sign(folder: Path, request: CertificateRequest) -> str:
    """Runs the commands of `self-signed` as the root shell would."""
    (command,) = make_signer("self-signed", {}, None, lambda *_: "", folder).commands(request, str(folder))
    ended = subprocess.run(
        ["/bin/sh", "-c", command.script], input=command.stdin.encode(), capture_output=True, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return ended.stdout.decode()


def test_self_signed_signs_what_was_asked(folder: Path) -> None:
    """The server's openssl gives one certificate that only fails to be trusted, and leaves nothing in the folder."""
    before = sorted(folder.iterdir())
    (leaf,) = read_certificates(self_sign(folder, REQUEST).encode())
    warned = {
        each.question: each.verdict
        for each in check_certificate(
            (leaf,), REQUEST, (), dt.datetime.now(dt.UTC), ("apstra.example.com", "192.0.2.10")
        )
        if each.verdict is not Verdict.PASS
    }
    assert warned == {"Does the chain lead to a trusted CA?": Verdict.WARN}
    assert (leaf.san, leaf.is_ca, leaf.key_usage, (leaf.not_after - leaf.not_before).days) == (
        SAN,
        False,
        ("digital_signature",),
        365,
    )
    assert (
        x509.load_pem_x509_certificate(leaf.pem.encode())
        .extensions.get_extension_for_class(x509.BasicConstraints)
        .critical
    )
    assert sorted(folder.iterdir()) == before


def test_self_signed_serial_numbers_differ(folder: Path) -> None:
    """Two certificates of one key can be told apart."""
    serials = {
        read_certificates(self_sign(folder, replace(REQUEST, validity_days=3)).encode())[0].serial for _ in range(2)
    }
    assert len(serials) == 2


@pytest.mark.parametrize(
    "entry", ["DNS:a\nbasicConstraints = CA:TRUE", "DNS:a, DNS:evil", "email:copy", "DNS:$ENV::HOME"]
)
def test_self_signed_extensions_cannot_be_injected(entry: str) -> None:
    """A SAN entry that is more than a name is refused before anything is run."""
    with pytest.raises(ValueError, match=r"^san "):
        make_signer("self-signed", {}, None, lambda *_: "", Path()).commands(replace(REQUEST, san=(entry,)), "/folder")


def test_manual_waits_for_the_file(tmp_path: Path) -> None:
    """None while there is no file or none is named, then its bytes as they are."""
    file = tmp_path / "answer.p7b"
    signer = make_signer("manual", {}, file, lambda *_: "", tmp_path)
    assert signer.commands(REQUEST, "/folder") == ()
    assert asyncio.run(signer.sign("", REQUEST, NOW)) is None
    assert asyncio.run(make_signer("manual", {}, None, lambda *_: "", tmp_path).sign("", REQUEST, NOW)) is None
    file.write_bytes(CA.der)
    assert asyncio.run(signer.sign("", REQUEST, NOW)) == CA.der


def test_manual_refuses_what_is_no_file(tmp_path: Path) -> None:
    """A folder or a pipe is refused at once, and so is a file that is larger than a certificate can be."""
    os.mkfifo(tmp_path / "pipe")
    for name in (".", "pipe"):
        with pytest.raises(SigningRefused, match="no regular file"):
            asyncio.run(make_signer("manual", {}, tmp_path / name, lambda *_: "", tmp_path).sign("", REQUEST, NOW))
    with (tmp_path / "huge").open("wb") as sparse:
        sparse.truncate(1 << 33)
    with pytest.raises(SigningRefused, match="larger than 1 MiB"):
        asyncio.run(make_signer("manual", {}, tmp_path / "huge", lambda *_: "", tmp_path).sign("", REQUEST, NOW))
