"""The CA is reached by a person: the CSR goes out as a file, the certificate comes back as one."""

import datetime as dt
from pathlib import Path

from runbook_lib.errors import SigningRefused
from runbook_lib.files import read_regular
from runbook_lib.models import CertificateRequest, Command
from runbook_lib.pki.certificates import LARGEST


class Manual:
    """Waits until `certificate_file` is there."""

    name = "manual"

    def __init__(self, certificate_file: Path | None) -> None:
        self._file = certificate_file

    def commands(self, request: CertificateRequest, folder: str) -> tuple[Command, ...]:  # noqa: ARG002
        """Nothing is run on the server."""
        return ()

    async def sign(self, csr_pem: str, request: CertificateRequest, now: dt.datetime) -> bytes | None:  # noqa: ARG002
        """What the CA handed back, or None while there is no such file.

        Raises:
            SigningRefused: What is there is no file that can be read.
        """
        if self._file is None:
            return None
        try:
            return read_regular(self._file, LARGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SigningRefused(
                f"certificate_file {self._file} cannot be read",
                why=error.strerror or "",
                todo="name the file that the CA handed back, and make it readable",
            ) from None
