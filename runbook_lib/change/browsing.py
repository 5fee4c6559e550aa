"""A browser as witness of a change: what it says of the service addresses before the swap, and before the confirm."""

import time
from abc import abstractmethod
from collections.abc import Sequence

from runbook_lib import tables
from runbook_lib.change.noting import note_visits
from runbook_lib.change.staging import Staging
from runbook_lib.models import Certificate, Said, Visited
from runbook_lib.probe import browser
from runbook_lib.steps import browse
from runbook_lib.tables import Table

STEPS = ("browse before", "browse")


class Browsing(Staging):
    """Lets a browser look, where `browser` asks for it."""

    _armed_at = 0.0

    @abstractmethod
    async def _back_from(self, error: BaseException) -> BaseException:
        """The error to raise after a failure, when the old pair has been put back."""

    def _need(self, steps: Sequence[str], name: str) -> None:
        """Only a run that asks for a browser stands on what it says."""
        super()._need([each for each in steps if self.parameters.browser or each not in STEPS], name)

    async def browse_before(self) -> Table:
        """What a browser says of the service addresses before anything changes; it stops nothing."""
        async with self.step("browse before"):
            if not self.parameters.browser:
                return _not_asked("browse before")
            if self.idle:
                return self.planned_table("browse before")
            seen = await browser.visit(
                self.parameters.addresses,
                self.parameters.https_port,
                self.prepared.trust,
                time_limit_s=browse.LONGEST_S,
            )
            note_visits(self.record, "before", seen)
            checks = browse.before(seen, self.before.live)
            self.judge("browse before", checks)
            return tables.browser_table("as a browser sees it before the change", seen, checks)

    async def browse(self) -> Table:
        """Whether a browser accepts the installed certificate at every service address, before the confirm.

        Raises:
            RolledBack: It does not, and the old pair is serving again.
            Unsettled: It does not, and a person must look.
        """
        async with self.step("browse"):
            if not self.parameters.browser:
                return _not_asked("browse")
            if not self.applies:
                return self.planned_table("browse")
            try:
                anchors = browse.trust(self.own.staged, self.prepared.trust)
                seen = await self._look(anchors)
                note_visits(self.record, "after", seen)
                checks = browse.checks(seen, self.own, anchors)
                self.judge("browse", checks)
            except BaseException as error:
                raise await self._back_from(error) from error
            return tables.browser_table("as a browser sees it now", seen, checks)

    async def _look(self, anchors: tuple[Certificate, ...]) -> tuple[Visited, ...]:
        """The visit while the guard waits for the confirm, which must not come too late for it."""
        addresses, port = self.parameters.addresses, self.parameters.https_port
        limit_s = browse.time_limit_s(self.parameters, time.monotonic() - self._armed_at)
        if limit_s:
            return await browser.visit(addresses, port, anchors, time_limit_s=limit_s)
        why, todo = (
            "too little is left of rollback_after_s",
            f"a longer rollback_after_s next time, or {browser.BY_HAND}",
        )
        return tuple(Visited(each, "", Said.NOTHING, why, todo=todo) for each in addresses)


def _not_asked(step: str) -> Table:
    return tables.table(step, ("step", "said"), [(step, "not asked for: browser is False")])
