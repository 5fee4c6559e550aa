"""The CSR: exactly what was asked, by real openssl, or refused with the field's name."""

import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from runbook_lib.models import CertificateRequest, SubjectName, Verdict
from runbook_lib.pki.certificates import quiet
from runbook_lib.pki.csr import check_request, read_request, template
from tests.pki.authority import Key, alternative_names, ec_key, key_usage, rsa_key

SAN = ("DNS:apstra.example.com", "IP:192.0.2.10")
PLAIN = CertificateRequest(SubjectName("apstra.example.com"), SAN, "ec-p256")
FULL = SubjectName("apstra.example.com", "Example GmbH", "Netz & Betrieb", "Köln", "NRW", "DE", "netz@example.com")
MakeCsr = Callable[[CertificateRequest], str]


@pytest.fixture(scope="module")
def key_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A private key file of each kind that the tests ask for."""
    folder = tmp_path_factory.mktemp("keys")
    keys: dict[str, Key] = {"ec-p256": ec_key(), "rsa-2048": rsa_key()}
    for kind, key in keys.items():
        (folder / kind).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {kind: folder / kind for kind in keys}


@pytest.fixture
def make_csr(key_files: dict[str, Path]) -> MakeCsr:
    """Makes a CSR by openssl, the way step 3 does."""

    def make(request: CertificateRequest) -> str:
        line = ["openssl", "req", "-new", "-sha256", "-key", str(key_files[request.key_type]), "-config", "/dev/stdin"]
        ended = subprocess.run(
            line,
            input=template(request).encode(),
            capture_output=True,
            check=False,
            env={"PATH": "/usr/bin:/bin", "HOME": "/home/operator"},
        )
        assert ended.returncode == 0, ended.stderr.decode()
        return ended.stdout.decode()

    return make


def assert_exactly(csr: str, request: CertificateRequest) -> None:
    """The CSR holds what was asked and nothing else, by cryptography and by our own checks."""
    with quiet():
        subject = list(x509.load_pem_x509_csr(csr.encode()).subject)
    parsed = x509.load_pem_x509_csr(csr.encode())
    names = {NameOID.COUNTRY_NAME: "country", NameOID.STATE_OR_PROVINCE_NAME: "state", NameOID.LOCALITY_NAME: "locality",
             NameOID.ORGANIZATION_NAME: "organization", NameOID.ORGANIZATIONAL_UNIT_NAME: "organizational_unit",
             NameOID.COMMON_NAME: "common_name", NameOID.EMAIL_ADDRESS: "email"}  # fmt: skip
    asked = [(oid, getattr(request.subject, field)) for oid, field in names.items() if getattr(request.subject, field)]
    assert [(each.oid, each.value) for each in subject] == asked
    assert parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value == alternative_names(
        request.san
    )
    usage = key_usage("digital_signature", *(["key_encipherment"] if request.key_type.startswith("rsa") else []))
    assert parsed.extensions.get_extension_for_class(x509.KeyUsage).value == usage
    assert list(parsed.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert len(parsed.extensions) == 3
    assert [each.oid.dotted_string for each in parsed.attributes] == ["1.2.840.113549.1.9.14"]
    assert {each.verdict for each in check_request(csr, request)} == {Verdict.PASS}


AWKWARD = [
    "$HOME", "${ENV::HOME}", "$ENV::HOME", "$(HOME)", "ENV::HOME$", "a$", "$$", "\\$HOME", "\\\\$HOME", "a\\", "a\\\\", "\\n[v3_ca]\\nbasicConstraints=CA:TRUE",
    '"quoted"', "'single'", '"', "'", '""', "a # comment", "# all of it", "; semicolon", "a;b", "a = b", "= b", "[names]", "[extensions]", "a [b] c", ".include /etc/passwd",
    ".pragma = dollarid:on", "a, b", "a,CN=b", "CN=b", "/CN=b", "a/b", "a + b", "+a", "a+CN=b", "ä ö ü ß", "日本語", "😀", "naïve – dash", "a  b", "*", "@names", "a@b", "a:b", "1.OU", "critical,CA:TRUE",  # noqa: RUF001 - on purpose
    "DNS:evil.example.com", "%s%n", "`id`", "$(id)", "<img onerror=x>", "a|b&c", "~!^*(){}?", "\\x41\\r\\b\\t", "é" * 64, "𝔘" * 64, "$" * 64, "\\" * 64, "#" * 63 + "a", "ﬁ", "e\u0301",  # noqa: RUF001
]  # fmt: skip


@pytest.mark.parametrize("value", AWKWARD)
def test_an_awkward_value_stands_in_the_csr_as_it_is(make_csr: MakeCsr, value: str) -> None:
    """A value that OpenSSL's configuration language could take for more is written as itself, in every field of free text."""
    subject = SubjectName(value, organization=value, organizational_unit=value, locality=value, state=value)
    request = replace(PLAIN, subject=subject)
    assert_exactly(make_csr(request), request)


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256"])
def test_every_field_is_written(make_csr: MakeCsr, kind: str) -> None:
    """All fields at once, in their order, with all kinds of SAN entries."""
    san = (
        "DNS:apstra.example.com",
        "DNS:*.lab.example.com",
        "DNS:xn--kln-sna.example",
        "IP:192.0.2.10",
        "IP:2001:db8::10",
        "DNS:apstra",
    )
    request = CertificateRequest(FULL, san, kind)
    assert_exactly(make_csr(request), request)


