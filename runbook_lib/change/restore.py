"""The run that puts a recorded pair back."""

import asyncio
import time
from dataclasses import replace

from runbook_lib.change.installing import Installing
from runbook_lib.errors import Locked
from runbook_lib.models import Check, Command, Facts, Pair, judged
from runbook_lib.state import same_files
from runbook_lib.steps import backup, folder, install, stage

LOCK_PATIENCE_S = 300


class Restore(Installing):
    """Puts a recorded pair back, as a change of its own with its own backup and guard."""

    async def lock(self) -> None:
        """Takes the lock of conf_dir, and waits its turn for it.

        Raises:
            Locked: Another run holds it for all that time.
        """
        until = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                return await super().lock()
            except Locked:
                if time.monotonic() >= until:
                    raise
                await asyncio.sleep(1)

    @property
    def source(self) -> str:
        """The id of the change whose pair comes back."""
        return self.choice.change_id

    @property
    def recorded(self) -> Pair:
        """The pair that comes back."""
        if self.prepared.fetched:
            return self.prepared.fetched.pair
        change = self.facts.change(self.source)
        return change.before if self.parameters.pair == "before" else change.staged

    @property
    def _what(self) -> str:
        if self.parameters.backup_file:
            return f"pair in {self.parameters.backup_file}"
        return f"{self.parameters.pair} pair of {f'change {self.source}' if self.source else 'no change'}"

    def own_checks(self) -> tuple[Check, ...]:
        """Whether the recorded pair is there and whole."""
        if same_files(self.recorded, self.facts.live):
            self.idle = f"the live pair is already the {self._what}"
            return ()
        good = self.recorded.matches
        found = self._what
        return (
            judged(
                "Is the recorded pair there, and do its key and certificate match?",
                "a pair with one public key",
                found if good else f"{found}: missing or not matching",
                good=good,
                source="design: restore",
                todo=f"name a change_id that has that pair: {', '.join(self._with_a_pair()) or 'none is on this server'}",
            ),
            *install.checks(self.parameters),
        )

    def expected(self) -> Facts:
        """The facts with the recorded pair staged and the live pair backed up."""
        if self.own.staged.chain or self.idle:
            return self.facts
        own = replace(self.own, kind="restore", staged=self.recorded, before=self.facts.live)
        return self.facts.with_change(own)

    def _with_a_pair(self) -> list[str]:
        """Changes that went so far as to have one."""
        return [name for name, _, decided in self.facts.listed if decided in {"confirmed", "rolled-back"}]

    def staging(self) -> tuple[Command, ...]:
        """Opens the restore, backs up what is live, and stages the recorded pair."""
        if self.own.staged.chain:
            return ()
        fetched = self.prepared.fetched
        place = folder.folder_of(self.parameters, self.source) + ("/backup" if self.parameters.pair == "before" else "")
        opening = (
            ()
            if self.own.files
            else folder.plan(self.facts, self.parameters, self.change_id, kind="restore", supersedes=())
        )
        return (
            *opening,
            *backup.plan(self.facts, self.parameters, self.change_id),
            *(
                stage.plan_sent(self.parameters, self.change_id, fetched.certificate, fetched.key)
                if fetched
                else stage.plan_recorded(self.parameters, self.change_id, place)
            ),
        )
