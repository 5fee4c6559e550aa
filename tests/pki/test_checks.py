"""The judgements over a pair: which certificate passes, which fails, and by which check."""

import dataclasses
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from runbook_lib.models import CertificateRequest, Check, KeyDigest, SubjectName, Verdict
from runbook_lib.pki.certificates import read_certificates
from runbook_lib.pki.checks import check_certificate, check_keys, verify_name
from tests.pki.authority import CLIENT_AUTH, DAY, NOW, Issued, authority, issue, key_usage, name_of, rsa_key

ROOT = authority("Example Root")
INTERMEDIATE = authority("Example Issuing CA", ROOT, path_length=0)
GOOD = issue(issuer=INTERMEDIATE)
NAMES = ("apstra.example.com", "192.0.2.10")
SAN = ("DNS:apstra.example.com", "IP:192.0.2.10")
REQUEST = CertificateRequest(SubjectName("apstra.example.com"), SAN, "ec-p256")

IN_DATE = "Is the certificate in date?"
SOON = "Is it good for more than a month?"
LONG = "Will every client accept so long a validity?"
NAMED = "Does the certificate name every service address?"
ASKED = "Has it every name that was asked for?"
EXTRA = "Has it no name that was not asked for?"
CN_IN_SAN = "Does the common name stand in the SAN too?"
CN = "Is the common name the one asked for?"
SUBJECT = "Is the rest of the subject as asked?"
SERVER = "May it be used for a TLS server?"
SIGNS = "May its key sign a handshake?"
NO_CA = "Is it a server's certificate and no CA's?"
CRITICAL = "Has it no critical extension that clients do not know?"
STRONG = "Is its key strong enough?"
SOUND = "Is its signature made with a sound hash?"
IN_ORDER = "Did each certificate sign the one before it?"
AUTHORITIES = "May each CA in the file sign for TLS servers now?"
TRUSTED = "Does the chain lead to a trusted CA?"
OUTLIVES = "Will its CA last longer than the certificate?"


@dataclass(frozen=True)
class Case:
    """A certificate to judge, and every check that is no `pass`."""

    leaf: Issued
    wanted: dict[str, Verdict] = field(default_factory=dict)
    above: tuple[Issued, ...] = (INTERMEDIATE,)
    trust: tuple[Issued, ...] = (ROOT,)
    request: CertificateRequest | None = REQUEST
    names: tuple[str, ...] = NAMES

    def judge(self) -> tuple[Check, ...]:
        """Our judgement."""
        chain = [each.certificate for each in (self.leaf, *self.above)]
        return check_certificate(chain, self.request, [each.certificate for each in self.trust], NOW, self.names)


FAIL, WARN, UNKNOWN = Verdict.FAIL, Verdict.WARN, Verdict.UNKNOWN
UNKNOWN_CRITICAL = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
NOT_A_CA = issue("Not a CA", ROOT)
EXPIRED_CA = issue("Expired CA", ROOT, ca=True, not_before=NOW - 400 * DAY)
CLIENT_CA = issue("Client CA", ROOT, ca=True, days=3650, extra=((x509.ExtendedKeyUsage(CLIENT_AUTH), False),))
CRL_CA = issue("CRL CA", ROOT, ca=True, days=3650, usage=key_usage("crl_sign"))
UPPER = authority("Upper CA", ROOT)
LOWER = authority("Lower CA", UPPER)
UNDER_ZERO = authority("Under path length 0", INTERMEDIATE)
CONSTRAINED = issue(
    "Constrained CA",
    ROOT,
    ca=True,
    days=3650,
    extra=((x509.NameConstraints([x509.DNSName("example.org")], None), True),),
)
WEAK_CA = authority("Weak CA", ROOT, key=rsa_key(1024))
CROSS = authority("Example Root", authority("Older Root"), key=ROOT.key)
EXPIRED_ROOT = issue("Expired Root", ca=True, not_before=NOW - 400 * DAY)
SHORT_CA = issue("Short CA", ROOT, ca=True, days=365)
SELF_SIGNED = issue()
OU_ASKED = dataclasses.replace(
    REQUEST, subject=SubjectName("apstra.example.com", organization="Example", organizational_unit="Netz")
)

