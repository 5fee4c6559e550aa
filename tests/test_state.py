"""Where a change stands and which change a run goes on with: every case as data."""

import itertools

import pytest

from runbook_lib.errors import Refused, UnusableParameters
from runbook_lib.models import ChangeFolder, Pair, State
from runbook_lib.state import Choice, choose_change, same_files, state_of
from tests.steps.facts import FOREIGN, LIVE, STAGED, SUMS, a_change

NOTHING_STAGED = {"staged": Pair(), "csr": ""}
KEY_ALONE = Pair(key_sha256=STAGED.key_sha256, key_spki_sha256=STAGED.key_spki_sha256)

STATES: dict[str, tuple[ChangeFolder, Pair, State]] = {
    "no folder": (ChangeFolder("x"), LIVE, State.NONE),
    "folder alone": (a_change(**NOTHING_STAGED, before=Pair(), backup_sums={}, files={"change.json": "600"}), LIVE, State.STARTED),
    "folder alone, live unreadable": (a_change(**NOTHING_STAGED, before=Pair(), backup_sums={}), Pair(), State.STARTED),
    "backed up": (a_change(**NOTHING_STAGED), LIVE, State.STARTED),
    "key made": (a_change(staged=KEY_ALONE, csr=""), LIVE, State.STARTED),
    "CSR made": (a_change(staged=KEY_ALONE), LIVE, State.WAITING),
    "certificate staged": (a_change(), LIVE, State.READY),
    "a restore, staged": (a_change(kind="restore", csr="", request={}), LIVE, State.READY),
    "live pair is another, before the backup": (a_change(**NOTHING_STAGED, before=Pair(), backup_sums={}), FOREIGN, State.STARTED),
    "live pair is another, after the backup": (a_change(**NOTHING_STAGED), FOREIGN, State.FOREIGN),
    "live pair is another, waiting": (a_change(staged=KEY_ALONE), FOREIGN, State.FOREIGN),
    "live pair is another, ready": (a_change(), FOREIGN, State.FOREIGN),
    "live pair is gone": (a_change(), Pair(), State.FOREIGN),
    "installed by hand": (a_change(), STAGED, State.FOREIGN),
    "armed, not swapped": (a_change(armed=True), LIVE, State.UNCONFIRMED),
    "armed, swapped": (a_change(armed=True), STAGED, State.UNCONFIRMED),
    "armed, live is another": (a_change(armed=True), FOREIGN, State.UNCONFIRMED),
    "confirmed": (a_change(armed=True, decided="confirmed"), STAGED, State.DONE),
    "confirmed, then put back by hand": (a_change(armed=True, decided="confirmed"), LIVE, State.ROLLED_BACK),
    "confirmed, then replaced": (a_change(armed=True, decided="confirmed"), FOREIGN, State.FOREIGN),
    "rolled back": (a_change(armed=True, decided="rolled-back"), LIVE, State.ROLLED_BACK),
    "decided to roll back, not done yet": (a_change(armed=True, decided="rolled-back"), STAGED, State.UNCONFIRMED),
    "rolled back, then replaced": (a_change(armed=True, decided="rolled-back"), FOREIGN, State.FOREIGN),
    "rolled back, live is gone": (a_change(armed=True, decided="rolled-back"), Pair(), State.FOREIGN),
    "superseded, then replaced": (a_change(decided="superseded"), FOREIGN, State.FOREIGN),
}  # fmt: skip


@pytest.mark.parametrize("case", STATES.values(), ids=STATES)
def test_the_state_follows_from_facts(case: tuple[ChangeFolder, Pair, State]) -> None:
    """What is true of the live files outranks what was decided."""
    change, live, state = case
    assert state_of(change, live) is state


def test_every_state_has_a_case() -> None:
    """No state is left without a case above."""
    assert {state for _, _, state in STATES.values()} == set(State)


def test_no_facts_lead_to_two_minds() -> None:
    """Over every combination: armed and undecided is unconfirmed, done needs the staged pair live, ready needs the old one live."""
    parts = itertools.product(
        [Pair(), KEY_ALONE, STAGED], ["", "a CSR"], [{}, SUMS], [False, True], ["", "confirmed", "rolled-back", "superseded"], [LIVE, STAGED, FOREIGN, Pair()],
    )  # fmt: skip
    for staged, csr, sums, armed, decided, live in parts:
        change = a_change(
            staged=staged, csr=csr, backup_sums=sums, before=LIVE if sums else Pair(), armed=armed, decided=decided
        )
        state = state_of(change, live)
        assert (state is State.UNCONFIRMED) == (
            (armed and not decided) or (decided == "rolled-back" and same_files(live, staged))
        )
        assert (state is State.DONE) == (decided == "confirmed" and same_files(live, staged))
        if state in {State.READY, State.WAITING}:
            assert not decided
            assert same_files(live, change.before)
            assert bool(staged.chain) == (state is State.READY)


