"""Runs that put a pair aside on the server before it may go live."""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import replace

from runbook_lib import tables
from runbook_lib.change.base import Change
from runbook_lib.errors import SigningRefused
from runbook_lib.models import Certificate, Check, Command, Facts
from runbook_lib.pki.certificates import bundle_pem, order_chain, read_certificates
from runbook_lib.steps import compare, stage
from runbook_lib.tables import Table


def staged_chain(data: bytes, spki_sha256: str) -> tuple[Certificate, ...]:
    """What a signer handed back, leaf first.

    Raises:
        SigningRefused: It holds no certificate.
    """
    try:
        return order_chain(read_certificates(data), spki_sha256)
    except ValueError as error:
        raise SigningRefused(
            "what the signer handed back cannot be used",
            step="sign",
            why=str(error),
            todo="ask the CA for the certificate of this CSR",
        ) from None


class Staging(Change):
    """A run with steps that are applied, judged and shown one after the other."""

    async def do(self, name: str, commands: tuple[Command, ...], checks: Callable[[], tuple[Check, ...]]) -> Table:
        """Applies a step's commands and judges what came of them; shows both."""
        async with self.step(name):
            if not self.applies:
                return self.planned_table(name)
            results = await self.apply(name, commands)
            judged = checks()
            self.judge(name, judged)
            return tables.step_table(name, results, judged)

    def with_staged(self, chain: tuple[Certificate, ...]) -> Facts:
        """The facts as they will be when this certificate is staged beside its key."""
        digest = hashlib.sha256(bundle_pem(chain).encode()).hexdigest()
        staged = replace(self.own.staged, chain=chain, certificate_sha256=digest)
        public = {name: value for name, value in self.own.public_keys.items() if name != "certificate"}
        return self.facts.with_change(replace(self.own, staged=staged, public_keys=public))

    async def stage(self, chain: tuple[Certificate, ...]) -> None:
        """Judges a certificate and, when nothing speaks against it, stages it beside its key."""
        bundle = bundle_pem(chain)
        self.record.add_file("certificate-staged.pem", bundle.encode())
        self.judge(
            "sign",
            compare.checks(
                self.with_staged(chain), self.parameters, self.change_id, self.prepared.trust, dt.datetime.now(dt.UTC)
            ),
        )
        await self.apply("sign", stage.plan(self.parameters, self.change_id, bundle))