CASES = {
    "as asked": Case(GOOD),
    "as asked, RSA": Case(issue(issuer=INTERMEDIATE, key=rsa_key(), usage=key_usage("digital_signature", "key_encipherment"))),
    "as asked, P-384": Case(issue(issuer=INTERMEDIATE, key=ec.generate_private_key(ec.SECP384R1()))),
    "from the root itself": Case(issue(issuer=ROOT), above=()),
    "the root in the file too": Case(GOOD, above=(INTERMEDIATE, ROOT)),
    "the intermediate among the anchors too": Case(GOOD, trust=(INTERMEDIATE, ROOT)),
    "an intermediate as the only anchor": Case(GOOD, trust=(INTERMEDIATE,)),
    "another anchor beside the right one": Case(GOOD, trust=(authority("Other Root"), ROOT)),
    "cross-signed to an older root": Case(GOOD, above=(INTERMEDIATE, CROSS)),
    "request not known": Case(issue(issuer=INTERMEDIATE, san=(*SAN, "DNS:more.example.com")), request=None),
    "wildcard": Case(issue(issuer=INTERMEDIATE, san=("DNS:*.example.com", "IP:192.0.2.10"), subject=name_of("*.example.com")),
                     request=CertificateRequest(SubjectName("*.example.com"), ("DNS:*.example.com", "IP:192.0.2.10"), "ec-p256")),
    "names in capitals": Case(issue(issuer=INTERMEDIATE, san=("DNS:APSTRA.example.com", "IP:192.0.2.10"))),
    "expired": Case(issue(issuer=INTERMEDIATE, not_before=NOW - 366 * DAY), {IN_DATE: FAIL, SOON: WARN}),
    "not yet valid": Case(issue(issuer=INTERMEDIATE, not_before=NOW + DAY), {IN_DATE: FAIL}),
    "29 days left": Case(issue(issuer=INTERMEDIATE, days=30), {SOON: WARN}),
    "1000 days": Case(issue(issuer=INTERMEDIATE, days=1000), {LONG: WARN}),
    "shortened": Case(issue(issuer=INTERMEDIATE, days=90), {"Did the CA give the validity asked for?": WARN}, request=dataclasses.replace(REQUEST, validity_days=365)),
    "validity as asked": Case(GOOD, request=dataclasses.replace(REQUEST, validity_days=365)),
    "no SAN": Case(issue(issuer=INTERMEDIATE, san=()), {NAMED: FAIL, ASKED: FAIL, CN_IN_SAN: FAIL, TRUSTED: FAIL}),
    "no SAN, nothing asked, no address": Case(issue(issuer=INTERMEDIATE, san=()), {NAMED: FAIL, CN_IN_SAN: FAIL, TRUSTED: FAIL}, request=None, names=()),
    "a SAN entry missing": Case(issue(issuer=INTERMEDIATE, san=SAN[:1]), {NAMED: FAIL, ASKED: FAIL}),
    "the IP as a DNS name": Case(issue(issuer=INTERMEDIATE, san=(SAN[0], "DNS:192.0.2.10")), {NAMED: FAIL, ASKED: FAIL, EXTRA: WARN}),
    "a service address that was never asked for": Case(GOOD, {NAMED: FAIL}, names=(*NAMES, "vip.example.com")),
    "a SAN entry too many": Case(issue(issuer=INTERMEDIATE, san=(*SAN, "DNS:www.apstra.example.com")), {EXTRA: WARN}),
    "another common name, in the SAN": Case(issue("192.0.2.10", INTERMEDIATE), {CN: WARN}),
    "common name not in the SAN": Case(issue("old.example.com", INTERMEDIATE), {CN: WARN, CN_IN_SAN: FAIL}),
    "common name that is no name": Case(issue("Apstra server", INTERMEDIATE), {CN: WARN, CN_IN_SAN: WARN}),
    "organizational unit dropped": Case(issue(issuer=INTERMEDIATE, subject=name_of("apstra.example.com", organization="Example")), {SUBJECT: WARN}, request=OU_ASKED),
    "subject kept": Case(issue(issuer=INTERMEDIATE, subject=name_of("apstra.example.com", organization="Example", organizational_unit="Netz")), request=OU_ASKED),
    "clientAuth alone": Case(issue(issuer=INTERMEDIATE, extended=CLIENT_AUTH), {SERVER: FAIL}),
    "anyExtendedKeyUsage alone": Case(issue(issuer=INTERMEDIATE, extended=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)), {SERVER: FAIL}),
    "no EKU": Case(issue(issuer=INTERMEDIATE, extended=None), {SERVER: WARN}),
    "RSA with keyEncipherment alone": Case(issue(issuer=INTERMEDIATE, key=rsa_key(), usage=key_usage("key_encipherment")), {SIGNS: FAIL}),
    "keyAgreement alone": Case(issue(issuer=INTERMEDIATE, usage=key_usage("key_agreement")), {SIGNS: FAIL}),
    "CA:TRUE": Case(issue(issuer=INTERMEDIATE, ca=True, extra=((x509.SubjectAlternativeName([x509.DNSName(NAMES[0])]), False), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False))),
                    {NO_CA: WARN}, request=None, names=NAMES[:1]),
    "a critical extension nobody knows": Case(issue(issuer=INTERMEDIATE, extra=((UNKNOWN_CRITICAL, True),)), {CRITICAL: FAIL, TRUSTED: FAIL}),
    "the same extension, not critical": Case(issue(issuer=INTERMEDIATE, extra=((UNKNOWN_CRITICAL, False),))),
    "RSA 1024": Case(issue(issuer=INTERMEDIATE, key=rsa_key(1024)), {STRONG: FAIL}),
    "P-521": Case(issue(issuer=INTERMEDIATE, key=ec.generate_private_key(ec.SECP521R1())), {STRONG: FAIL}),
    "intermediate missing": Case(GOOD, {TRUSTED: FAIL}, above=()),
    "intermediate in ca_file alone": Case(GOOD, {TRUSTED: FAIL}, above=(), trust=(ROOT, INTERMEDIATE)),
    "another CA": Case(GOOD, {TRUSTED: FAIL}, trust=(authority("Other Root"),)),
    "a root of the same name with another key": Case(GOOD, {TRUSTED: FAIL}, trust=(authority("Example Root"),)),
    "an intermediate of the same name with another key": Case(GOOD, {IN_ORDER: FAIL, TRUSTED: FAIL}, above=(authority("Example Issuing CA", ROOT, path_length=0),)),
    "two intermediates": Case(issue(issuer=LOWER), above=(LOWER, UPPER)),
    "two intermediates the wrong way round": Case(issue(issuer=LOWER), {IN_ORDER: FAIL}, above=(UPPER, LOWER)),
    "issuer is no CA": Case(issue(issuer=NOT_A_CA), {AUTHORITIES: FAIL, TRUSTED: FAIL, OUTLIVES: WARN}, above=(NOT_A_CA,)),
    "issuer has expired": Case(issue(issuer=EXPIRED_CA), {AUTHORITIES: FAIL, TRUSTED: FAIL, OUTLIVES: WARN}, above=(EXPIRED_CA,)),
    "issuer is for clients": Case(issue(issuer=CLIENT_CA), {AUTHORITIES: FAIL}, above=(CLIENT_CA,)),
    "issuer signs CRLs alone": Case(issue(issuer=CRL_CA), {AUTHORITIES: FAIL}, above=(CRL_CA,)),
    "path too long": Case(issue(issuer=UNDER_ZERO), {TRUSTED: FAIL}, above=(UNDER_ZERO, INTERMEDIATE)),
    "name constraints": Case(issue(issuer=CONSTRAINED), {TRUSTED: FAIL}, above=(CONSTRAINED,)),
    "weak intermediate": Case(issue(issuer=WEAK_CA), {TRUSTED: FAIL}, above=(WEAK_CA,)),
    "root has expired": Case(issue(issuer=EXPIRED_ROOT), {TRUSTED: FAIL, OUTLIVES: WARN}, above=(), trust=(EXPIRED_ROOT,)),
    "ends with its CA": Case(issue(issuer=SHORT_CA, days=365), {OUTLIVES: WARN}, above=(SHORT_CA,)),
    "no ca_file": Case(GOOD, {TRUSTED: UNKNOWN}, trust=()),
    "no ca_file, leaf alone": Case(GOOD, {TRUSTED: UNKNOWN}, above=(), trust=()),
    "self-signed": Case(SELF_SIGNED, {TRUSTED: WARN}, above=(), trust=()),
    "self-signed, itself in ca_file": Case(SELF_SIGNED, {TRUSTED: WARN}, above=(), trust=(SELF_SIGNED,)),
    "self-signed, another CA in ca_file": Case(SELF_SIGNED, {TRUSTED: FAIL}, above=()),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_certificate_gets_its_verdicts(case: Case) -> None:
    """Exactly the checks that are named are no `pass`, with the verdict that is named."""
    found = {each.question: each.verdict for each in case.judge() if each.verdict is not Verdict.PASS}
    assert found == case.wanted, [each for each in case.judge() if each.verdict is not Verdict.PASS]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_each_check_can_be_read_and_acted_upon(case: Case) -> None:
    """A question ends so, a rule has its source, what is no `pass` says what to do, and no two ask the same."""
    checks = case.judge()
    assert all(each.question.endswith("?") and each.expected and each.found and each.source for each in checks)
    assert all(each.todo for each in checks if each.verdict is not Verdict.PASS)
    assert not any(each.todo for each in checks if each.verdict is Verdict.PASS)
    assert len({each.question for each in checks}) == len(checks)


