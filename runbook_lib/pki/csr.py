"""The CSR: a template that no field can inject into, and the CSR read back and held against what was asked."""

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from runbook_lib.models import CertificateRequest, Check, Verdict
from runbook_lib.pki.certificates import alternative_names, key_type, quiet, spki_sha256_of, usages
from runbook_lib.pki.foreign import UNREADABLE

SOURCE = "vendor's step 3, KB37299"
ANEW = "run again with change_id=new"
# In the order in which they are written: OpenSSL's long name, ours, the identifier, the most characters (RFC 5280, appendix A.1).
FIELDS = (
    ("countryName", "country", NameOID.COUNTRY_NAME, 2),
    ("stateOrProvinceName", "state", NameOID.STATE_OR_PROVINCE_NAME, 128),
    ("localityName", "locality", NameOID.LOCALITY_NAME, 128),
    ("organizationName", "organization", NameOID.ORGANIZATION_NAME, 64),
    ("organizationalUnitName", "organizational_unit", NameOID.ORGANIZATIONAL_UNIT_NAME, 64),
    ("commonName", "common_name", NameOID.COMMON_NAME, 64),
    ("emailAddress", "email", NameOID.EMAIL_ADDRESS, 128),
)
# OpenSSL reads a line in pieces of 510 bytes, and releases as late as 3.2 lose a backslash on which a piece ends (crypto/conf/conf_def.c).
_LONGEST_LINE = 500
_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"  # RFC 2985, section 5.4.2
_DNS_NAME = re.compile(
    r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
)
_LONGEST_DNS_NAME = 253  # RFC 1035, section 2.3.4, without the root's dot
_ASKED_EXTENSIONS = (ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE)


def template(request: CertificateRequest) -> str:
    """An OpenSSL configuration for `openssl req -new -config /dev/stdin`, for OpenSSL 1.1.1 and 3.x alike.

    Every character of a value that OpenSSL's configuration language could take for more than itself is escaped
    (config(5): `$` expands, `#` begins a comment, quotes and backslashes escape, blanks at the ends are dropped).

    Raises:
        ValueError: A value cannot be written so that exactly it ends up in the CSR; the text names the field.
    """
    if not request.subject.common_name:
        msg = "common_name is empty"
        raise ValueError(msg)
    return "\n".join((
        "[req]", "prompt = no", "utf8 = yes", "string_mask = utf8only", "distinguished_name = subject", "req_extensions = extensions",
        "[subject]", *_subject_lines(request),
        "[extensions]", *extension_lines(request),
        *name_lines(request), "",
    ))  # fmt: skip


def extension_lines(request: CertificateRequest) -> tuple[str, ...]:
    """The extensions of a TLS server's certificate as OpenSSL configuration; they need `name_lines` after them."""
    usage = "digitalSignature, keyEncipherment" if request.key_type.startswith("rsa") else "digitalSignature"
    return ("subjectAltName = @names", f"keyUsage = critical, {usage}", "extendedKeyUsage = serverAuth")


def name_lines(request: CertificateRequest) -> tuple[str, ...]:
    """The section `names` with the SAN: one line an entry, so that no entry can be taken for two.

    Raises:
        ValueError: There is no entry, or one is neither a DNS name nor an IP address; the text names the field.
    """
    if not request.san:
        msg = "san is empty, and clients take no certificate without it"
        raise ValueError(msg)
    entries = [_alternative_name(entry) for entry in request.san]
    return ("[names]", *(f"{kind}.{index} = {value}" for index, (kind, value) in enumerate(entries, 1)))


def _alternative_name(entry: str) -> tuple[str, str]:
    kind, _, value = entry.partition(":")
    if kind == "IP" and "%" not in value and _is_ip_address(value):
        return kind, value
    if kind == "DNS" and len(value) <= _LONGEST_DNS_NAME and _DNS_NAME.fullmatch(value) and not _is_ip_address(value):
        return kind, value
    msg = f"san holds {entry!r}, which is neither DNS:name, as A-labels, nor IP:address"
    raise ValueError(msg)


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _subject_lines(request: CertificateRequest) -> Iterator[str]:
    for long, name, _, longest in FIELDS:
        if value := getattr(request.subject, name):
            _judge(name, value, longest)
            line = f"{long} = {_escaped(value)}"
            if len(line.encode()) > _LONGEST_LINE:
                msg = f"{name} is too long for OpenSSL's configuration: {len(line.encode())} bytes of {_LONGEST_LINE}"
                raise ValueError(msg)
            yield line


def _judge(name: str, value: str, longest: int) -> None:
    wrong = ""
    if not value.isprintable():
        wrong = "holds a control character or another one that cannot be seen"
    elif value != value.strip():
        wrong = "begins or ends with a blank"
    elif len(value) > longest:
        wrong = f"is longer than {longest} characters"
    elif name == "country" and not re.fullmatch("[A-Za-z]{2}", value):
        wrong = "is no two-letter country code"
    elif name == "email" and not value.isascii():
        wrong = "holds a character outside ASCII"
    if wrong:
        msg = f"{name} {wrong}, which cannot stand in a CSR"
        raise ValueError(msg)


def _escaped(value: str) -> str:
    return "".join(
        f"\\{each}" if each.isascii() and not each.isalnum() and each not in " -.:_@" else each for each in value
    )


