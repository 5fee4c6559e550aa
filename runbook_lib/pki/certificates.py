"""Reading certificates: what a CA hands back, in the forms in which CAs hand it back. Pure: bytes in, values out."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import ExtensionOID, NameOID

from runbook_lib.models import Certificate

T = TypeVar("T", bound=x509.ExtensionType)
LARGEST = 1 << 20
WANTED = "hand in the certificate as PEM (text that begins -----BEGIN CERTIFICATE-----), DER or PKCS#7, with its chain"
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_KNOWN_EXTENSIONS = frozenset({
    ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE, ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.CERTIFICATE_POLICIES, ExtensionOID.POLICY_CONSTRAINTS, ExtensionOID.INHIBIT_ANY_POLICY,
})  # fmt: skip


def read_certificates(data: bytes) -> tuple[Certificate, ...]:
    """Every certificate in a file, in its order, each once.

    Takes PEM with whatever surrounds it (line ends of any kind, a byte order mark, text, TRUSTED CERTIFICATE), DER and PKCS#7.

    Raises:
        ValueError: There is no certificate in it; the text names what it is and what to hand in instead.
    """
    if len(data) > LARGEST:
        msg = f"it is larger than {LARGEST >> 20} MiB; {WANTED}"
        raise ValueError(msg)
    found = list(_from_pem(data)) or _from_der(data)
    if not found:
        msg = f"it is {_what_it_is(data)}; {WANTED}"
        raise ValueError(msg)
    unique = {each.public_bytes(serialization.Encoding.DER): each for each in found}
    return tuple(map(describe, unique.values()))


def _from_pem(data: bytes) -> Iterable[x509.Certificate]:
    for label, body in _BLOCK.findall(data):
        try:
            der = base64.b64decode(b"".join(body.split()), validate=True)
        except binascii.Error:
            msg = f"a PEM block in it is damaged; {WANTED}"
            raise ValueError(msg) from None
        if label in {b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"}:
            yield _certificate(_first_value(der) if label.startswith(b"TRUSTED") else der)
        elif label in {b"PKCS7", b"CMS"}:
            yield from _from_pkcs7(der)


def _from_der(data: bytes) -> list[x509.Certificate]:
    if not data.startswith(b"\x30"):
        return []
    try:
        return [x509.load_der_x509_certificate(data)]
    except (ValueError, UnsupportedAlgorithm):
        return _from_pkcs7(data)


def _from_pkcs7(der: bytes) -> list[x509.Certificate]:
    try:
        return pkcs7.load_der_pkcs7_certificates(der)
    except (ValueError, UnsupportedAlgorithm):
        return []


def _certificate(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, UnsupportedAlgorithm):
        msg = f"a certificate in it is damaged; {WANTED}"
        raise ValueError(msg) from None


def _first_value(der: bytes) -> bytes:
    """The first DER value: openssl's TRUSTED CERTIFICATE appends its own trust settings to the certificate."""
    if len(der) < 2 or der[1] < 0x80:  # noqa: PLR2004 - X.690, section 8.1.3: short form
        return der[: 2 + der[1]] if len(der) > 1 else der
    count = der[1] & 0x7F
    return der[: 2 + count + int.from_bytes(der[2 : 2 + count])]


def _what_it_is(data: bytes) -> str:
    text = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text: save it as plain text"
    kinds = (
        (not text, "empty"),
        (text[:1] == b"<" and re.search(rb"<(!doctype )?html", text, re.IGNORECASE) is not None, "an HTML page, not what the CA signed"),
        (b"CERTIFICATE REQUEST-----" in data, "the CSR itself, not the certificate"),
        (b"PRIVATE KEY-----" in data, "a private key, which should be nowhere but on the server"),
        (data[:1] == b"\x30" and b"\x2a\x86\x48\x86\xf7\x0d\x01\x07" in data[:64], "a PKCS#12 (PFX) container: export the certificate alone"),
        (data[:1] == b"\x30", "DER, but no certificate"),
    )
    return next((name for holds, name in kinds if holds), "nothing known")


def describe(certificate: x509.Certificate) -> Certificate:
    """What is read from one certificate.

    Raises:
        ValueError: A field of it cannot be read.
    """
    try:
        return _described(certificate)
    except (x509.DuplicateExtension, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm, TypeError) as error:
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
        spki_sha256=_spki(public),
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
        key_usage=_usages(_extension(certificate, x509.KeyUsage)),
        extended_key_usage=tuple(each.dotted_string for each in extended) if extended is not None else None,
        unknown_critical=tuple(each.oid.dotted_string for each in certificate.extensions if each.critical and each.oid not in _KNOWN_EXTENSIONS),
        self_signed=certificate.issuer == certificate.subject and issued(certificate, certificate),
    )


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _usages(usage: x509.KeyUsage | None) -> tuple[str, ...] | None:
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
        return "ec-" + {"secp256r1": "p256", "secp384r1": "p384", "secp521r1": "p521"}.get(public.curve.name, public.curve.name)
    return type(public).__name__.removesuffix("PublicKey").lower()


def key_type_of(public_key_pem: str) -> str:
    """`rsa-2048`, `ec-p256`, … of a public key in PEM."""
    return key_type(serialization.load_pem_public_key(public_key_pem.encode()))


def _spki(public: PublicKeyTypes) -> str:
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def spki_sha256(public_key_pem: str) -> str:
    """SHA-256 over the DER SubjectPublicKeyInfo of a public key in PEM, lower-case hex (RFC 7469, section 2.4)."""
    return _spki(serialization.load_pem_public_key(public_key_pem.encode()))


def bundle_pem(chain: Sequence[Certificate]) -> str:
    """The chain as nginx wants it: PEM, leaf first, one line end after each block."""
    return "".join(each.pem for each in chain)


def order_chain(certificates: Sequence[Certificate], leaf_spki_sha256: str) -> tuple[Certificate, ...]:
    """The leaf that holds our key, then its issuers up to but without the root.

    Where no certificate holds our key, the one that issued no other stands in for the leaf, so that the checks can name
    what is wrong with it. Certificates that do not belong to the chain are left out.
    """
    parsed = {each.sha256: load(each) for each in certificates}
    issuers = {
        each.sha256: [other for other in certificates if other is not each and issued(parsed[other.sha256], parsed[each.sha256])]
        for each in certificates
    }
    used = {issuer.sha256 for found in issuers.values() for issuer in found}
    leaf = next((each for each in certificates if each.spki_sha256 == leaf_spki_sha256), None)
    leaf = leaf or next((each for each in certificates if each.sha256 not in used), certificates[0])
    chain = [leaf]
    while step := [each for each in issuers[chain[-1].sha256] if each not in chain]:
        chain.append(step[0])
    return tuple(each for index, each in enumerate(chain) if index == 0 or not each.self_signed)
