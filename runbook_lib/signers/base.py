"""What every signer looks like from outside."""

import datetime as dt
from typing import Protocol

from runbook_lib.models import CertificateRequest, Command


class Signer(Protocol):
    """Turns a CSR into a certificate."""

    @property
    def name(self) -> str:
        """As in the parameter `signer`."""

    def commands(self, request: CertificateRequest, folder: str) -> tuple[Command, ...]:
        """What it runs on the server; the last one prints the certificate. Empty for a signer that works elsewhere."""

    async def sign(self, csr_pem: str, request: CertificateRequest, now: dt.datetime) -> bytes | None:
        """The certificate with its chain, in any form that can be read; None while the CA has not answered.

        Raises:
            SigningRefused: The signer said no.
        """
