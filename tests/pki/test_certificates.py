"""Reading what CAs hand back, in the forms in which they hand it back."""

import base64
import contextlib
import hashlib
import random
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs7,
    pkcs12,
)

from runbook_lib.pki.certificates import bundle_pem, key_type_of, order_chain, read_certificates, spki_sha256
from tests.pki.authority import DAY, NOW, Issued, authority, ec_key, issue, name_of, rsa_key

ROOT = authority("Example Root")
INTERMEDIATE = authority("Example Issuing CA", ROOT, path_length=0)
LEAF = issue(issuer=INTERMEDIATE)
BOTH = LEAF.pem + INTERMEDIATE.pem
KEY_PEM = LEAF.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
KEY_BODY = KEY_PEM.splitlines()[1]
CSR = (
    x509.CertificateSigningRequestBuilder().subject_name(name_of("apstra.example.com")).sign(LEAF.key, hashes.SHA256())
)
CHAIN_P7 = pkcs7.serialize_certificates([LEAF.x509, INTERMEDIATE.x509], Encoding.DER)
EMPTY_P7 = subprocess.run(["openssl", "crl2pkcs7", "-nocrl", "-outform", "DER"], capture_output=True, check=True).stdout
PFX = pkcs12.serialize_key_and_certificates(
    b"apstra", LEAF.key, LEAF.x509, [INTERMEDIATE.x509], BestAvailableEncryption(b"secret")
)

FORMS = {
    "PEM": BOTH,
    "PEM with CRLF": BOTH.replace(b"\n", b"\r\n"),
    "PEM with CR alone": BOTH.replace(b"\n", b"\r"),
    "PEM with a byte order mark": b"\xef\xbb\xbf" + BOTH,
    "PEM with text around": b"Bag Attributes\n    friendlyName: x\n"
    + LEAF.pem
    + b"\nIssuing CA - keep this!\n"
    + INTERMEDIATE.pem
    + b"\n-- \nYour CA",
    "PEM without a line end between blocks": LEAF.pem.rstrip() + INTERMEDIATE.pem,
    "PEM all on one line": BOTH.replace(b"\n", b""),
    "PEM labelled X509 CERTIFICATE": BOTH.replace(b" CERTIFICATE", b" X509 CERTIFICATE"),
    "PEM with each certificate twice": BOTH + BOTH,
    "PEM with the CSR in front": CSR.public_bytes(Encoding.PEM) + BOTH,
    "PEM with a damaged key in front": b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n!\n-----END RSA PRIVATE KEY-----\n"
    + BOTH,
    "PKCS#7 in DER": CHAIN_P7,
    "PKCS#7 in PEM": pkcs7.serialize_certificates([LEAF.x509, INTERMEDIATE.x509], Encoding.PEM),
    "PKCS#7 in PEM labelled CMS": b"-----BEGIN CMS-----\n" + base64.encodebytes(CHAIN_P7) + b"-----END CMS-----\n",
}

NOT_CERTIFICATES = {
    "nothing": (b"", "is empty"),
    "blanks": (b" \r\n\n", "is empty"),
    "an HTML page": (b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><body>403 Forbidden</body></html>", "an HTML page"),
    "an HTML page without doctype": (b"<HTML><HEAD><TITLE>Error</TITLE>", "an HTML page"),
    "the CSR": (CSR.public_bytes(Encoding.PEM), "the CSR itself"),
    "the CSR as Microsoft labels it": (
        CSR.public_bytes(Encoding.PEM).replace(b"BEGIN ", b"BEGIN NEW ").replace(b"END ", b"END NEW "),
        "the CSR itself",
    ),
    "the CSR in DER": (CSR.public_bytes(Encoding.DER), "the CSR itself (DER)"),
    "a private key": (KEY_PEM, "a private key"),
    "a private key with the CSR": (CSR.public_bytes(Encoding.PEM) + KEY_PEM, "a private key"),
    "a private key in DER": (
        LEAF.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        "looks like a private key",
    ),
    "a public key": (
        LEAF.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "a public key",
    ),
    "a PFX": (PFX, "a PKCS#12 (PFX) container"),
    "PKCS#7 without certificates": (EMPTY_P7, "PKCS#7 without a certificate"),
    "PKCS#7 in PEM without certificates": (
        b"-----BEGIN PKCS7-----\n" + base64.encodebytes(EMPTY_P7) + b"-----END PKCS7-----\n",
        "PKCS#7 without a certificate",
    ),
    "UTF-16": (BOTH.decode().encode("utf-16"), "UTF-16 text"),
    "UTF-16 without a byte order mark": (BOTH.decode().encode("utf-16-le"), "UTF-16 text"),
    "DER garbage": (b"\x30\x82\x01\x00" + bytes(256), "DER, but no certificate"),
    "a word": (b"pending approval", "neither PEM nor DER"),
    "base64 alone": (base64.b64encode(issue(key=rsa_key()).der), "base64 without its BEGIN and END lines"),
    "more than 1 MiB": (BOTH + b" " * (1 << 20), "larger than 1 MiB"),
    "a file cut off": (BOTH[:-40], "cut off"),
    "damaged base64": (LEAF.pem.replace(b"\nM", b"\n!M", 1), "damaged"),
    "a damaged certificate": (
        b"-----BEGIN CERTIFICATE-----\nMAAw\n-----END CERTIFICATE-----\n",
        "a certificate in it is damaged",
    ),
    "a second one that is damaged": (
        LEAF.pem + b"-----BEGIN CERTIFICATE-----\nMAAw\n-----END CERTIFICATE-----\n",
        "a certificate in it is damaged",
    ),
}


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS.keys())
def test_every_form_gives_the_same_certificates(data: bytes) -> None:
    """Whatever the form, the same two certificates come out once each, and as the same canonical PEM."""
    found = read_certificates(data)
    assert {each.sha256 for each in found} == {LEAF.certificate.sha256, INTERMEDIATE.certificate.sha256}
    assert len(found) == 2
    assert bundle_pem(order_chain(found, LEAF.certificate.spki_sha256)) == BOTH.decode()