OF_THE_PATH = {TRUSTED, AUTHORITIES, OUTLIVES, IN_ORDER, IN_DATE, SOON, LONG, EXTRA}
OPENSSL_TOO = [
    name
    for name, case in CASES.items()
    if case.trust == (ROOT,) and set(case.wanted) <= OF_THE_PATH and not case.leaf.certificate.self_signed
]


@pytest.mark.parametrize("name", OPENSSL_TOO)
def test_openssl_agrees_about_the_path(name: str, tmp_path: Path) -> None:
    """`openssl verify -purpose sslserver` takes and refuses the same chains."""
    case = CASES[name]
    for file, content in (
        ("root", ROOT.pem),
        ("leaf", case.leaf.pem),
        ("above", b"".join(each.pem for each in case.above) or ROOT.pem),
    ):
        (tmp_path / file).write_bytes(content)
    line = [
        "openssl",
        "verify",
        "-auth_level",
        "2",
        "-purpose",
        "sslserver",
        "-attime",
        str(int(NOW.timestamp())),
        "-CAfile",
        "root",
        "-untrusted",
        "above",
        "leaf",
    ]
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, check=False, text=True)
    ours = {case.wanted.get(question) for question in (TRUSTED, AUTHORITIES, IN_DATE)}
    assert (ended.returncode == 0) is (FAIL not in ours), ended.stderr


