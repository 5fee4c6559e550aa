"""The fields of a change's last run that go into a ticket, derived from its journal and stored nowhere else."""

from collections.abc import Sequence
from pathlib import Path

from runbook_lib.models import Outcome, State
from runbook_lib.record.journal import Event, arms, last_run, of_kind, outcome_of, puts_back, read, ticket_of
from runbook_lib.tables import fingerprint, milliseconds


def fields(folder: Path, run: Sequence[Event] | None = None) -> dict[str, str]:
    """What a person pastes into a ticket, by the name of the field.

    Args:
        folder: The record's folder.
        run: The events of the run that it is to speak of; without, the last one.
    """
    events = read(folder)
    run = last_run(events) if run is None else run
    outcome = outcome_of(run)
    begun, facts = (next(of_kind(run, name), {}) for name in ("run", "facts"))
    plan = next(of_kind(list(reversed(run)), "plan"), {})  # planned twice in one run, the later one is what is applied
    armed = any(map(arms, run)) or facts.get("state") == State.UNCONFIRMED
    untouched = not any(map(puts_back, run))
    end = next(of_kind(run, "end"), {})
    hostname = f" ({facts['hostname']})" if facts else ""
    return {
        "outcome": outcome,
        **({"why": end["what"].splitlines()[0]} if end.get("what") else {}),
        "server": f"{begun.get('host', '')}{hostname}",
        "change": folder.name,
        "ticket": ticket_of(events, run) or "none",
        "reason": begun.get("reason") or "none",
        "operator": begun.get("operator", ""),
        "when": _when(run),
        "apply": str(begun.get("apply", "")),
        **_certificates(run, outcome),
        "outage": _outage(run),
        "plan": f"sha256:{plan['sha256']}" if plan else "none",
        "way back": plan.get("way_back", "")
        if armed
        else f"none needed: this run {'did not touch the live pair' if untouched else 'only put an old pair back'}",
        "record": str(folder),
    }


def _when(run: Sequence[Event]) -> str:
    """From the first event to the last, UTC to the second; the day once where it is one."""
    if not run:
        return ""
    ends = [index for index, event in enumerate(run) if event["event"] == "end"]  # sealing and approving come later
    run = run[: ends[0] + 1] if ends else run
    (day, begun), (last_day, ended) = (each["at"][:19].partition("T")[::2] for each in (run[0], run[-1]))
    return f"{day} {begun} to {f'{last_day} ' * (last_day != day)}{ended} UTC"


def _certificates(run: Sequence[Event], outcome: Outcome) -> dict[str, str]:
    """The certificate that was live before, and the one that is live after it where that is known."""
    found = {f"certificate {event['role']}": _certificate(event) for event in of_kind(run, "certificate")}
    as_before = outcome is Outcome.ROLLED_BACK or not any(map(arms, run))
    return (
        found
        if "certificate after" in found or not found
        else found | {"certificate after": "unchanged" if as_before else "unknown"}
    )


def _certificate(event: Event) -> str:
    until = event["not_after"][:16].replace("T", " ")
    return f"{event['common_name']}, until {until} UTC\n{fingerprint(event['sha256'])}"


def _outage(run: Sequence[Event]) -> str:
    measured = [event["outage_ms"] for event in of_kind(run, "probe")]
    if measured:
        whole = None if None in measured else sum(measured)
        return f"{milliseconds(whole)} without an answer"
    touched = any(arms(event) or puts_back(event) for event in run)
    return "unknown: nginx was not asked all the while" if touched else "none"
