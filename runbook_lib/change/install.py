"""The run that installs what the CA signed."""

from pathlib import Path

from runbook_lib.change.installing import Installing
from runbook_lib.errors import Waiting
from runbook_lib.models import Check, Command, Facts, State, judged
from runbook_lib.pki.certificates import bundle_pem, order_chain
from runbook_lib.state import same_files
from runbook_lib.steps import install, stage
from runbook_lib.tables import Table


class Install(Installing):
    """Installs the staged pair of the open change, or the certificate that the CA handed back for it."""

    async def check(self) -> Table:
        """As for every run; and stops when the CA has not answered yet.

        Raises:
            Waiting: There is no certificate yet.
        """
        table = await super().check()
        async with self.step("check"):
            if self.own.csr:
                self.record.add_file("nginx.csr", self.own.csr.encode())
            if not self.idle and not self.expected().change(self.change_id).staged.chain:
                file = self.parameters.certificate_file
                raise Waiting("the CA has not answered yet", server=self.parameters.host, step="check",
                              why=f"there is no file {self.prepared.base / Path(file).expanduser()}" if file else "certificate_file is not set",
                              todo=f"hand the CSR of change {self.change_id} to the CA, then run install with certificate_file")  # fmt: skip
        return table

    def own_checks(self) -> tuple[Check, ...]:
        """Whether there is a change to install, and one that may be installed."""
        staged, handed_in = self.own.staged.chain, self.prepared.handed_in
        another = bool(handed_in) and all(each.sha256 != staged[0].sha256 for each in handed_in) if staged else False
        if self.state is State.DONE and self.facts.serves(self.own.staged) and not another:
            self.idle = f"what is served is what change {self.change_id} installed"
            return ()
        fit = self.state in {State.WAITING, State.READY} or (
            self.state is State.ROLLED_BACK and self.parameters.change_id == self.change_id
        )
        todo = {
            State.DONE: f"certificate_file is not what is served, and no change waits for it: {self._begin('run request with change_id=new')}",
            State.FOREIGN: "the live pair is another one now: run request with change_id=new",
            State.ROLLED_BACK: f"mend the cause and give change_id={self.change_id}, or run request with change_id=new",
            State.UNCONFIRMED: "wait until its guard has put the old pair back, then run again",
        }
        return (
            judged(
                "Is there an open change to install?",
                "waiting for its certificate, or ready",
                f"{self.change_id} is {self.state}" if self.own.files else "none",
                good=fit,
                source="design: states",
                todo=todo.get(self.state, self._begin("run request first")),
            ),
            *install.checks(self.parameters),
        )

    def _begin(self, first: str) -> str:
        """What to do where no change is open: one that was rolled back last may be tried again."""
        *_, last = (
            "",
            *(name for name, kind, decided in self.facts.listed if decided == "rolled-back" and kind == "replace"),
        )
        if last <= self.choice.last:
            return first
        return f"{first}; or, to try {last} again, which was rolled back, run install with change_id={last}"

    def expected(self) -> Facts:
        """The facts with the certificate that was handed in, where it is not staged yet."""
        if not self.prepared.handed_in or self.idle:
            return self.facts
        chain = order_chain(self.prepared.handed_in, self.own.staged.key_spki_sha256)
        facts = self.with_staged(chain)
        return self.facts if same_files(facts.change(self.change_id).staged, self.own.staged) else facts

    def staging(self) -> tuple[Command, ...]:
        """Stages what the CA handed back."""
        expected = self.expected()
        if expected is self.facts:
            return ()
        return stage.plan(self.parameters, self.change_id, bundle_pem(expected.change(self.change_id).staged.chain))
