"""The CSR: a template that no field can inject into, and the CSR read back and held against what was asked."""

from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from runbook_lib.models import CertificateRequest, Check, SubjectName, Verdict
from runbook_lib.pki.certificates import alternative_names, key_type

SOURCE = "vendor's step 3, KB37299"
# in the order in which they are written: OpenSSL's long names, ours, RFC 5280's identifiers
_FIELDS = (
    ("countryName", "country", NameOID.COUNTRY_NAME),
    ("stateOrProvinceName", "state", NameOID.STATE_OR_PROVINCE_NAME),
    ("localityName", "locality", NameOID.LOCALITY_NAME),
    ("organizationName", "organization", NameOID.ORGANIZATION_NAME),
    ("organizationalUnitName", "organizational_unit", NameOID.ORGANIZATIONAL_UNIT_NAME),
    ("commonName", "common_name", NameOID.COMMON_NAME),
    ("emailAddress", "email", NameOID.EMAIL_ADDRESS),
)
_ASKED_EXTENSIONS = {
    "2.5.29.17": "subjectAltName",
    "2.5.29.15": "keyUsage",
    "2.5.29.37": "extendedKeyUsage",
    "2.5.29.19": "basicConstraints",
}


def template(request: CertificateRequest) -> str:
    """An OpenSSL configuration for `openssl req -new -config /dev/stdin`, for OpenSSL 1.1.1 and 3.x alike.

    Every character of a value that OpenSSL's configuration language could take for more than itself is escaped
    (config(5): `$` expands, `#` begins a comment, quotes and backslashes escape, blanks at the ends are dropped).

    Raises:
        ValueError: A value cannot be written so that exactly it ends up in the CSR; the text names the field.
    """
    subject = [f"{long} = {_escaped(getattr(request.subject, name), name)}" for long, name, _ in _FIELDS if getattr(request.subject, name)]
    kinds = (entry.partition(":") for entry in request.san)
    names = [f"{kind}.{index} = {_escaped(value, 'san')}" for index, (kind, _, value) in enumerate(kinds, 1)]
    usage = "digitalSignature, keyEncipherment" if request.key_type.startswith("rsa") else "digitalSignature"
    return "\n".join((
        "[req]", "prompt = no", "utf8 = yes", "string_mask = utf8only", "distinguished_name = subject", "req_extensions = extensions",
        "[subject]", *subject,
        "[extensions]", "subjectAltName = @names", f"keyUsage = critical, {usage}", "extendedKeyUsage = serverAuth",
        "[names]", *names, "",
    ))  # fmt: skip


def _escaped(value: str, field: str) -> str:
    if not value.isprintable() or value != value.strip():
        msg = f"{field} holds a control character or a blank at its end, which cannot stand in a CSR"
        raise ValueError(msg)
    return "".join(each if each.isalnum() or each in " -.:_@" else f"\\{each}" for each in value)


def check_request(csr_pem: str, request: CertificateRequest) -> tuple[Check, ...]:
    """Holds a CSR against what was asked, field by field, and against anything that was not asked for."""
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        return tuple(_checks(csr, request))
    except (ValueError, UnsupportedAlgorithm) as error:
        return (Check("Can the CSR be read?", "a PKCS#10 request", str(error), Verdict.FAIL, SOURCE, "run again with change_id=new"),)


def _checks(csr: x509.CertificateSigningRequest, request: CertificateRequest) -> Iterator[Check]:
    yield _check("Is the CSR signed by its own key?", "yes", "yes" if csr.is_signature_valid else "no")
    for _, name, oid in _FIELDS:
        asked = getattr(request.subject, name)
        found = [str(each.value) for each in csr.subject.get_attributes_for_oid(oid)]
        if asked or found:
            yield _check(f"Is {name} in the CSR as asked?", asked or "none", ", ".join(found) or "none")
    known = {oid for _, _, oid in _FIELDS}
    foreign = [each.oid.dotted_string for each in csr.subject if each.oid not in known]
    yield _check("Is nothing else in the subject?", "nothing", ", ".join(foreign) or "nothing")
    yield _check("Are the names in the CSR as asked?", " ".join(request.san), " ".join(_names(csr)))
    yield _check("Is the key of the kind asked for?", request.key_type, key_type(csr.public_key()))
    extra = sorted(each.oid.dotted_string for each in csr.extensions if each.oid.dotted_string not in _ASKED_EXTENSIONS)
    authority = any(isinstance(each.value, x509.BasicConstraints) and each.value.ca for each in csr.extensions)
    yield _check("Does the CSR ask for nothing else?", "nothing", ", ".join([*extra, *(["CA:TRUE"] if authority else [])]) or "nothing")


def _names(csr: x509.CertificateSigningRequest) -> tuple[str, ...]:
    try:
        return alternative_names(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def _check(question: str, expected: str, found: str) -> Check:
    good = expected == found
    return Check(question, expected, found, Verdict.PASS if good else Verdict.FAIL, SOURCE, "" if good else "run again with change_id=new")


def subject_of(request: CertificateRequest) -> x509.Name:
    """The subject as a CA writes it into a certificate."""
    subject: SubjectName = request.subject
    return x509.Name([x509.NameAttribute(oid, getattr(subject, name)) for _, name, oid in _FIELDS if getattr(subject, name)])
