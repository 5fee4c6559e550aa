"""Reading certificates: what a CA hands back, in the forms in which CAs hand it back. Pure: bytes in, values out."""

import base64
import binascii
import contextlib
import hashlib
import warnings
from collections.abc import Iterator, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtensionOID, NameOID

from runbook_lib.models import Certificate
from runbook_lib.pki.foreign import PKCS7_LABELS, UNREADABLE, pem_blocks, what_it_is

T = TypeVar("T", bound=x509.ExtensionType)
LARGEST = 1 << 20
LONGEST_CHAIN = 10
WANTED = "hand in the certificate as PEM (text that begins -----BEGIN CERTIFICATE-----), DER or PKCS#7, with its chain"
_CERTIFICATE_LABELS = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
_KNOWN_EXTENSIONS = frozenset({
    ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE, ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.CERTIFICATE_POLICIES, ExtensionOID.POLICY_CONSTRAINTS, ExtensionOID.INHIBIT_ANY_POLICY,
})  # fmt: skip


def read_certificates(data: bytes) -> tuple[Certificate, ...]:
    """Every certificate in a file, in its order, each once.

    Takes PEM with whatever surrounds it (line ends of any kind, a byte order mark, text, TRUSTED CERTIFICATE), DER and PKCS#7.

    Raises:
        ValueError: There is no certificate in it, or one that is damaged; the text names what it is and what to hand in instead.
    """
    if len(data) > LARGEST:
        msg = f"it is larger than {LARGEST >> 20} MiB; {WANTED}"
        raise ValueError(msg)
    with quiet():
        found = list(_from_pem(data)) or _from_der(data)
        if not found:
            msg = f"it is {what_it_is(data)}; {WANTED}"
            raise ValueError(msg)
        unique = {each.public_bytes(serialization.Encoding.DER): each for each in found}
        return tuple(map(describe, unique.values()))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without cryptography's warnings of BER, of serial number 0 and of long names: some CAs write them, and they read well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _from_pem(data: bytes) -> Iterator[x509.Certificate]:
    for label, body in pem_blocks(data):
        if label in _CERTIFICATE_LABELS:
            der = _decoded(body)
            yield _certificate(_first_value(der) if label.startswith(b"TRUSTED") else der)
        elif label in PKCS7_LABELS:
            yield from _from_pkcs7(_decoded(body))


def _decoded(body: bytes | None) -> bytes:
    if body is None:
        msg = f"a PEM block in it has no END line, so the file is cut off; {WANTED}"
        raise ValueError(msg)
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        msg = f"a PEM block in it is damaged; {WANTED}"
        raise ValueError(msg) from None


def _from_der(data: bytes) -> list[x509.Certificate]:
    if not data.startswith(b"\x30"):
        return []
    value = _first_value(data)
    whole = value if not data[len(value) :].strip() else data
    try:
        return [x509.load_der_x509_certificate(whole)]
    except UNREADABLE:
        return _from_pkcs7(whole)


def _from_pkcs7(der: bytes) -> list[x509.Certificate]:
    try:
        return pkcs7.load_der_pkcs7_certificates(der)
    except UNREADABLE:
        return []


def _certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE:
        msg = f"a certificate in it is damaged; {WANTED}"
        raise ValueError(msg) from None


def _first_value(der: bytes) -> bytes:
    """The first DER value: openssl's TRUSTED CERTIFICATE appends its own trust settings to the certificate."""
    if len(der) < 2 or der[1] < 0x80:  # noqa: PLR2004 - X.690, section 8.1.3: short form
        return der[: 2 + der[1]] if len(der) > 1 else der
    count = der[1] & 0x7F
    return der[: 2 + count + int.from_bytes(der[2 : 2 + count])]


def describe(certificate: x509.Certificate) -> Certificate:
    """What is read from one certificate.

    Raises:
        ValueError: A field of it cannot be read.
    """
    try:
        return _described(certificate)
    except UNREADABLE as error:
        msg = f"the certificate cannot be read: {error}"
        raise ValueError(msg) from None


