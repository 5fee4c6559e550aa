"""Subjects and names that could be taken for something else: exactly that in the CSR, or refused with the field's name."""

import re
import subprocess
from typing import Any

import pytest
from cryptography.x509.oid import NameOID

from runbook_lib.errors import UnusableParameters
from runbook_lib.models import Outcome
from runbook_lib.pki.certificates import load, read_certificates
from runbook_lib.session import prepare
from tests.change.operator import PROJECT, Operator

HOSTILE = {
    "organization": "$ENV::HOME ${ENV::HOME} $HOME `id` \"q\" 'a'",
    "organizational_unit": "a+b, c/d=e; #f \\n [names] <g>",
    "locality": "Zürich-Örlikon, 東京",
    "state": "CN=evil/O=evil, basicConstraints=CA:TRUE",
    "country": "CH",
    "email": "netz+ca@example.com",
}
OIDS = {
    "organization": NameOID.ORGANIZATION_NAME,
    "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "state": NameOID.STATE_OR_PROVINCE_NAME,
    "country": NameOID.COUNTRY_NAME,
    "email": NameOID.EMAIL_ADDRESS,
    "common_name": NameOID.COMMON_NAME,
}


@pytest.mark.parametrize("signer", ["local-ca", "self-signed"])
async def test_a_hostile_subject_is_written_as_it_is(operator: Operator, signer: str) -> None:
    """openssl and cryptography read back exactly what was asked, from the CSR and from the certificate, and no CA:TRUE."""
    signing = operator.server.signing if signer == "local-ca" else {"signer": signer}
    asked = HOSTILE | {"common_name": 'Größe $ENV::PATH / + , "' + "x" * 38}
    run = await operator.run("request", **signing, **asked)
    assert run.outcome is Outcome.DONE, run.said
    assert run.record
    csr = operator.csr(run)
    leaf = load(read_certificates((run.record / "files" / "certificate-staged.pem").read_bytes())[0])
    for subject in (csr.subject, leaf.subject):
        assert {name: [each.value for each in subject.get_attributes_for_oid(oid)] for name, oid in OIDS.items()} == {
            name: [value] for name, value in asked.items()
        }
        assert len(subject) == len(OIDS)
    said = _openssl(run.record / "files" / "nginx.csr")
    for value in asked.values():
        assert f"={value}\n" in said
    assert "CA:TRUE" not in said.replace(HOSTILE["state"], "")
    names = re.findall(r"(?:DNS|IP Address):[^,\n]+", said)
    assert names == [f"DNS:{operator.given['common_name']}", f"IP Address:{operator.given['host']}"]


def _openssl(csr: Any) -> str:  # noqa: ANN401 - a path
    """What the openssl command reads in a CSR, the subject a line a field."""
    command = [
        "openssl",
        "req",
        "-in",
        csr,
        "-noout",
        "-text",
        "-subject",
        "-verify",
        "-nameopt",
        "utf8,sep_multiline,lname",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


REFUSED: list[tuple[str, object, str]] = [
    ("organization", "a\nbasicConstraints=CA:TRUE", "organization: holds the invisible character U+000A"),
    ("organization", "Example\u00a0Ltd", "organization: holds the invisible character U+00A0"),
    ("state", "😀" * 127, "state: is too long for OpenSSL's configuration"),
    ("organization", "a\x00b", "organization: holds the invisible character U+0000"),
    ("organization", "a\u202eb", "organization: holds the invisible character U+202E"),
    ("organization", " a", "organization: starts or ends with a blank"),
    ("organization", "x" * 65, "organization: String should have at most 64 characters"),
    ("common_name", "x" * 65, "common_name: String should have at most 64 characters"),
    ("country", False, 'country: is no text; write text in quotes, such as "NO"'),
    ("country", "Norway", "country: "),
    ("email", "a b@example.com", "email: "),
    ("ticket", 12345, "ticket: is no text"),
    ("apply", "false", "apply: is no boolean; write true or false without quotes"),
    ("sudo_password", "hunter2 hunter2", "sudo_password: is no secret reference; write `env:NAME`"),
    ("san", ["DNS:a.example.com\nDNS:b.example.com"], "which is no subject alternative name"),
    ("san", ["DNS:a.example.com,DNS:b.example.com"], "which is no subject alternative name"),
    ("san", ["DNS:$ENV::HOME"], "which is no subject alternative name"),
    ("san", ["DNS:müller.example.com"], "write DNS:xn--mller-kva.example.com"),
    ("san", ["DNS:192.0.2.1"], "write IP:192.0.2.1"),
    ("san", ["email:a@example.com"], "which is no subject alternative name"),
    ("nosuch", "x", "nosuch: is no parameter"),
]


@pytest.mark.parametrize(("name", "value", "says"), REFUSED)
def test_what_cannot_stand_is_refused_by_name(name: str, value: object, says: str) -> None:
    """Exit code 2 before anything is contacted, with the field's name and what to write, and never a secret."""
    given = {"host": "192.0.2.1", "common_name": "a.example.com", name: value}
    with pytest.raises(UnusableParameters) as caught:
        prepare("request", given, PROJECT, None)
    said = str(caught.value)
    assert says.removeprefix("String ").replace("String should", "should") in said
    assert "hunter2" not in said
    assert caught.value.outcome.exit_code == 2


def test_every_fault_is_named_at_once() -> None:
    """All faults of a file of parameters are told in one go."""
    given: dict[str, object] = {name: value for name, value, _ in REFUSED}
    with pytest.raises(UnusableParameters) as caught:
        prepare("request", given, PROJECT, None)
    assert {fault.field.partition(".")[0] for fault in caught.value.faults} == {*given, "host"}
