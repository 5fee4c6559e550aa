"""Steps 1 to 4: back up, key, CSR, signer. Nothing outside state_dir is written."""

import dataclasses
import datetime as dt

from runbook_lib import tables
from runbook_lib.change.staging import Staging, made_for, staged_chain
from runbook_lib.models import Check, Command, Outcome, PlannedCommand, State, Verdict
from runbook_lib.pki.checks import SOON_DAYS
from runbook_lib.state import state_of
from runbook_lib.steps import backup, compare, csr, folder, key, stage
from runbook_lib.tables import Table


class Request(Staging):
    """Makes key and CSR on the server and hands the CSR to the signer."""

    order = ("check", "plan", "back up", "make key", "make CSR", "sign")

    def own_checks(self) -> tuple[Check, ...]:
        """Whether what is asked for is what the open change asks for, and whether that change can still go on."""
        if not self.own.files:
            self.idle = self._done_before()
            return self._superseded()
        asked, kept = folder.request_record(self.parameters.request()), self.own.request
        other = sorted(name for name in asked if asked[name] != kept.get(name))
        foreign = self.state is State.FOREIGN
        return (
            Check("Does the open change ask for the same certificate?", f"as in {self.change_id}", ", ".join(other) + " differ" if other else "the same",
                  Verdict.FAIL if other else Verdict.PASS, "design: CSR inputs", "give the same inputs, or change_id=new to begin anew" if other else ""),
            Check("Is the live pair still the one that was backed up?", "the backed-up pair", "another pair" if foreign else "the same",
                  Verdict.FAIL if foreign else Verdict.PASS, "design: states", "give change_id=new to begin anew" if foreign else ""),
        )  # fmt: skip

    def _superseded(self) -> tuple[Check, ...]:
        """What `new` closes: a CA may be at work on its CSR."""
        if not self.choice.supersedes:
            return ()
        found = ", ".join(
            f"{each}, {state_of(self.facts.change(each), self.facts.live)}" for each in self.choice.supersedes
        )
        return (
            Check("Is no open change given up?", "none", found, Verdict.WARN, "change_id=new",
                  "it is closed, and what a CA makes of its CSR cannot be installed any more; to go on with it leave change_id empty"),
        )  # fmt: skip

    def _done_before(self) -> str:
        """Why there is nothing to do: the last change did all this, and what it installed is served and good for long."""
        last, now = self.facts.change(self.choice.last), dt.datetime.now(dt.UTC)
        leaf = last.staged.chain[0] if last.staged.chain else None
        if self.parameters.change_id or leaf is None or state_of(last, self.facts.live) is not State.DONE:
            return ""
        handed_in = self.prepared.handed_in
        same = (
            dict(last.request) == folder.request_record(self.parameters.request())
            and leaf.self_signed == (self.parameters.signer == "self-signed")
            and (not handed_in or leaf.sha256 in {each.sha256 for each in handed_in})
        )
        good = leaf.not_after - now >= dt.timedelta(days=SOON_DAYS) and not any(
            each.verdict is Verdict.FAIL
            for each in compare.checks(self.facts, self.parameters, last.change_id, self.prepared.trust, now)
        )
        if not (same and good and self.facts.serves(last.staged)):
            return ""
        until = tables.moment(leaf.not_after)
        return f"what is served is what change {last.change_id} installed for this request, good until {until}; change_id=new replaces it all the same"

    def commands(self) -> tuple[PlannedCommand, ...]:
        """Everything that is still to do up to the staged certificate."""
        steps = {
            "back up": self._back_up(),
            "make key": key.plan(self.facts, self.parameters, self.change_id),
            "make CSR": csr.plan(self.facts, self.parameters, self.change_id),
            "sign": ()
            if self.own.staged.chain
            else (*self._signing(), *stage.plan(self.parameters, self.change_id, "")),
        }
        return tuple(PlannedCommand(name, command) for name, commands in steps.items() for command in commands)

    def _back_up(self) -> tuple[Command, ...]:
        opening = (
            ()
            if self.own.files
            else folder.plan(
                self.facts, self.parameters, self.change_id, kind="replace", supersedes=self.choice.supersedes
            )
        )
        return (*opening, *backup.plan(self.facts, self.parameters, self.change_id))

    def _signing(self) -> tuple[Command, ...]:
        return self.prepared.signer.commands(self.parameters.request(), self.folder)

    async def back_up(self) -> Table:
        """Step 1: opens the change and backs up all of /etc/aos and the pair.

        Raises:
            Refused: The backup could not be made or proven.
        """
        return await self.do("back up", self._back_up(), lambda: backup.checks(self.facts, self.change_id))

    async def make_key(self) -> Table:
        """Step 2: makes the new private key, which stays on the server."""
        commands = key.plan(self.facts, self.parameters, self.change_id)
        return await self.do("make key", commands, lambda: key.checks(self.facts, self.parameters, self.change_id))

    async def make_csr(self) -> Table:
        """Step 3: makes the CSR and holds it against what was asked, field by field."""
        commands = csr.plan(self.facts, self.parameters, self.change_id)
        table = await self.do("make CSR", commands, lambda: csr.checks(self.facts, self.parameters, self.change_id))
        if self.own.csr:
            self.record.add_file("nginx.csr", self.own.csr.encode())
        return table

    async def sign(self) -> Table:
        """Step 4: hands the CSR to the signer and stages the certificate; waiting for the CA is no failure.

        Raises:
            SigningRefused: The signer said no, or handed back something unusable.
            ChecksFailed: The certificate does not fit the key, the names or the dates.
        """
        async with self.step("sign"):
            if not self.applies:
                return self.planned_table("sign")
            if self.own.staged.chain:
                return tables.certificates_table("staged before", {"staged": self.own.staged.chain[0]})
            signing = self._signing()
            results = (
                await self.locked("sign", signing) if signing else ()
            )  # they print the certificate and leave nothing
            request = self.parameters.request()
            data = (
                results[-1].stdout.encode()
                if results
                else await self.prepared.signer.sign(self.own.csr, request, dt.datetime.now(dt.UTC))
            )
            if data is None:
                return self._csr_table()
            chain = staged_chain(data, self.own.staged.key_spki_sha256)
            if chain[0] in self.facts.live.chain[:1]:
                # the answer to the change before still lies there: this one is not answered
                fits = made_for(chain, self.own.staged.key_spki_sha256)
                todo = "certificate_file holds the certificate that is live now: put the CA's new answer there"
                self.judge("sign", [dataclasses.replace(fits, verdict=Verdict.WARN, todo=todo)])
                return self._csr_table()
            await self.stage(chain)
            return tables.certificates_table(f"signed by {self.prepared.signer.name}, staged", {"staged": chain[0]})

    def _csr_table(self) -> Table:
        where = self.record.folder / "files" / "nginx.csr"
        rows = [
            (
                "waiting",
                f"the CA has not answered; hand it the CSR, then run install with certificate_file ({self.parameters.certificate_file or 'not set yet'})",
            ),
            ("CSR file", where),
            ("CSR", self.own.csr),
        ]
        return tables.table("waiting for the CA", ("", "to copy"), rows, ("to copy",))

    def closing(self) -> Outcome:
        """Done when the certificate is staged, else waiting for the CA."""
        return Outcome.DONE if self.own.staged.chain else Outcome.WAITING
