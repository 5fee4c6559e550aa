"""The exception tree of the runbooks.

    RunbookError                    outcome    exit code
    ├── UnusableParameters          unusable   2   nothing was changed
    ├── Refused                     refused    3   the live pair is untouched
    │   ├── Unreachable                            no connection, or a login was turned down
    │   ├── HostKeyUnknown                         the host key was never pinned
    │   ├── HostKeyChanged                         the host key is not the pinned one
    │   ├── ChecksFailed                           carries every failed check
    │   ├── Locked                                 another run is applying on the same conf_dir
    │   └── SigningRefused                         the signer or the CA said no
    ├── Waiting                     waiting    4   the CA has not answered yet
    ├── RolledBack                  rolled-back 5  the old pair is serving again
    ├── Unsettled                   unknown    6   a person must look
    └── CommandFailed               failed     1   a command on the server failed unexpectedly

An error says what happened, on which server and in which step, why, and what to do next.
"""

from collections.abc import Sequence
from typing import ClassVar

from runbook_lib.models import Check, CommandResult, Fault, Outcome
from runbook_lib.text import plain


class RunbookError(Exception):
    """Base of every error that the runbooks raise on purpose.

    Args:
        what: What happened, one sentence.
        server: The server it happened on, `host` of the parameters.
        step: The step it happened in.
        why: The cause as far as it is known.
        todo: What to do now.
    """

    outcome: ClassVar[Outcome] = Outcome.FAILED

    def __init__(self, what: str, *, server: str = "", step: str = "", why: str = "", todo: str = "") -> None:
        super().__init__(what)
        self.what, self.server, self.step, self.why, self.todo = what, server, step, why, todo

    def diagnostics(self) -> str:
        """Everything known, as lines for a terminal or a notebook, which obey nothing in it."""
        rows = (("", self.what), ("server: ", self.server), ("step: ", self.step), ("why: ", self.why))
        lines = [label + text for label, text in rows if text]
        return plain("\n".join([*lines, *self.details(), *([f"what to do: {self.todo}"] if self.todo else [])]))

    def details(self) -> Sequence[str]:
        """Further lines of the diagnostics, one an item."""
        return ()

    def __str__(self) -> str:
        return self.diagnostics()

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a stack trace; IPython looks for this name."""
        return [
            f"{type(self).__name__}: {line}" if not index else line
            for index, line in enumerate(self.diagnostics().splitlines())
        ]


class UnusableParameters(RunbookError):
    """The parameters cannot be used; every fault is named and nothing was changed.

    Args:
        faults: Every fault.
        server: The server that was looked at to find them; empty where nothing was contacted.
    """

    outcome = Outcome.UNUSABLE

    def __init__(self, faults: Sequence[Fault], *, server: str = "") -> None:
        super().__init__(
            f"{len(faults)} unusable parameter{'s' if len(faults) != 1 else ''}; nothing was {'changed' if server else 'contacted'}",
            server=server,
            todo="correct the parameters and run again",
        )
        self.faults = tuple(faults)

    def details(self) -> Sequence[str]:
        """A line a fault."""
        return [f"- {fault.field}: {fault.wrong}; write {fault.write}" for fault in self.faults]


class Refused(RunbookError):
    """The run stopped before the live pair was touched."""

    outcome = Outcome.REFUSED


class Unreachable(Refused):
    """No connection to the server or a bastion, or the login or sudo was turned down."""


class HostKeyUnknown(Refused):
    """The server showed a host key that was never pinned."""


class HostKeyChanged(Refused):
    """The server showed another host key than the pinned one."""


class ChecksFailed(Refused):
    """One or more checks failed; all of them are carried, not the first alone."""

    def __init__(self, checks: Sequence[Check], *, server: str = "", step: str = "") -> None:
        super().__init__(
            f"{len(checks)} check{'s' if len(checks) != 1 else ''} failed",
            server=server,
            step=step,
            todo="; ".join(dict.fromkeys(check.todo for check in checks if check.todo)),
        )
        self.checks = tuple(checks)

    def details(self) -> Sequence[str]:
        """A line a failed check."""
        return [f"- {check.question} expected {check.expected}, found {check.found}" for check in self.checks]


class Locked(Refused):
    """Another run holds the lock of the same conf_dir."""


class SigningRefused(Refused):
    """The signer could not or would not turn the CSR into a certificate."""


class Waiting(RunbookError):
    """The CA has not answered yet; the change stays open and the run goes on from here later."""

    outcome = Outcome.WAITING


class RolledBack(RunbookError):
    """The change failed after the swap and the old pair is serving again."""

    outcome = Outcome.ROLLED_BACK


class Unsettled(RunbookError):
    """It is not known which pair is served; a person must look."""

    outcome = Outcome.UNKNOWN


class CommandFailed(RunbookError):
    """A command on the server ended with another status than 0, or ran out of time."""

    def __init__(self, result: CommandResult, *, server: str = "", step: str = "", todo: str = "") -> None:
        super().__init__(f"{result.command.purpose}: failed on the server", server=server, step=step, todo=todo)
        self.result = result

    def details(self) -> Sequence[str]:
        """The command, how it ended, and what it said."""
        result = self.result
        status = "no answer within its time limit" if result.timed_out else f"exit status {result.status}"
        return [
            f"command: {result.command.script}",
            status,
            *([f"stderr: {result.stderr.strip()}"] if result.stderr.strip() else []),
        ]
