"""Steps 5 to 7 as every run that changes the live pair goes through them: compare, install, confirm."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from runbook_lib import tables
from runbook_lib.change.apply import finish
from runbook_lib.change.browsing import Browsing
from runbook_lib.change.noting import note_certificate, note_guard
from runbook_lib.change.planning import GUARD, REHEARSAL, stands_on
from runbook_lib.change.staging import made_for
from runbook_lib.errors import CommandFailed, Refused, RunbookError
from runbook_lib.models import Check, Command, CommandResult, Facts, Outcome, PlannedCommand
from runbook_lib.parameters import is_ip_address
from runbook_lib.probe import tls
from runbook_lib.server.facts import connect_address
from runbook_lib.server.shell import ShellLost
from runbook_lib.server.survey import look_again
from runbook_lib.state import same_files
from runbook_lib.steps import compare, confirm, install, rehearse, server
from runbook_lib.tables import Table

API_PATIENCE_S = 15


class Installing(Browsing):
    """Puts a staged pair in place with the guard armed, and confirms it or lets the old pair come back."""

    approvable = True
    order = ("check", "plan", "compare", "browse before", "install", "browse", "confirm")
    _installed: Table | None = None
    _meters: tuple[tls.OutageMeter, ...] = ()

    @abstractmethod
    def staging(self) -> tuple[Command, ...]:
        """The commands that stage the pair; empty when it is staged."""

    def commands(self) -> tuple[PlannedCommand, ...]:
        """Stage where needed, then guard, swap, test, activate, look; the confirm comes last."""
        expected = self.expected()
        steps = {
            "compare": (*self.staging(), *self._rehearsal()),
            "install": (*self._guard_files(expected), *install.plan(expected, self.parameters, self.change_id)),
            "confirm": confirm.plan(self.parameters, self.change_id),
        }
        return tuple(PlannedCommand(name, command) for name, commands in steps.items() for command in commands)

    def _rehearsal(self) -> tuple[Command, ...]:
        return rehearse.plan(self.facts, self.parameters, self.change_id, REHEARSAL)

    def _guard_files(self, facts: Facts) -> tuple[Command, ...]:
        listening = facts.listening if self.facts.serves(facts.live) else self._own_sockets(facts.listening)
        connect = connect_address(listening, self.parameters.host) or self._own_socket()
        return install.guard_files(facts, self.parameters, self.change_id, guard=GUARD, connect=connect)

    def _own_socket(self) -> str:
        """Where nginx will be asked when nothing can be seen of it: as shipped it takes every address, host's among them."""
        own = self.parameters.host if is_ip_address(self.parameters.host) else "127.0.0.1"
        return f"[{own}]:{self.parameters.https_port}" if ":" in own else f"{own}:{self.parameters.https_port}"

    def _own_sockets(self, listening: Sequence[str]) -> tuple[str, ...]:
        """Those who listen while nginx does not serve may be others: an address that cannot be nginx's is left out."""
        hosts = {"0.0.0.0", "[::]", self._own_socket().rpartition(":")[0]}  # noqa: S104 - read, not bound
        return tuple(each for each in listening if each.rpartition(":")[0] in hosts)

    async def compare(self) -> Table:
        """Step 5: the public key of key, CSR and certificate as two programs see it, and the certificate's fitness.

        Raises:
            ChecksFailed: The pair must not go live; it did not.
        """
        async with self.step("compare"):
            if self.idle:
                return self.planned_table("compare")
            facts = self.expected()
            if self.applies and (staging := self.staging()):
                if compare.digests(facts, self.change_id):
                    self.judge("compare", (*self._made_for(facts), *self._comparison(facts)))
                await self.apply("compare", staging)
                facts = self.facts
            if self.applies and self.prepared.kind == "restore":
                self.judge("compare", await self.keep_copy(f"{self.folder}/backup", self.own.backup_sums, "backup"))
            checks: tuple[Check, ...] = (*self._made_for(facts), *self._comparison(facts))
            self.judge("compare", checks)
            if self.applies:
                (rehearsed,) = await self.apply("compare", self._rehearsal())
                shown = rehearse.checks(self.own, rehearsed.stdout, rehearsed.stderr)
                self.judge("rehearse", shown)
                checks = (*checks, *shown)
            rows = compare.digests(facts, self.change_id)
            self.record.journal.write("compare", digests=[[each.file, each.server, each.here] for each in rows])
            return tables.compare_table(rows, checks)

    def _comparison(self, facts: Facts) -> tuple[Check, ...]:
        return compare.checks(facts, self.parameters, self.change_id, self.prepared.trust, self.clock())

    def _made_for(self, facts: Facts) -> tuple[Check, ...]:
        """What the public keys on the server cannot tell: whether a certificate that is not staged yet fits the key."""
        staged = facts.change(self.change_id).staged
        return () if same_files(staged, self.own.staged) else (made_for(staged.chain, staged.key_spki_sha256),)

    async def install(self) -> Table:
        """Step 6: arms the guard, swaps the pair, lets nginx test it, activates it and looks at what is served.

        Raises:
            Refused: It failed before the live pair was touched.
            RolledBack: It failed, and the old pair is serving again.
            Unsettled: It failed, and a person must look.
        """
        async with self.step("install"):
            if not self.applies:
                return self.planned_table("install")
            if self._installed:
                return replace(self._installed, title="install: was done in this run before, and is not done twice")
            try:
                await self.lock()
                await self._hold_still()
                results = await self._swap()
                await self.session.shell.unlock()
                await self.leave_head()
            except BaseException as error:
                raise await self._back_from(error) from error
            self._installed = tables.step_table("install", results, ())
            return self._installed

    async def _hold_still(self) -> None:
        """What was judged and planned is still true, now that the lock is ours."""
        planned = stands_on(self.expected(), self.change_id)
        await self._look_again()
        found = stands_on(self.facts, self.change_id)
        moved = sorted(name for name in planned if planned[name] != found[name])
        if moved:
            raise Refused("the server changed since it was checked", server=self.parameters.host, step="install",
                          why=", ".join(moved) + " changed", todo="run again and look at the new plan")  # fmt: skip
        self.judge("install", (*server.window(self.facts, self.parameters), *self._comparison(self.facts)))

    async def _look_again(self) -> None:
        """Reads what may have changed; everything where nginx did not serve as found, so that its socket was not known."""
        if self.facts.serves(self.before.live):
            self.facts = await look_again(
                self.session.shell, self.parameters, self.facts, self.change_id, container=not self._armed
            )
        else:
            await self.survey()

    async def _swap(self) -> tuple[CommandResult, ...]:
        """Runs the commands of the plan, as they were shown."""
        planned = [each.command for each in self.planned.commands if each.step == "install"]
        arming = next(index for index, each in enumerate(planned) if install.arms(each))
        prepared = await self.applier.run("install", planned[:arming])
        async with self._metered():
            self._armed, self._armed_at = True, time.monotonic()
            try:
                armed = await self.applier.run("install", planned[arming : arming + 1])
            except CommandFailed as error:
                # the guard says no before it arms; one that ran out of time may have armed
                self._armed = error.result.timed_out
                raise
            return (*prepared, *armed, *await self.applier.run("install", planned[arming + 1 :]))

    @asynccontextmanager
    async def _metered(self) -> AsyncIterator[None]:
        """Asks nginx all the while how it is, and notes for how long it did not answer, however this ends."""
        opener = self.views.proven(self.before.served, self.facts.listening)
        if opener is None:
            yield
            return
        meter = tls.OutageMeter(opener, server_name=self.parameters.addresses[0])
        try:
            async with meter:
                yield
        finally:
            self._meters += (meter,)
            strip = meter.segments(self._digest_before)
            self.applier.note("probe", outage_ms=meter.outage_ms, samples=len(meter.samples), strip=strip)

    @property
    def _digest_before(self) -> str:
        return self.before.live.chain[0].sha256 if self.before.live.chain else ""

    def before_and_after(self) -> Table:
        """Also what nginx answered while it was changed."""
        measured = [(each.outage_ms, each.segments(self._digest_before)) for each in self._meters]
        return tables.with_answers(super().before_and_after(), measured)

    async def confirm(self) -> Table:
        """Step 7: what is served is what was installed, from every vantage point; disarms the guard, or restores.

        Raises:
            RolledBack: It is not confirmed, and the old pair is serving again.
            Unsettled: It is not confirmed, and a person must look.
        """
        async with self.step("confirm"):
            if not self.applies:
                return self.planned_table("confirm")
            results: tuple[CommandResult, ...] = ()
            try:
                seen, api = await self._seen()
                checks = confirm.checks(self.before, seen, self.change_id, api)
                self.judge("confirm", checks)
                results = await self.applier.run("confirm", confirm.plan(self.parameters, self.change_id))
            except BaseException as error:
                raise await self._back_from(error) from error
            self.facts = seen.with_change(replace(seen.change(self.change_id), decided="confirmed"))
            note_certificate(self.record, "after", self.facts.live)
            staged = self.own.staged
            sums = {"nginx.crt": staged.certificate_sha256, "nginx.key": staged.key_sha256}
            await self._read_on("confirm", self.leave_head(), self.keep_copy(self.folder, sums, "pair"))
            return tables.step_table("confirm", results, checks)

    async def _seen(self) -> tuple[Facts, int | None]:
        await self._look_again()
        views, api = await asyncio.gather(self.views.look(self.facts.listening), self._patient_api())
        return replace(self.facts, served=(*self.facts.served, *views), apstra_version=self.before.apstra_version), api

    async def _patient_api(self) -> int | None:
        """The API's status; where it answered before, it is given some time to start."""
        until = time.monotonic() + (API_PATIENCE_S if self.before.apstra_version else 0)
        while True:
            status, _ = await self.views.api(self.facts.listening)
            if status in {None, confirm.HTTP_OK} or time.monotonic() >= until:
                return status
            await asyncio.sleep(0.5)

    async def _back_from(self, error: BaseException) -> BaseException:
        """The error to raise after a failure: when the guard was armed, the old pair is put back first."""
        if not self._armed:
            with suppress(ShellLost):
                await self.session.shell.unlock()
            return self.untouched(error, "install") if isinstance(error, CommandFailed) else error
        back = asyncio.ensure_future(self._put_back(error))
        with suppress(asyncio.CancelledError):  # stopped once more: the way back is gone to its end all the same
            await finish(back)
        return back.result()

    async def _put_back(self, error: BaseException) -> BaseException:
        """The error to raise when the guard has put the old pair back."""
        why = _why(error)
        self.applier.note("note", text=f"rolling back: {error}")
        async with self._metered():
            settled = await self.applier.roll_back(self.folder, why, self.way_back)
        await self._read_on("the rollback", self.session.shell.unlock(), self.survey(), self.leave_head())
        note_guard(self.record, self.own)
        if settled is None:
            note_certificate(self.record, "after", self.facts.live)
            self.end(Outcome.DONE, f"the new pair had been confirmed and stays: {why}")
        return settled or error

    def _need(self, steps: Sequence[str], name: str) -> None:
        """Also refuses to judge and to plan anew what is being changed."""
        super()._need(steps, name)
        if self._armed and name in self.order[: self.order.index("install")]:
            raise Refused(f"{name} speaks of the server before the change, and the change is under way", server=self.parameters.host,
                          step=name, todo="run the cells below install; to begin anew, run the notebook from its top")  # fmt: skip

    async def _read_on(self, after: str, *readings: Coroutine[None, None, object]) -> None:
        """Reads what is true now, as far as the shell still answers; the outcome does not hang on it."""
        try:
            for each in readings:
                await each
        except (RunbookError, asyncio.CancelledError) as error:
            why = error.what if isinstance(error, RunbookError) else "stopped"
            self.applier.note("note", text=f"the server could not be read after {after}: {why}")
        finally:
            for each in readings:
                each.close()


def _why(error: BaseException) -> str:
    """What a rollback is told to have been made for."""
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt):
        return "stopped by hand or by a signal"
    return error.what if isinstance(error, RunbookError) else f"{type(error).__name__}: {error}"