def test_sha1_fails(tmp_path: Path) -> None:
    """A certificate signed with SHA-1, made by openssl since cryptography refuses to, fails by its hash."""
    (tmp_path / "ca.pem").write_bytes(INTERMEDIATE.pem)
    (tmp_path / "ca.key").write_bytes(INTERMEDIATE.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(name_of("apstra.example.com"))
        .sign(GOOD.key, hashes.SHA256())
    )
    line = ["openssl", "x509", "-req", "-sha1", "-days", "90", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "7"]
    pem = subprocess.run(
        line, cwd=tmp_path, input=csr.public_bytes(Encoding.PEM), capture_output=True, check=True
    ).stdout
    checks = check_certificate(read_certificates(pem), None, (), NOW, NAMES)
    assert next(each for each in checks if each.question == SOUND).verdict is FAIL


def test_a_signature_without_a_hash_of_its_own_warns() -> None:
    """An Ed25519 CA is no SHA-1, and yet browsers do not take it."""
    key = ed25519.Ed25519PrivateKey.generate()
    made = (x509.CertificateBuilder().subject_name(name_of("a")).issuer_name(name_of("b")).public_key(GOOD.key.public_key()).serial_number(1)
            .not_valid_before(NOW - DAY).not_valid_after(NOW + 90 * DAY).sign(key, None))  # fmt: skip
    checks = check_certificate(read_certificates(made.public_bytes(Encoding.PEM)), None, (), NOW, NAMES)
    assert next(each for each in checks if each.question == SOUND).verdict is WARN


