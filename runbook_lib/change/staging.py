"""Runs that put a pair aside on the server before it may go live."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from runbook_lib import tables
from runbook_lib.change.base import Change
from runbook_lib.errors import SigningRefused
from runbook_lib.models import Certificate, Check, Command, Facts, Verdict, judged
from runbook_lib.pki.certificates import bundle_pem, order_chain, read_certificates
from runbook_lib.server.fetch import pack, read_files
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


def made_for(chain: tuple[Certificate, ...], spki_sha256: str) -> Check:
    """Whether a certificate that is not staged yet was made for the staged key."""
    return judged(
        "Was this certificate made for this change's key?",
        f"public key {spki_sha256[:16]}…",
        f"public key {chain[0].spki_sha256[:16]}…" if chain else "no certificate",
        good=bool(chain) and chain[0].spki_sha256 == spki_sha256,
        source="vendor's step 5",
        todo="this certificate was made for another key: ask the CA for the certificate of this change's CSR",
    )


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
            if name == "back up":
                kept = await self.keep_copy(f"{self.folder}/backup", self.own.backup_sums, "backup")
                self.judge(name, kept)
                judged = (*judged, *kept)
            return tables.step_table(name, results, judged)

    async def keep_copy(self, folder: str, sums: Mapping[str, str], name: str) -> tuple[Check, ...]:
        """Keeps a copy of files of the server in the record, encrypted to the recipients of `fetch_backup`; in clear they are in memory alone.

        Args:
            folder: Where they lie on the server.
            sums: SHA-256 by file name.
            name: What the copy is called.
        """
        if not self.parameters.fetch_backup:
            return ()
        from runbook_lib.age import encrypt  # noqa: PLC0415 - few runs need it

        file = f"{name}-{'-'.join(sorted(digest[:8] for digest in sums.values()))}.tar.age"
        if not (self.record.folder / "files" / file).exists():
            files = await read_files(self.session.shell, folder, sums, self.parameters.host)
            self.record.add_file(file, encrypt(pack(files), self.parameters.fetch_backup))
        known = len(self.parameters.fetch_backup)
        question = f"Is an encrypted copy of the {name} in the record?"
        found = f"{file}, for {known} recipient{'s' * (known > 1)}"
        return (Check(question, "as it was proven", found, Verdict.PASS, "fetch_backup"),)

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
        fit = compare.checks(
            self.with_staged(chain), self.parameters, self.change_id, self.prepared.trust, self.clock()
        )
        self.judge("sign", (made_for(chain, self.own.staged.key_spki_sha256), *fit))
        await self.apply("sign", stage.plan(self.parameters, self.change_id, bundle))