def _described(certificate: x509.Certificate) -> Certificate:
    names = certificate.subject.get_attributes_for_oid
    common = names(NameOID.COMMON_NAME)
    constraints = _extension(certificate, x509.BasicConstraints)
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    public = certificate.public_key()
    return Certificate(
        pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        sha256=hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
        spki_sha256=spki_sha256_of(public),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        common_name=str(common[0].value) if common else "",
        organizational_units=tuple(str(each.value) for each in names(NameOID.ORGANIZATIONAL_UNIT_NAME)),
        san=alternative_names(_extension(certificate, x509.SubjectAlternativeName)),
        serial=f"{certificate.serial_number:x}",
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=key_type(public),
        signature_hash=certificate.signature_hash_algorithm.name if certificate.signature_hash_algorithm else "",
        is_ca=bool(constraints and constraints.ca),
        key_usage=usages(_extension(certificate, x509.KeyUsage)),
        extended_key_usage=tuple(each.dotted_string for each in extended) if extended is not None else None,
        unknown_critical=tuple(
            each.oid.dotted_string
            for each in certificate.extensions
            if each.critical and each.oid not in _KNOWN_EXTENSIONS
        ),
        self_signed=certificate.issuer == certificate.subject and issued(certificate, certificate),
    )


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def usages(usage: x509.KeyUsage | None) -> tuple[str, ...] | None:
    """`digital_signature`, `key_encipherment`, … of keyUsage; None where the extension is absent."""
    names = ("digital_signature", "key_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
    return None if usage is None else tuple(name for name in names if getattr(usage, name))


def alternative_names(san: x509.SubjectAlternativeName | None) -> tuple[str, ...]:
    """SAN entries as `DNS:name` or `IP:address`, other kinds as `OTHER:…`."""
    kinds: dict[type, str] = {x509.DNSName: "DNS", x509.IPAddress: "IP"}
    return tuple(f"{kinds.get(type(each), 'OTHER')}:{each.value}" for each in san or ())


def issued(issuer: x509.Certificate, subject: x509.Certificate) -> bool:
    """Whether the issuer's name and key made the subject's signature."""
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def load(certificate: Certificate) -> x509.Certificate:
    """The cryptography object of a certificate."""
    return x509.load_pem_x509_certificate(certificate.pem.encode())


def key_type(public: PublicKeyTypes) -> str:
    """`rsa-2048`, `ec-p256`, … of a public key."""
    if isinstance(public, rsa.RSAPublicKey):
        return f"rsa-{public.key_size}"
    if isinstance(public, ec.EllipticCurvePublicKey):
        return "ec-" + {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}.get(
            public.curve.name, public.curve.name
        )
    return type(public).__name__.removesuffix("PublicKey").lower()


def key_type_of(public_key_pem: str) -> str:
    """`rsa-2048`, `ec-p256`, … of a public key in PEM.

    Raises:
        ValueError: It is no public key, or one of a kind that is not known here.
    """
    return key_type(_public_key(public_key_pem))


def spki_sha256(public_key_pem: str) -> str:
    """SHA-256 over the DER SubjectPublicKeyInfo of a public key in PEM, lower-case hex (RFC 7469, section 2.4).

    Raises:
        ValueError: It is no public key, or one of a kind that is not known here.
    """
    return spki_sha256_of(_public_key(public_key_pem))


def spki_sha256_of(public: PublicKeyTypes) -> str:
    """SHA-256 over the DER SubjectPublicKeyInfo of a key, lower-case hex."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def spki_sha256_of_private(pem: bytes) -> str:
    """The same of the public key of a private key in PEM, without a passphrase.

    Raises:
        ValueError: It is no such key.
    """
    try:
        return spki_sha256_of(serialization.load_pem_private_key(pem, None).public_key())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        msg = "holds no private key that can be read"
        raise ValueError(msg) from None


def _public_key(pem: str) -> PublicKeyTypes:
    try:
        return serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        msg = "no public key that can be read"
        raise ValueError(msg) from None


def bundle_pem(chain: Sequence[Certificate]) -> str:
    """The chain as nginx wants it: PEM, leaf first, one line end after each block."""
    return "".join(each.pem for each in chain)


def order_chain(certificates: Sequence[Certificate], leaf_spki_sha256: str) -> tuple[Certificate, ...]:
    """The leaf that holds our key, then its issuers up to but without the root.

    Where no certificate holds our key, one that names itself as no other's issuer stands in for the leaf, so that the checks
    can name what is wrong with it. Certificates that do not belong to the chain are left out: nginx would only send them.

    Args:
        certificates: At least one, in any order.
        leaf_spki_sha256: Of our key, lower-case hex; or empty.
    """
    issuing = {each.issuer for each in certificates if each.issuer != each.subject}
    ours = [each for each in certificates if each.spki_sha256 == leaf_spki_sha256]
    ends = [each for each in certificates if each.subject not in issuing]
    chain = [
        max(ours, key=lambda each: each.not_before) if ours else min(ends or certificates, key=lambda each: each.is_ca)
    ]
    while len(chain) < LONGEST_CHAIN and (above := _issuer(chain[-1], certificates)) and above not in chain:
        chain.append(above)
    return tuple(each for index, each in enumerate(chain) if index == 0 or not each.self_signed)


def _issuer(certificate: Certificate, candidates: Sequence[Certificate]) -> Certificate | None:
    """Who signed a certificate; among several of one key, a cross-signed one before the root, then the one that lasts longest."""
    if certificate.self_signed:
        return None
    subject = load(certificate)
    found = [each for each in candidates if each.subject == certificate.issuer and issued(load(each), subject)]
    return max(found, key=lambda each: (not each.self_signed, each.not_after), default=None)
