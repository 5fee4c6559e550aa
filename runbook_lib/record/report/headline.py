"""How a run ended, in words that say what it means for the server: for who reads a record without having been there."""

from collections.abc import Sequence
from dataclasses import dataclass

from runbook_lib.models import Outcome
from runbook_lib.record.journal import Event, arms, outcome_of, puts_back

_DONE = {
    "request": (
        "Done: the new certificate is signed and staged",
        "It was made for the new key and lies beside it on the server, ready to be installed. The live pair was not touched.",
    ),
    "install": (
        "Done: the new pair is live and confirmed",
        "nginx serves the new certificate. What it serves was looked at before the new pair was confirmed.",
    ),
    "restore": (
        "Done: the recorded pair is live again and confirmed",
        "nginx serves the pair that was brought back. What it serves was looked at before it was confirmed.",
    ),
    "audit": ("Done: the server was audited", "What it serves was read and judged. Nothing was changed."),
}
_OUTCOMES = {
    Outcome.DONE: ("Done", "The run went through all its steps."),
    Outcome.NOTHING_TO_DO: ("Nothing to do", "What was asked for is there already. Nothing was changed."),
    Outcome.PLANNED: (
        "Planned, not applied",
        "The run showed the commands that it would have run, and ran none of them. Nothing was changed.",
    ),
    Outcome.FAILED: ("Failed", "The run ended in a way that was not foreseen."),
    Outcome.UNUSABLE: ("Not begun: the parameters could not be used", "Nothing was changed."),
    Outcome.REFUSED: (
        "Refused: the live pair was not touched",
        "The run stopped, or was stopped, before anything that could have changed what nginx serves.",
    ),
    Outcome.WAITING: (
        "Waiting for the CA",
        "Key and CSR are made, the certificate is not there yet; the change goes on when it is. The live pair was not touched.",
    ),
    Outcome.ROLLED_BACK: (
        "Rolled back: the old pair is serving",
        "The change was not confirmed. The pair from before it was put back, and nginx serves that pair again.",
    ),
    Outcome.UNKNOWN: (
        "Unknown: a person must look at the server",
        "What nginx serves now cannot be told from this record.",
    ),
}
_TONES = {
    Outcome.DONE: "good", Outcome.NOTHING_TO_DO: "good", Outcome.PLANNED: "calm", Outcome.WAITING: "calm", Outcome.UNUSABLE: "warn",
    Outcome.REFUSED: "warn", Outcome.ROLLED_BACK: "warn", Outcome.FAILED: "bad", Outcome.UNKNOWN: "bad",
}  # fmt: skip
_CUT_OFF = " The journal holds no end of this run: it was ended from outside, or it still goes on."
_ON_GUARD = (
    " The guard had been armed: without a confirm it puts the old pair back by itself, if it has not done so yet."
)
_UNTOUCHED = " This run had not touched the live pair."


@dataclass(frozen=True, slots=True)
class Headline:
    """How a run ended: the word, what colour goes with it (`good`, `calm`, `warn` or `bad`), and what it means."""

    outcome: Outcome
    tone: str
    title: str
    meaning: str


def headline(run: Sequence[Event]) -> Headline:
    """How a run ended.

    Args:
        run: The events of one run, every one as this version writes it; none where there is no run.
    """
    outcome = outcome_of(run)
    title, meaning = _OUTCOMES[outcome]
    if outcome is Outcome.DONE:
        title, meaning = _DONE.get(str(run[0].get("notebook")), (title, meaning))
    if not any(event["event"] == "end" for event in run):
        meaning += _CUT_OFF if run else " The journal holds no run."
    if outcome in {Outcome.FAILED, Outcome.UNKNOWN}:
        meaning += _ON_GUARD if any(map(arms, run)) else "" if any(map(puts_back, run)) else _UNTOUCHED
    return Headline(outcome, _TONES[outcome], title, meaning)
