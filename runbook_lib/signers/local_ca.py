"""A CA whose key lies on the operator's side: takes only the public key from the CSR, all else from the request."""

import datetime as dt
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from runbook_lib.errors import SigningRefused
from runbook_lib.models import Certificate, CertificateRequest, Command
from runbook_lib.pki.certificates import bundle_pem, key_type, load
from runbook_lib.pki.csr import subject_of
from runbook_lib.pki.foreign import UNREADABLE

DAYS = 365
BACKDATED = dt.timedelta(minutes=5)
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class LocalCa:
    """Signs here with the CA's own key.

    Args:
        chain: The CA's certificate, then the intermediates above it; the root only where it signs by itself.
        key: The CA's private key.

    Raises:
        ValueError: The two do not belong together, or the certificate is no CA's.
    """

    name = "local-ca"

    def __init__(self, chain: Sequence[Certificate], key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> None:
        self._chain, self._ca, self._key = tuple(chain), load(chain[0]), key
        usage = chain[0].key_usage
        if not chain[0].is_ca or (usage is not None and "key_cert_sign" not in usage):
            msg = "is no CA's certificate: it may not sign others"
            raise ValueError(msg)
        if self._ca.public_key() != key.public_key():
            msg = "belongs to another certificate than ca_certificate"
            raise ValueError(msg)

    def commands(self, request: CertificateRequest, folder: str) -> tuple[Command, ...]:  # noqa: ARG002
        """Nothing is run on the server."""
        return ()

    async def sign(self, csr_pem: str, request: CertificateRequest, now: dt.datetime) -> bytes | None:
        """The leaf, and the CA's certificate with what is above it where the CA is no root.

        The leaf ends with the CA's own certificate where that comes first.

        Raises:
            SigningRefused: The CSR is not signed by its own key, or is for another kind of key, or the CA may not sign now.
        """
        if not self._ca.not_valid_before_utc <= now < self._ca.not_valid_after_utc:
            raise SigningRefused("the CA's own certificate is not in date", todo="renew the CA, or use another signer")
        try:
            public = _public_key(csr_pem, request)
            leaf = self._builder(public, request, now).sign(self._key, hashes.SHA256())
        except UNREADABLE as error:
            raise SigningRefused(
                "the local CA cannot sign this request", why=str(error), todo="run again with change_id=new"
            ) from None
        above = () if self._chain[0].self_signed else self._chain
        return leaf.public_bytes(Encoding.PEM) + bundle_pem(above).encode()

    def _builder(self, public: PublicKey, request: CertificateRequest, now: dt.datetime) -> x509.CertificateBuilder:
        until = min(now + dt.timedelta(days=request.validity_days or DAYS), self._ca.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject_of(request))
            .issuer_name(self._ca.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATED, self._ca.not_valid_before_utc))  # clocks differ
            .not_valid_after(until)
        )
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
            (x509.SubjectAlternativeName([_name(entry) for entry in request.san]), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(rsa_key=isinstance(public, rsa.RSAPublicKey)), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.SubjectKeyIdentifier.from_public_key(public), False),
            (self._authority_key(), False),
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder

    def _authority_key(self) -> x509.AuthorityKeyIdentifier:
        """From the CA's own subject key identifier, so that clients find the chain (RFC 5280, section 4.2.1.1)."""
        try:
            own = self._ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except x509.ExtensionNotFound:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _public_key(csr_pem: str, request: CertificateRequest) -> PublicKey:
    """All that is taken from a CSR: its public key, proven to be its sender's."""
    csr = x509.load_pem_x509_csr(csr_pem.encode())
    if not csr.is_signature_valid:
        msg = "the CSR is not signed by its own key"
        raise ValueError(msg)
    public = csr.public_key()
    if key_type(public) != request.key_type or not isinstance(public, PublicKey):
        msg = f"its key is {key_type(public)}, and {request.key_type} was asked for"
        raise ValueError(msg)
    return public


def _name(entry: str) -> x509.GeneralName:
    kind, _, value = entry.partition(":")
    return x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value)


def _usage(*, rsa_key: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_encipherment=rsa_key, content_commitment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
