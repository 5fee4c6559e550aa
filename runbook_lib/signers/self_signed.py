"""The vendor's example: the new key signs its own certificate, by the server's openssl."""

import datetime as dt
import shlex

from runbook_lib.errors import SigningRefused
from runbook_lib.models import CertificateRequest, Command
from runbook_lib.pki.csr import extension_lines, name_lines

DAYS = 365


class SelfSigned:
    """Signs on the server; takes nothing from the CSR but its subject and key, and the names from the request."""

    name = "self-signed"

    def commands(self, request: CertificateRequest, folder: str) -> tuple[Command, ...]:
        """One openssl command that prints the certificate, with options that OpenSSL 1.1.1 and 3.x both have.

        The serial number is openssl's own: without `-CAserial` both versions draw a random one.

        Raises:
            ValueError: The request has no SAN, or one that cannot be written.
        """
        days = request.validity_days or DAYS
        script = f"cd {shlex.quote(folder)} && openssl x509 -req -sha256 -days {days} -in nginx.csr -signkey nginx.key -extfile /dev/stdin"
        extensions = (*extension_lines(request), "basicConstraints = critical, CA:FALSE", "subjectKeyIdentifier = hash")
        stdin = "\n".join((*extensions, *name_lines(request), ""))
        return (
            Command(
                f"let the new key sign its own certificate for {days} days",
                script,
                undo="none needed: it is only printed",
                stdin=stdin,
            ),
        )

    async def sign(self, csr_pem: str, request: CertificateRequest, now: dt.datetime) -> bytes | None:  # noqa: ARG002
        """Never asked: the certificate is what the command printed.

        Raises:
            SigningRefused: Always.
        """
        raise SigningRefused("a self-signed certificate is made on the server")