@pytest.mark.parametrize("data", [LEAF.der, LEAF.der + b"\r\n"], ids=["DER", "DER with a line end"])
def test_der_is_read(data: bytes) -> None:
    """A single certificate in DER is read, with a line end after it too."""
    assert [each.sha256 for each in read_certificates(data)] == [LEAF.certificate.sha256]


def test_a_trusted_certificate_of_openssl_is_read() -> None:
    """What `openssl x509 -trustout` writes is the certificate, without the trust settings behind it."""
    line = ["openssl", "x509", "-trustout", "-addtrust", "serverAuth", "-setalias", "apstra"]
    trusted = subprocess.run(line, input=LEAF.pem, capture_output=True, check=True).stdout
    assert b"TRUSTED CERTIFICATE" in trusted
    assert [each.pem for each in read_certificates(trusted)] == [LEAF.pem.decode()]


@pytest.mark.parametrize(("data", "words"), NOT_CERTIFICATES.values(), ids=NOT_CERTIFICATES.keys())
def test_anything_else_is_named(data: bytes, words: str) -> None:
    """What is no certificate is refused in words that name it and say what to hand in; nothing of it is repeated."""
    with pytest.raises(ValueError, match=r"hand in the certificate") as caught:
        read_certificates(data)
    assert words in str(caught.value)
    assert KEY_BODY.decode() not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"-----BEGIN CERTIFICATE-----" * 38_000,
        b"-----BEGIN X-----" * 61_000,
        b"-----BEGIN " * 95_000,
        b"-----END CERTIFICATE-----" * 40_000,
        b"\x30\x84\xff\xff\xff\xff" * 170_000,
    ],
    ids=["open blocks", "other blocks", "no labels", "ends", "huge lengths"],
)
def test_hostile_files_are_refused_quickly(data: bytes) -> None:
    """A file made to keep a parser busy is refused in a time that its size explains."""
    begun = time.monotonic()
    with pytest.raises(ValueError, match="hand in the certificate"):
        read_certificates(data)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("data", [LEAF.der, CHAIN_P7], ids=["DER", "PKCS#7"])
def test_damage_is_a_value_error(data: bytes) -> None:
    """Whichever bytes of a certificate are changed, it is read or refused with a ValueError, and without a warning."""
    chance = random.Random(20260601)
    for _ in range(2000):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 4))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with contextlib.suppress(ValueError):
            read_certificates(bytes(damaged))


