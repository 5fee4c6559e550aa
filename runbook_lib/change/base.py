"""What every run of a change has in common: checks first, then the plan, then steps that are applied and judged."""

import asyncio
import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from typing import ClassVar

from runbook_lib import VERSION, tables
from runbook_lib.change.apply import Applier, ticking
from runbook_lib.change.noting import note_certificate, note_facts, note_guard, note_orphans
from runbook_lib.change.planning import check_approval, keep_plan, plan_over
from runbook_lib.errors import ChecksFailed, CommandFailed, Refused, RunbookError, Unreachable, Unsettled
from runbook_lib.models import (
    ChangeFolder,
    Check,
    Command,
    CommandResult,
    Facts,
    Outcome,
    Plan,
    PlannedCommand,
    State,
    Verdict,
    judged,
)  # fmt: skip
from runbook_lib.parameters import inside_window
from runbook_lib.record.archive import Record
from runbook_lib.record.closing import Closed, close_record
from runbook_lib.record.journal import outcome_of, read
from runbook_lib.record.seal import digests
from runbook_lib.record.summary import fields
from runbook_lib.secrets import REGISTRY
from runbook_lib.server.shell import ShellLost
from runbook_lib.server.survey import read_change, read_facts
from runbook_lib.server.views import Views
from runbook_lib.session import Prepared, Session
from runbook_lib.state import Choice, state_of
from runbook_lib.steps import install, server
from runbook_lib.steps.folder import folder_of
from runbook_lib.tables import Table

BROKEN = "the way back does not serve: it brings back the pair as it was found, which does not serve now"