@dataclass(frozen=True, slots=True)
class WrittenRequest:
    """What a CSR says.

    Attributes:
        subject: Field of SubjectName, or dotted OID, and value, in the order in which they are written.
        san: Entries as `DNS:name` or `IP:address`; other kinds as `OTHER:…`.
        key: `rsa-2048`, `ec-p256`, …
        signed: Whether its own key made its signature.
        signature_hash: `sha256`, … or empty.
        key_usage: `digital_signature`, …; None when it asks for none.
        extended_key_usage: Dotted OIDs; None when it asks for none.
        others: Dotted OIDs of further extensions and attributes.
    """

    subject: tuple[tuple[str, str], ...]
    san: tuple[str, ...]
    key: str
    spki_sha256: str
    signed: bool
    signature_hash: str
    key_usage: tuple[str, ...] | None
    extended_key_usage: tuple[str, ...] | None
    others: tuple[str, ...]


def read_request(csr_pem: str) -> WrittenRequest:
    """What a CSR says, PEM text.

    Raises:
        ValueError: It is no CSR, or one with fields that cannot be read.
    """
    try:
        with quiet():
            return _read(x509.load_pem_x509_csr(csr_pem.encode()))
    except UNREADABLE as error:
        msg = f"the CSR cannot be read: {error}"
        raise ValueError(msg) from None


def _read(csr: x509.CertificateSigningRequest) -> WrittenRequest:
    ours = {oid: name for _, name, oid, _ in FIELDS}
    extensions = {each.oid: each.value for each in csr.extensions}
    san, usage, extended = (extensions.get(oid) for oid in _ASKED_EXTENSIONS)
    attributes = [each.oid.dotted_string for each in csr.attributes if each.oid.dotted_string != _EXTENSION_REQUEST]
    return WrittenRequest(
        subject=tuple((ours.get(each.oid, each.oid.dotted_string), str(each.value)) for each in csr.subject),
        san=alternative_names(san if isinstance(san, x509.SubjectAlternativeName) else None),
        key=key_type(csr.public_key()),
        spki_sha256=spki_sha256_of(csr.public_key()),
        signed=csr.is_signature_valid,
        signature_hash=csr.signature_hash_algorithm.name if csr.signature_hash_algorithm else "",
        key_usage=usages(usage) if isinstance(usage, x509.KeyUsage) else None,
        extended_key_usage=tuple(each.dotted_string for each in extended)
        if isinstance(extended, x509.ExtendedKeyUsage)
        else None,
        others=tuple(each.dotted_string for each in extensions if each not in _ASKED_EXTENSIONS) + tuple(attributes),
    )


def check_request(csr_pem: str, request: CertificateRequest) -> tuple[Check, ...]:
    """Holds a CSR against what was asked, field by field, and against anything that was not asked for."""
    try:
        written = read_request(csr_pem)
    except ValueError as error:
        return (Check("Can the CSR be read?", "a PKCS#10 request", str(error), Verdict.FAIL, SOURCE, ANEW),)
    return tuple(_checks(written, request))


def _checks(written: WrittenRequest, request: CertificateRequest) -> Iterator[Check]:
    yield _check("Is the CSR signed by its own key?", ["yes"], ["yes" if written.signed else "no"])
    yield _check("Is that signature made with SHA-256?", ["sha256"], [written.signature_hash])
    for _, name, _, _ in FIELDS:
        asked = [getattr(request.subject, name)] if getattr(request.subject, name) else []
        found = [value for field, value in written.subject if field == name]
        if asked or found:
            yield _check(f"Is {name} in the CSR as asked?", asked, found)
    ours = {name for _, name, _, _ in FIELDS}
    yield _check(
        "Is nothing else in the subject?",
        [],
        [f"{field}={value}" for field, value in written.subject if field not in ours],
    )
    yield _check("Are the names in the CSR as asked?", [_canonical(entry) for entry in request.san], written.san)
    yield _check("Is the key of the kind asked for?", [request.key_type], [written.key])
    usage = ["digital_signature", "key_encipherment"] if request.key_type.startswith("rsa") else ["digital_signature"]
    yield _check("Does it ask for a TLS server's key usage?", usage, written.key_usage or ())
    yield _check(
        "Does it ask for a TLS server's certificate?",
        [ExtendedKeyUsageOID.SERVER_AUTH.dotted_string],
        written.extended_key_usage or (),
    )
    yield _check("Does the CSR ask for nothing else?", [], written.others)


def _canonical(entry: str) -> str:
    kind, _, value = entry.partition(":")
    return f"IP:{ipaddress.ip_address(value)}" if kind == "IP" and _is_ip_address(value) else entry


def _check(question: str, expected: Sequence[str], found: Sequence[str]) -> Check:
    good = list(expected) == list(found)
    shown = ", ".join(expected) or "nothing", ", ".join(found) or "nothing"
    return Check(question, *shown, Verdict.PASS if good else Verdict.FAIL, SOURCE, "" if good else ANEW)


def subject_of(request: CertificateRequest) -> x509.Name:
    """The subject as a CA writes it into a certificate.

    Raises:
        ValueError: A field is longer than RFC 5280 allows.
    """
    return x509.Name(
        [
            x509.NameAttribute(oid, getattr(request.subject, name))
            for _, name, oid, _ in FIELDS
            if getattr(request.subject, name)
        ]
    )