def test_no_value_can_do_more_than_stand_there(make_csr: MakeCsr) -> None:
    """Seeded random values from the characters that matter: exactly they are in the CSR, or the field is named in a refusal."""
    chance = random.Random(20260601)
    alphabet = "$\\\"'#;=[]{}()/+,.:@%&!~ abnrtEV09äß€😀\n\r\t\0\x85\u2028\u00a0\u202e"
    written = refused = 0
    for _ in range(120):
        field = chance.choice(("common_name", "organization", "organizational_unit", "locality", "state"))
        value = "".join(chance.choices(alphabet[: chance.choice((30, 40, len(alphabet)))], k=chance.randint(1, 20)))
        request = replace(PLAIN, subject=replace(FULL, **{field: value}))
        try:
            template(request)
        except ValueError as error:
            refused += str(error).startswith(f"{field} ")
            continue
        assert_exactly(make_csr(request), request)
        written += 1
    assert written + refused == 120
    assert written > 20
    assert refused > 20


REFUSED = {
    "line feed": ("organization", "a\nCN = evil"),
    "carriage return": ("organization", "a\rCN = evil"),
    "NUL": ("state", "a\0b"),
    "NEL": ("locality", "a\x85b"),
    "line separator": ("locality", "a\u2028b"),
    "bidi override": ("common_name", "a\u202eb"),
    "no-break space": ("common_name", "a\u00a0b"),
    "escape": ("organizational_unit", "\x1b[31m"),
    "blank in front": ("organization", " a"),
    "blank at the end": ("organization", "a "),
    "65 characters": ("common_name", "a" * 65),
    "129 characters": ("locality", "a" * 129),
    "country of three letters": ("country", "DEU"),
    "country of digits": ("country", "12"),
    "country outside ASCII": ("country", "ÄÖ"),
    "email outside ASCII": ("email", "nätz@example.com"),
    "no common name": ("common_name", ""),
    "surrogate": ("organization", "a\ud800"),
    "more bytes than OpenSSL reads at once": ("locality", "😀" * 120 + "$ENV::HO"),
}


