"""What bytes are that hold no certificate, in the operator's words. Pure."""

import re
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

# What cryptography raises for fields that are malformed or of a kind it does not know.
UNREADABLE = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)
PKCS7_LABELS = (b"PKCS7", b"PKCS #7 SIGNED DATA", b"CMS")
_PFX_VERSION = b"\x02\x01\x03"  # RFC 7292, section 4
_KEY_VERSION = b"\x02\x01\x00"  # RFC 5208, section 5; RFC 8017, appendix A.1.2
_PKCS7_OID = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07"


def pem_blocks(data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Label and body of each PEM block, the body None where its END line is missing; in time linear in the size."""
    for part in data.split(b"-----BEGIN ")[1:]:
        label, _, rest = part.partition(b"-----")
        body, end, _ = rest.partition(b"-----END " + label + b"-----")
        yield label, body if end else None


def what_it_is(data: bytes) -> str:
    """What bytes without a certificate are, in the operator's words; nothing of them is repeated."""
    text = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    labels = [label for label, _ in pem_blocks(data)]
    kinds = (
        (not data.strip(), "empty"),
        (
            data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"-\0-\0-\0" in data,
            "UTF-16 text: save it as plain text (UTF-8)",
        ),
        (
            any(label.endswith(b"PRIVATE KEY") for label in labels),
            "a private key, which should be nowhere but on the server",
        ),
        (any(label.endswith(b"CERTIFICATE REQUEST") for label in labels), "the CSR itself, not the certificate"),
        (any(label in PKCS7_LABELS for label in labels), "PKCS#7 without a certificate that can be read"),
        (any(label.endswith(b"PUBLIC KEY") for label in labels), "a public key, not the certificate"),
        (
            re.match(rb"<(!doctype |html|\?xml|head|body)", text, re.IGNORECASE) is not None,
            "an HTML page, not what the CA signed",
        ),
        (data[:1] == b"\x30", _what_der_is(data)),
        (text.startswith(b"MII"), "base64 without its BEGIN and END lines"),
    )
    return next((name for holds, name in kinds if holds), "neither PEM nor DER")


def _what_der_is(data: bytes) -> str:
    try:
        x509.load_der_x509_csr(data)
    except UNREADABLE:
        pass
    else:
        return "the CSR itself (DER), not the certificate"
    if _PFX_VERSION in data[:9] and _PKCS7_OID in data[:64]:
        return "a PKCS#12 (PFX) container: export the certificates alone, without the key"
    if _PKCS7_OID in data[:64]:
        return "PKCS#7 without a certificate that can be read"
    return (
        "DER that looks like a private key, which should be nowhere but on the server"
        if _KEY_VERSION in data[:9]
        else "DER, but no certificate"
    )
