"""The vendor's example: the new key signs its own certificate, by the server's openssl."""

import datetime as dt

from runbook_lib.errors import SigningRefused
from runbook_lib.models import CertificateRequest, Command

DAYS = 365


class SelfSigned:
    """Signs on the server; takes nothing from the CSR but its subject and key, and the names from the request."""

    name = "self-signed"

    def commands(self, request: CertificateRequest, folder: str) -> tuple[Command, ...]:
        """One openssl command that prints the certificate, with options that OpenSSL 1.1.1 and 3.x both have."""
        days = request.validity_days or DAYS
        script = f"cd {folder} && openssl x509 -req -sha256 -days {days} -in nginx.csr -signkey nginx.key -extfile /dev/stdin"
        usage = "digitalSignature, keyEncipherment" if request.key_type.startswith("rsa") else "digitalSignature"
        extensions = (
            f"subjectAltName = {', '.join(request.san)}\n"
            "basicConstraints = critical, CA:FALSE\n"
            f"keyUsage = critical, {usage}\n"
            "extendedKeyUsage = serverAuth\n"
            "subjectKeyIdentifier = hash\n"
        )
        return (Command(f"let the new key sign its own certificate for {days} days", script, undo="none needed: it is only printed", stdin=extensions),)

    async def sign(self, csr_pem: str, request: CertificateRequest, now: dt.datetime) -> bytes | None:  # noqa: ARG002
        """Never asked: the certificate is what the command printed.

        Raises:
            SigningRefused: Always.
        """
        raise SigningRefused("a self-signed certificate is made on the server")