def test_what_is_read_is_what_openssl_reads() -> None:
    """Fingerprint, public key digest, serial number and names are those that openssl shows."""
    key = rsa_key()
    made = issue(subject=name_of("apstra.example.com", organizational_unit="Netz"), key=key)
    shown = (
        subprocess.run(
            ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-serial"],
            input=made.pem,
            capture_output=True,
            check=True,
        )
        .stdout.decode()
        .lower()
    )
    public = subprocess.run(
        ["openssl", "x509", "-noout", "-pubkey"], input=made.pem, capture_output=True, check=True
    ).stdout
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-outform", "DER"], input=public, capture_output=True, check=True
    ).stdout
    digest = hashlib.sha256(der).hexdigest()
    found = made.certificate
    assert found.sha256 in shown.replace(":", "")
    assert int(shown.partition("serial=")[2].split()[0], 16) == int(found.serial, 16)
    assert digest == found.spki_sha256 == spki_sha256(public.decode())
    assert (found.key, key_type_of(public.decode()), found.signature_hash) == ("rsa-2048", "rsa-2048", "sha256")
    assert (found.common_name, found.organizational_units, found.san) == (
        "apstra.example.com",
        ("Netz",),
        ("DNS:apstra.example.com", "IP:192.0.2.10"),
    )
    assert (found.self_signed, found.is_ca, found.not_before) == (True, False, NOW - DAY)


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN PUBLIC KEY-----\nMAAw\n-----END PUBLIC KEY-----\n", "unable to load key"]
)
def test_no_public_key_is_a_value_error(text: str) -> None:
    """What is no public key has no digest and no kind."""
    for read in (spki_sha256, key_type_of):
        with pytest.raises(ValueError, match="no public key"):
            read(text)


STRANGER = issue("other.example.com", authority("Another Root"))
SELF_SIGNED = issue()
CROSS = authority("Example Root", authority("Older Root"), key=ROOT.key)
RENEWED = authority("Example Issuing CA", ROOT, key=INTERMEDIATE.key, days=7000)
ORDERS: dict[str, tuple[list[Issued], list[Issued]]] = {
    "in order": ([LEAF, INTERMEDIATE], [LEAF, INTERMEDIATE]),
    "the wrong way round, with the root": ([ROOT, INTERMEDIATE, LEAF], [LEAF, INTERMEDIATE]),
    "leaf alone": ([LEAF], [LEAF]),
    "self-signed": ([SELF_SIGNED], [SELF_SIGNED]),
    "with a stranger": ([STRANGER, INTERMEDIATE, LEAF], [LEAF, INTERMEDIATE]),
    "with the old certificate of this server": ([issue(issuer=INTERMEDIATE), LEAF, INTERMEDIATE], [LEAF, INTERMEDIATE]),
    "with a certificate of the same name that signed nothing": (
        [LEAF, authority("Example Issuing CA"), INTERMEDIATE],
        [LEAF, INTERMEDIATE],
    ),
    "cross-signed": ([LEAF, INTERMEDIATE, ROOT, CROSS], [LEAF, INTERMEDIATE, CROSS]),
    "with the intermediate renewed": ([LEAF, INTERMEDIATE, RENEWED], [LEAF, RENEWED]),
}


@pytest.mark.parametrize(("given", "wanted"), ORDERS.values(), ids=ORDERS.keys())
def test_the_chain_is_put_in_order(given: list[Issued], wanted: list[Issued]) -> None:
    """Leaf first, then who signed whom, without root and strangers."""
    ours = SELF_SIGNED if SELF_SIGNED in given else LEAF
    chain = order_chain([each.certificate for each in given], ours.certificate.spki_sha256)
    assert [each.sha256 for each in chain] == [each.certificate.sha256 for each in wanted]


def test_the_newest_certificate_of_our_key_is_the_leaf() -> None:
    """Where two certificates hold our key, the one issued last is meant."""
    older = issue(issuer=INTERMEDIATE, key=LEAF.key, not_before=NOW - 20 * DAY)
    chain = order_chain([older.certificate, LEAF.certificate], LEAF.certificate.spki_sha256)
    assert [each.sha256 for each in chain] == [LEAF.certificate.sha256]


def test_without_our_key_a_leaf_is_found_all_the_same() -> None:
    """A chain for another key is still put in order, so that the checks can say what is wrong with it."""
    chain = order_chain([ROOT.certificate, INTERMEDIATE.certificate, LEAF.certificate], "0" * 64)
    assert [each.common_name for each in chain] == ["apstra.example.com", "Example Issuing CA"]


def test_many_certificates_of_one_name_are_ordered_quickly() -> None:
    """A file of look-alikes costs one signature each at most, not one a pair."""
    key = ec_key()
    alike = [issue("Example Issuing CA", ca=True, key=key) for _ in range(400)]
    begun = time.monotonic()
    chain = order_chain(
        [LEAF.certificate, *(each.certificate for each in alike), INTERMEDIATE.certificate],
        LEAF.certificate.spki_sha256,
    )
    assert [each.common_name for each in chain] == ["apstra.example.com", "Example Issuing CA"]
    assert time.monotonic() - begun < 10