@pytest.mark.parametrize(("field", "value"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_stand_in_a_csr_is_refused(field: str, value: str) -> None:
    """The refusal names the field, before anything is run."""
    with pytest.raises(ValueError, match=rf"^{field} "):
        template(replace(PLAIN, subject=replace(FULL, **{field: value})))


BAD_NAMES = [
    "", "apstra.example.com", "DNS:", "DNS:a b", "DNS:a,DNS:evil", "DNS:a\nDNS.2 = evil", "DNS:ä.example", "DNS:192.0.2.10", "DNS:a..b", "DNS:-a", "DNS:*", "DNS:a.*.b", "DNS:$ENV::HOME",
    "DNS:" + "a." * 127 + "a", "IP:", "IP:apstra", "IP:192.0.2.10/24", "IP:fe80::1%eth0", "IP:192.0.2.10\nIP.2 = 192.0.2.11", "email:copy", "dirName:subject", "URI:http://a", "otherName:1.2.3;UTF8:a",
    "DNS.9 = evil\nDNS:a", "dns:a", "RID:1.2.3",
]  # fmt: skip


@pytest.mark.parametrize("entry", BAD_NAMES)
def test_a_san_entry_that_is_none_is_refused(entry: str) -> None:
    """Neither the kind nor the value of a SAN entry can hold anything but a DNS name or an IP address."""
    with pytest.raises(ValueError, match=r"^san "):
        template(replace(PLAIN, san=("DNS:apstra.example.com", entry)))


def test_there_is_no_csr_without_a_san() -> None:
    """An empty SAN is refused."""
    with pytest.raises(ValueError, match=r"^san is empty"):
        template(replace(PLAIN, san=()))


def wrong_csr(  # noqa: PLR0913 - every way in which CSRs differ
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...] = ((NameOID.COMMON_NAME, "apstra.example.com"),),
    *,
    san: tuple[str, ...] = SAN,
    key: Key | None = None,
    usage: x509.KeyUsage | None = None,
    extended: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.SERVER_AUTH,),
    extra: tuple[x509.ExtensionType, ...] = (),
    password: bytes = b"",
    digest: type[hashes.SHA256 | hashes.SHA384] = hashes.SHA256,
) -> str:
    """A CSR that is right but for what is given."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    )
    for extension in (
        alternative_names(san),
        usage or key_usage("digital_signature"),
        x509.ExtendedKeyUsage(extended),
        *extra,
    ):
        builder = builder.add_extension(extension, critical=isinstance(extension, x509.KeyUsage))
    builder = builder.add_attribute(AttributeOID.CHALLENGE_PASSWORD, password) if password else builder
    return builder.sign(key or ec_key(), digest()).public_bytes(Encoding.PEM).decode()


CN = (NameOID.COMMON_NAME, "apstra.example.com")
WRONG = {
    "another common name": (
        wrong_csr(((NameOID.COMMON_NAME, "evil.example.com"),)),
        "Is common_name in the CSR as asked?",
    ),
    "two common names": (wrong_csr((CN, CN)), "Is common_name in the CSR as asked?"),
    "a field too many": (wrong_csr(((NameOID.ORGANIZATION_NAME, "Evil"), CN)), "Is organization in the CSR as asked?"),
    "a field of another kind": (wrong_csr(((NameOID.GIVEN_NAME, "Eve"), CN)), "Is nothing else in the subject?"),
    "a name too many": (wrong_csr(san=(*SAN, "DNS:evil.example.com")), "Are the names in the CSR as asked?"),
    "a name missing": (wrong_csr(san=SAN[:1]), "Are the names in the CSR as asked?"),
    "a key of another kind": (wrong_csr(key=rsa_key()), "Is the key of the kind asked for?"),
    "CA:TRUE": (
        wrong_csr(extra=(x509.BasicConstraints(ca=True, path_length=None),)),
        "Does the CSR ask for nothing else?",
    ),
    "a challenge password": (wrong_csr(password=b"secret"), "Does the CSR ask for nothing else?"),
    "keyCertSign": (
        wrong_csr(usage=key_usage("digital_signature", "key_cert_sign")),
        "Does it ask for a TLS server's key usage?",
    ),
    "clientAuth": (
        wrong_csr(extended=(ExtendedKeyUsageOID.CLIENT_AUTH,)),
        "Does it ask for a TLS server's certificate?",
    ),
    "another hash": (wrong_csr(digest=hashes.SHA384), "Is that signature made with SHA-256?"),
    "no CSR": ("", "Can the CSR be read?"),
    "garbage": (
        "-----BEGIN CERTIFICATE REQUEST-----\nMAAw\n-----END CERTIFICATE REQUEST-----\n",
        "Can the CSR be read?",
    ),
}


@pytest.mark.parametrize(("csr", "question"), WRONG.values(), ids=WRONG.keys())
def test_anything_that_was_not_asked_for_fails(csr: str, question: str) -> None:
    """Exactly the check that names the difference fails."""
    assert [each.question for each in check_request(csr, PLAIN) if each.verdict is not Verdict.PASS] == [question]


def test_a_right_csr_of_another_program_passes() -> None:
    """The wrong ones above differ in one thing only."""
    assert {each.verdict for each in check_request(wrong_csr(), PLAIN)} == {Verdict.PASS}


def test_two_values_are_not_one_with_a_comma() -> None:
    """An organization `a, b` is not the same as two organizations."""
    two = wrong_csr(((NameOID.ORGANIZATION_NAME, "a"), (NameOID.ORGANIZATION_NAME, "b"), CN))
    asked = replace(PLAIN, subject=SubjectName("apstra.example.com", organization="a, b"))
    assert Verdict.FAIL in {each.verdict for each in check_request(two, asked)}


def test_a_signature_by_another_key_is_seen() -> None:
    """A CSR whose signature was tampered with is read, and fails."""
    der = bytearray(x509.load_pem_x509_csr(wrong_csr().encode()).public_bytes(Encoding.DER))
    place = der.index(b"apstra.example.com")
    der[place : place + 6] = b"aqstra"
    tampered = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    assert read_request(tampered).signed is False
    assert check_request(tampered, PLAIN)[0].verdict is Verdict.FAIL