def test_no_certificate_fails() -> None:
    """An empty chain is one failed check."""
    assert [each.verdict for each in check_certificate((), REQUEST, (), NOW, NAMES)] == [FAIL]


ONE, OTHER = "a" * 64, "b" * 64
KEY_ROWS = {
    "all the same": ((ONE, ONE), (ONE, ONE), (ONE, ONE), Verdict.PASS, "one public key"),
    "another certificate": ((ONE, ONE), (ONE, ONE), (OTHER, OTHER), Verdict.FAIL, "nginx.crt"),
    "another key": ((OTHER, OTHER), (ONE, ONE), (ONE, ONE), Verdict.FAIL, "nginx.c"),
    "the programs differ": ((ONE, ONE), (ONE, OTHER), (ONE, ONE), Verdict.FAIL, "nginx.csr"),
    "openssl could not read one": ((ONE, ONE), (ONE, ONE), ("", ONE), Verdict.FAIL, "nginx.crt"),
    "one unread and another wrong": (("", ONE), (ONE, ONE), (OTHER, OTHER), Verdict.FAIL, "nginx.crt"),
    "nothing was read": (("", ""), ("", ""), ("", ""), Verdict.FAIL, "nginx.key, nginx.csr, nginx.crt"),
}


@pytest.mark.parametrize(("key", "csr", "certificate", "verdict", "found"), KEY_ROWS.values(), ids=KEY_ROWS.keys())
def test_keys_are_compared(
    key: tuple[str, str], csr: tuple[str, str], certificate: tuple[str, str], verdict: Verdict, found: str
) -> None:
    """One digest six times passes; another one fails; one that could not be taken fails as well."""
    rows = [
        KeyDigest(file, *digests)
        for file, digests in (("nginx.key", key), ("nginx.csr", csr), ("nginx.crt", certificate))
    ]
    (check,) = check_keys(rows)
    assert check.verdict is verdict
    assert found in check.found


NAME_CASES = [
    ("DNS:apstra.example.com", "apstra.example.com", True),
    ("DNS:apstra.example.com", "APSTRA.Example.Com", True),
    ("DNS:apstra.example.com", "apstra.example.com.", True),
    ("DNS:apstra.example.com", "www.apstra.example.com", False),
    ("DNS:apstra.example.com", "apstra.example.co", False),
    ("DNS:apstra.example.com", "", False),
    ("DNS:apstra.example.com", ".", False),
    ("DNS:apstra", "apstra", True),
    ("DNS:*.example.com", "apstra.example.com", True),
    ("DNS:*.example.com", "example.com", False),
    ("DNS:*.example.com", "a.b.example.com", False),
    ("DNS:*.example.com", ".example.com", False),
    ("DNS:a*.example.com", "apstra.example.com", False),
    ("DNS:apstra.*.com", "apstra.example.com", False),
    ("DNS:*", "apstra", False),
    ("DNS:*.com", "example.com", False),
    ("DNS:*.0.2.10", "192.0.2.10", False),
    ("DNS:192.0.2.10", "192.0.2.10", False),
    ("IP:192.0.2.10", "192.0.2.10", True),
    ("IP:192.0.2.10", "192.0.2.11", False),
    ("IP:2001:db8::10", "2001:db8:0:0:0:0:0:10", True),
    ("IP:2001:db8::10", "[2001:DB8::10]", True),
    ("IP:192.0.2.10", "::ffff:192.0.2.10", False),
    ("DNS:xn--kln-sna.example.com", "xn--kln-sna.example.com", True),
]


@pytest.mark.parametrize(("entry", "name", "good"), NAME_CASES)
def test_names_match_as_clients_match_them(entry: str, name: str, *, good: bool) -> None:
    """A wildcard stands for one whole label on the left, an address only for itself, a common name for nothing."""
    certificate = dataclasses.replace(GOOD.certificate, san=(entry,), common_name=name)
    assert verify_name(certificate, name) is good
