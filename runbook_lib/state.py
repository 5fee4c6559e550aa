"""Where a change stands, from facts alone, and which change a run goes on with."""

from collections.abc import Sequence
from dataclasses import dataclass

from runbook_lib.errors import Refused, UnusableParameters
from runbook_lib.models import ChangeFolder, Fault, Pair, State


def same_files(one: Pair, other: Pair) -> bool:
    """Whether two pairs are byte for byte the same."""
    here, there = (one.certificate_sha256, one.key_sha256), (other.certificate_sha256, other.key_sha256)
    return here == there and all(here)


def state_of(change: ChangeFolder, live: Pair) -> State:  # noqa: PLR0911 - one line a state reads best
    """The state of a change.

    What is true of the live files outranks what the change's folder says was decided.
    """
    if not change.files:
        return State.NONE
    if change.armed and not change.decided:
        return State.UNCONFIRMED
    if change.decided == "confirmed" and same_files(live, change.staged):
        return State.DONE
    if change.decided == "rolled-back" and same_files(live, change.staged):
        return State.UNCONFIRMED
    if change.decided and same_files(live, change.before):
        return State.ROLLED_BACK
    if not change.backup_sums:
        return State.STARTED
    if change.decided or not same_files(live, change.before):
        return State.FOREIGN
    if change.staged.chain:
        return State.READY
    return State.WAITING if change.csr else State.STARTED


@dataclass(frozen=True, slots=True)
class Choice:
    """The change a run goes on with.

    Attributes:
        change_id: Of an existing change; empty when a new one is to be opened.
        supersedes: Open changes that the new one takes the place of.
        last: The last change that was confirmed, or empty.
    """

    change_id: str = ""
    supersedes: tuple[str, ...] = ()
    last: str = ""


def choose_change(asked: str, listed: Sequence[tuple[str, str, str]], *, host: str) -> Choice:
    """Which change a request or an install goes on with.

    Args:
        asked: The parameter `change_id`: empty, `new` or an id.
        listed: The changes on the server, oldest first: id, kind and what was decided.
        host: The server, for errors.

    Raises:
        UnusableParameters: Several changes are open and none was named.
        Refused: The named change is not on the server, or was superseded.
    """
    undecided = tuple(name for name, kind, decided in listed if not decided and kind == "replace")
    confirmed = [name for name, _, decided in listed if decided == "confirmed"]
    last = confirmed[-1] if confirmed else ""
    if asked == "new":
        return Choice(supersedes=undecided, last=last)
    if asked:
        decided = {name: word for name, _, word in listed}.get(asked)
        if decided is None or decided == "superseded":
            what = f"change {asked} {'was superseded' if decided else 'is not on this server'}"
            raise Refused(
                what,
                server=host,
                todo="leave change_id empty, or name one of: " + (", ".join(undecided) or "none is open"),
            )
        return Choice(asked, last=last)
    if len(undecided) > 1:
        wrong = f"is empty, and several changes are open: {', '.join(undecided)}"
        write = "the id of one of them, or `new` to supersede them"
        raise UnusableParameters([Fault("change_id", wrong, write)], server=host)
    return Choice(undecided[0] if undecided else "", last=last)
