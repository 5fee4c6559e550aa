"""Certificates to judge, made on the spot: right ones, and wrong ones that a CA could hand back."""

import datetime as dt
import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from runbook_lib.models import Certificate
from runbook_lib.pki.certificates import describe

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SERVER_AUTH = (ExtendedKeyUsageOID.SERVER_AUTH,)
CLIENT_AUTH = (ExtendedKeyUsageOID.CLIENT_AUTH,)


@dataclass(frozen=True)
class Issued:
    """A certificate with its private key."""

    x509: x509.Certificate
    key: Key

    @property
    def certificate(self) -> Certificate:
        """As our code describes it."""
        return describe(self.x509)

    @property
    def pem(self) -> bytes:
        """PEM bytes."""
        return self.x509.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """DER bytes."""
        return self.x509.public_bytes(Encoding.DER)


def ec_key() -> Key:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def rsa_key(bits: int = 2048) -> Key:
    """An RSA key, the same one each time: making one is slow."""
    return rsa.generate_private_key(65537, bits)


def name_of(common_name: str, **others: str) -> x509.Name:
    """A subject."""
    kinds = {"organization": NameOID.ORGANIZATION_NAME, "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME}
    attributes = [x509.NameAttribute(kinds[kind], value) for kind, value in others.items()]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def alternative_names(entries: Sequence[str]) -> x509.SubjectAlternativeName:
    """`DNS:…` and `IP:…` as the extension."""
    pairs = [entry.split(":", 1) for entry in entries]
    return x509.SubjectAlternativeName(
        [x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value) for kind, value in pairs]
    )


def key_usage(*names: str) -> x509.KeyUsage:
    """The usages named, no other."""
    known = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
    )
    return x509.KeyUsage(**{name: name in names for name in known}, encipher_only=False, decipher_only=False)


def issue(  # noqa: PLR0913 - every way in which certificates differ
    common_name: str = "apstra.example.com",
    issuer: Issued | None = None,
    *,
    san: Sequence[str] = ("DNS:apstra.example.com", "IP:192.0.2.10"),
    subject: x509.Name | None = None,
    key: Key | None = None,
    ca: bool = False,
    path_length: int | None = None,
    usage: x509.KeyUsage | None = None,
    extended: Sequence[x509.ObjectIdentifier] | None = SERVER_AUTH,
    not_before: dt.datetime = NOW - DAY,
    days: float = 365,
    digest: hashes.SHA256 | hashes.SHA384 | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Issued:
    """A certificate, self-signed without an issuer."""
    key = key or ec_key()
    subject = subject or name_of(common_name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.x509.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
    )
    extensions = list(extra)
    extensions += [(alternative_names(san), False)] if san and not ca else []
    extensions += [(usage, True)] if usage else []
    extensions += [(x509.ExtendedKeyUsage(extended), False)] if extended and not ca else []
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Issued(builder.sign(issuer.key if issuer else key, digest or hashes.SHA256()), key)


def authority(
    common_name: str,
    issuer: Issued | None = None,
    *,
    days: float = 3650,
    path_length: int | None = None,
    key: Key | None = None,
) -> Issued:
    """A root without an issuer, else an intermediate."""
    return issue(common_name, issuer, ca=True, days=days, path_length=path_length, key=key, not_before=NOW - 30 * DAY)