class Change(ABC):
    """One run of a change on one server; every step returns a table.

    Attributes:
        change_id: The change's id.
        facts: What was read from the server last.
        before: What was found before anything changed.
        outcome: How the run ended; None while it goes on.
        idle: Why there is nothing to do, or empty.
        approvable: Whether `approved_plan` speaks of this kind of run; a request touches only state_dir.
        planned: The plan as it was shown; what is applied is this, and nothing made anew.
        order: The steps of this kind of run; each stands on those before it.
    """

    approvable = False
    _armed = False
    order: ClassVar[tuple[str, ...]]

    def __init__(  # noqa: PLR0913, PLR0917 - all that a run stands on
        self, prepared: Prepared, session: Session, record: Record, facts: Facts, choice: Choice, change_id: str
    ) -> None:
        self.prepared, self.parameters, self.session, self.record = prepared, prepared.parameters, session, record
        self.choice, self.change_id = choice, change_id
        self.facts = self.before = facts
        self.outcome: Outcome | None = None
        self.idle = ""
        self.way_back = self._way_back(change_id)
        self.folder = folder_of(self.parameters, change_id)
        self.applier = Applier(session.shell, record.journal, self.parameters.host)
        self.views = Views(self.parameters, session.connection)
        self.planned = Plan(prepared.kind, (), "", self.way_back)
        self._passed: set[str] = set()
        self._closed = self._stood_in = False

    @property
    def own(self) -> ChangeFolder:
        """This change's folder on the server, as read last."""
        return self.facts.change(self.change_id)

    @property
    def state(self) -> State:
        """Where the change stands."""
        return state_of(self.own, self.facts.live)

    @property
    def applies(self) -> bool:
        """Whether steps are applied: `apply` is set and there is something to do."""
        return self.parameters.apply and not self.idle

    async def check(self) -> Table:
        """Judges the server as found, all checks at once.

        Raises:
            ChecksFailed: With every failed check; nothing was changed.
        """
        async with self.step("check"):
            await self._settle()
            listening = self.facts.listening
            seen, version = await asyncio.gather(self.views.look(listening), self.views.api_version(listening))
            on_server = (each for each in self.facts.served if each.vantage == "server")
            self.facts = self.before = replace(self.facts, served=(*on_server, *seen), apstra_version=version)
            if not self._stood_in:
                note_certificate(self.record, "before", self.facts.live)
            note_facts(self.record, self.facts, self.state)
            note_orphans(self.record, self.state)
            note_guard(self.record, self.own)
            checks = (*server.checks(self.facts, self.parameters), *self._as_sealed(), *self.own_checks())
            self.judge("check", checks)
            return tables.checks_table(
                f"{self.parameters.host} as found; change {self.change_id} is {self.state}", checks
            )

    async def _settle(self) -> None:
        """Puts the old pair back where a change was never confirmed and its guard is gone, as after a restart of the server.

        Raises:
            Unsettled: It could not be put back, or does not serve.
        """
        left = [
            each.change_id
            for each in self.facts.changes
            if not each.watched and (state_of(each, self.facts.live) is State.UNCONFIRMED or each.half_way_back)
        ]
        if not left or not self.parameters.apply or not inside_window(self.parameters, self.facts.now):
            return
        note_certificate(self.record, "before", self.facts.live)
        for change_id in left:
            back = self._way_back(change_id)
            error = await self.applier.roll_back(
                folder_of(self.parameters, change_id), "not confirmed, and its guard is gone", back, verb="stand-in"
            )
            if isinstance(error, Unsettled):
                raise error
        self._stood_in = True
        await self.survey()
        note_certificate(self.record, "after", self.facts.live)

    def _way_back(self, change_id: str) -> str:
        return install.way_back(self.parameters, change_id, self.prepared.login.ssh_options)

    def _as_sealed(self) -> tuple[Check, ...]:
        """Whether the record that is kept here is the one whose seal the server remembers."""
        known, here = self.own.seal, digests(self.record.folder)
        if not known or not here:
            return ()
        return (
            judged(
                "Does the record here hold the seal that the server remembers?", f"sha256:{known}", "it does" if known in here else "it does not",
                good=known in here, bad=Verdict.WARN, source="state_dir",
                todo="a colleague's part of the record is kept elsewhere, or a seal was taken away here: runbook verify with --expect and that digest",
            ),
        )  # fmt: skip

    @abstractmethod
    def own_checks(self) -> tuple[Check, ...]:
        """The checks that this kind of run adds before anything changes."""

    @abstractmethod
    def commands(self) -> tuple[PlannedCommand, ...]:
        """What apply would run, over the facts read last."""

    def expected(self) -> Facts:
        """The facts as they will be when the pair is staged: what the plan stands on."""
        return self.facts

    async def plan(self) -> Table:
        """Shows the exact commands that apply runs, with their undo and the plan's hash.

        Raises:
            Refused: `approved_plan` is another plan.
        """
        async with self.step("plan"):
            plan = self.planned = self.make_plan()
            listed = [{"step": each.step, **asdict(replace(each.command, secret_stdin=""))} for each in plan.commands]
            kept = keep_plan(self.record, plan, self.prepared.kind) if self.approvable else ""
            self.record.journal.write(
                "plan", name=plan.name, sha256=plan.sha256, way_back=plan.way_back, commands=listed, file=kept
            )
            if self.approvable and plan.commands:
                check_approval(self.prepared, self.record, plan)
            table = tables.plan_table(plan)
            broken = self.parameters.accept_broken_start and not (
                self.before.live.matches and self.facts.serves(self.before.live)
            )
            by_hand = f"once it is installed, the old pair comes back by hand with: {self.way_back}"
            more = [by_hand] * self.approvable + [BROKEN] * broken
            return replace(table, title="\n".join([table.title, *more]))

    def clock(self) -> dt.datetime:
        """Now, or what the server's clock says where that is ahead: what it signs itself is good from its own now on."""
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=max(0.0, self.facts.clock_skew_s))

    def make_plan(self) -> Plan:
        """The plan over the facts read last; its hash holds whatever an approval must stand on, and no clock."""
        commands = () if self.idle else self.commands()
        return plan_over(self.prepared, self.expected(), self.change_id, commands, self.way_back)

    async def apply(self, name: str, commands: Sequence[Command]) -> tuple[CommandResult, ...]:
        """Runs a step's commands under the lock of conf_dir and reads the change's folder again.

        Raises:
            Locked: Another run is applying.
            Refused: A command failed; the live pair is untouched.
        """
        if not commands:
            return ()
        results = await self.locked(name, commands)
        await self.refresh()
        return results

    async def locked(self, name: str, commands: Sequence[Command]) -> tuple[CommandResult, ...]:
        """Runs commands under the lock of conf_dir.

        Raises:
            Locked: Another run is applying.
            Refused: A command failed; the live pair is untouched.
        """
        try:
            await self.lock()
            return await self.applier.run(name, commands)
        except CommandFailed as error:
            raise self.untouched(error, name) from error
        finally:
            with suppress(ShellLost):
                await self.session.shell.unlock()

    async def lock(self) -> None:
        """Takes the lock of conf_dir.

        Raises:
            Locked: Another run is applying.
        """
        await self.session.shell.lock(self.parameters.conf_dir)

    def untouched(self, error: CommandFailed, step: str) -> Refused:
        """What a command that failed before the live pair was touched comes to."""
        return Refused(error.what, server=self.parameters.host, step=step, why="; ".join(error.details()),
                       todo="mend the cause, then run again: it goes on from here")  # fmt: skip

    def head(self) -> Command:
        """Leaves the journal's head in the change's folder, for the run that goes on from here to cite."""
        return Command("leave the journal's head", f"cd {self.folder} && echo {self.record.journal.head} >journal-head")

    async def leave_head(self) -> None:
        """Leaves the journal's head on the server."""
        await self.session.shell.run_all([self.head()], bounded=False)

    def close_record(self) -> Closed:
        """Writes the report, and seals the record where there is a key."""
        return close_record(
            self.record, REGISTRY, operator=self.prepared.operator, key=self.prepared.signing, version=VERSION
        )

    async def leave_seal(self, closed: Closed) -> None:
        """Leaves the digest of the record's seal in the change's folder, where there is one: it is the server's to remember.

        Raises:
            ShellLost: The server could not be reached any more.
        """
        if closed.seal and self.parameters.apply and self.own.files:
            told = Command("leave the seal's digest", f"echo {closed.seal.digest} >{self.folder}/seal")
            await self.session.shell.run_all([told], bounded=False)

    async def refresh(self) -> None:
        """Leaves the journal's head in the change's own folder and reads that again."""
        own = await read_change(self.session.shell, self.parameters, self.own, [self.head()])
        self.facts = self.facts.with_change(own)

    async def survey(self) -> None:
        """Reads the whole server again, and the changes that were read before."""
        known = [self.change_id, *(each.change_id for each in self.facts.changes)]
        self.facts = await read_facts(self.session.shell, self.parameters, self.facts.host_key, known)

    def judge(self, step: str, checks: Sequence[Check]) -> None:
        """Notes checks and stops at the failed ones, all of them at once."""
        self.record.journal.write("checks", step=step, checks=[asdict(check) for check in checks])
        failed = [check for check in checks if check.verdict is Verdict.FAIL]
        if failed:
            raise ChecksFailed(failed, server=self.parameters.host, step=step)

    def planned_table(self, name: str) -> Table:
        """What an apply step shows when nothing is applied."""
        why = self.idle or "apply is False: nothing was changed"
        return tables.table(name, ("step", "said"), [(name, why)])

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Whatever ends a step ends the run, and the record says how; a step whose forerunners have not run is refused."""
        if self.outcome is not None:
            raise Refused(
                f"this run has ended: {self.outcome}",
                server=self.parameters.host,
                step=name,
                todo="run the notebook again from its top",
            )
        self._need(self.order[: self.order.index(name)], name)
        try:
            async with ticking():
                yield
        except ShellLost as error:
            lost = connection_lost(error, name)
            self.end(lost.outcome, lost.diagnostics(), lost.todo)
            raise lost from error
        except RunbookError as error:
            self.end(error.outcome, error.diagnostics(), error.todo)
            raise
        except (asyncio.CancelledError, KeyboardInterrupt):
            if self._armed:
                self.end(
                    Outcome.UNKNOWN,
                    f"stopped in {name}, while the change was under way",
                    "run again: it looks at the server",
                )
            self.end(
                Outcome.REFUSED, f"stopped in {name}; the live pair is untouched", "run again: it goes on from here"
            )
            raise
        except Exception as error:
            self.end(
                Outcome.FAILED,
                f"{type(error).__name__} in {name}: {error}",
                "run again; if it happens again, report it with the record",
            )
            raise
        self._passed.add(name)

    def _need(self, steps: Sequence[str], name: str) -> None:
        """Refuses what stands on steps that have not run; the run goes on, so that their cells can be run now."""
        if missing := [each for each in steps if each not in self._passed]:
            raise Refused(
                f"{name} stands on steps that have not run: {', '.join(missing)}",
                server=self.parameters.host,
                step=name,
                todo="run their cells first, from the top down",
            )

    def end(self, outcome: Outcome, what: str = "", todo: str = "") -> None:
        """Says once how the run ended; one that first put an old pair back did not leave the live pair untouched."""
        if self._stood_in and outcome in {Outcome.REFUSED, Outcome.NOTHING_TO_DO}:
            outcome = Outcome.ROLLED_BACK
            what = f"the pair from before a change that was never confirmed is back; this run itself: {what}"
        if self.outcome is None:
            self.outcome = outcome
            self.applier.note("end", outcome=outcome, what=what, todo=todo)

    def summary(self) -> Table:
        """The fields for the ticket; ends the run when nothing ended it before.

        Raises:
            Refused: Steps that are to be applied have not run.
        """
        if self.outcome is None:
            if self.applies:
                self._need(self.order, "summary")
            if self.idle:
                self.end(Outcome.NOTHING_TO_DO, self.idle)
            elif self.parameters.apply:
                self.end(self.closing())
            else:
                self.end(Outcome.PLANNED, "apply is False: nothing was changed")
        return tables.summary_table(fields(self.record.folder))

    def before_and_after(self) -> Table:
        """The certificate that was live before beside the one that is live now."""
        pairs = {"before": self.before.live, "now": self.facts.live}
        leaves = {name: pair.chain[0] if pair.chain else None for name, pair in pairs.items()}
        return tables.certificates_table("before and after", leaves, dt.datetime.now(dt.UTC))

    def closing(self) -> Outcome:
        """The outcome of a run that went through all its steps."""
        return Outcome.DONE

    async def close(self) -> None:
        """Ends the connection and what it holds, and lets the journal go; what is called afterwards is refused."""
        if self._closed:
            return
        self._closed = True
        self.outcome = self.outcome or outcome_of(read(self.record.folder))
        self.record.journal.close()
        await self.session.close()


def connection_lost(error: ShellLost, step: str) -> Unreachable:
    """What a shell that stopped answering before the live pair was touched comes to."""
    return Unreachable("the connection to the server was lost; the live pair is untouched", server=error.server, step=step,
                       why=error.why, todo=error.todo)  # fmt: skip
