"""The CA is reached by a person: the CSR goes out as a file, the certificate comes back as one."""

import datetime as dt
from pathlib import Path

from runbook_lib.models import CertificateRequest, Command


class Manual:
    """Waits until `certificate_file` is there."""

    name = "manual"

    def __init__(self, certificate_file: Path | None) -> None:
        self._file = certificate_file

    def commands(self, request: CertificateRequest, folder: str) -> tuple[Command, ...]:  # noqa: ARG002
        """Nothing is run on the server."""
        return ()

    async def sign(self, csr_pem: str, request: CertificateRequest, now: dt.datetime) -> bytes | None:  # noqa: ARG002
        """What the CA handed back, or None while there is no such file."""
        return self._file.read_bytes() if self._file and self._file.exists() else None