PAIRS: dict[str, tuple[Pair, Pair, bool]] = {
    "the same": (LIVE, LIVE, True),
    "others": (LIVE, STAGED, False),
    "another key": (LIVE, Pair(LIVE.certificate_sha256, STAGED.key_sha256), False),
    "another certificate": (LIVE, Pair(STAGED.certificate_sha256, LIVE.key_sha256), False),
    "both absent": (Pair(), Pair(), False),
    "no key in both": (Pair(LIVE.certificate_sha256), Pair(LIVE.certificate_sha256), False),
    "no certificate in both": (KEY_ALONE, KEY_ALONE, False),
    "the bytes count, not what is read of them": (LIVE, Pair(LIVE.certificate_sha256, LIVE.key_sha256), True),
}


@pytest.mark.parametrize("case", PAIRS.values(), ids=PAIRS)
def test_pairs_are_the_same_by_their_bytes(case: tuple[Pair, Pair, bool]) -> None:
    """Both files and both there: two absent pairs are not the same pair."""
    one, other, same = case
    assert same_files(one, other) is same
    assert same_files(other, one) is same


A, B, C, D = (f"2026060{day}T120000Z-00000{day}" for day in (1, 2, 3, 4))
DONE, BACK, OPEN, CLOSED = (
    (A, "replace", "confirmed"),
    (B, "replace", "rolled-back"),
    (C, "replace", ""),
    (D, "replace", "superseded"),
)
CHOICES: dict[str, tuple[str, list[tuple[str, str, str]], Choice]] = {
    "none at all": ("", [], Choice()),
    "the open one": ("", [DONE, BACK, OPEN, CLOSED], Choice(C, last=A)),
    "none open": ("", [DONE, BACK, CLOSED], Choice(last=A)),
    "the last confirmed counts": ("", [DONE, (B, "restore", "confirmed")], Choice(last=B)),
    "an open restore is none to go on with": ("", [(C, "restore", "")], Choice()),
    "an open restore beside an open change": ("", [OPEN, (D, "restore", "")], Choice(C)),
    "new, none open": ("new", [DONE], Choice(last=A)),
    "new supersedes every open one": ("new", [DONE, OPEN, (D, "replace", "")], Choice(supersedes=(C, D), last=A)),
    "new leaves an open restore": ("new", [(C, "restore", "")], Choice()),
    "named and open": (C, [OPEN, (D, "replace", "")], Choice(C)),
    "named and confirmed": (A, [DONE, OPEN], Choice(A, last=A)),
    "named and rolled back": (B, [BACK], Choice(B)),
    "a restore, named": (C, [DONE, (C, "restore", "")], Choice(C, last=A)),
}  # fmt: skip


@pytest.mark.parametrize("case", CHOICES.values(), ids=CHOICES)
def test_which_change_a_run_goes_on_with(case: tuple[str, list[tuple[str, str, str]], Choice]) -> None:
    """Empty goes on with the one open change, `new` supersedes, an id is that change."""
    asked, listed, choice = case
    assert choose_change(asked, listed, host="apstra") == choice


def test_several_open_changes_are_named() -> None:
    """Without a name, several open changes are a fault of the parameters (exit code 2) that names them all."""
    with pytest.raises(UnusableParameters) as caught:
        choose_change("", [OPEN, (D, "replace", "")], host="apstra.example.com")
    (fault,) = caught.value.faults
    assert fault.field == "change_id"
    assert all(each in fault.wrong for each in (C, D))
    assert "`new`" in fault.write


REFUSED: dict[str, tuple[str, list[tuple[str, str, str]], str, str]] = {
    "absent, one open": (A, [OPEN], "is not on this server", f"name one of: {C}"),
    "absent, none open": (A, [], "is not on this server", "none is open"),
    "superseded": (D, [OPEN, CLOSED], "was superseded", f"name one of: {C}"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_named_change_that_cannot_go_on_is_refused(case: tuple[str, list[tuple[str, str, str]], str, str]) -> None:
    """The error names server and change, and what to name instead."""
    asked, listed, what, todo = case
    with pytest.raises(Refused) as caught:
        choose_change(asked, listed, host="apstra.example.com")
    assert caught.value.what == f"change {asked} {what}"
    assert caught.value.server == "apstra.example.com"
    assert todo in caught.value.todo
