"""Two records side by side: what a person would compare, whichever bytes say it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runbook_lib.models import Verdict
from runbook_lib.record.journal import Event, of_kind, read, runs_of, telling_run
from runbook_lib.record.summary import fields
from runbook_lib.tables import milliseconds

ABSENT = "none"
_TOLD = ("server", "outcome", "why", "ticket", "reason", "operator", "when", "apply")
_SERVER = {"system": "os", "openssl": "openssl", "Apstra": "apstra_version"}
_NOISE_MS = 100  # by so much does the same command differ from itself
_LINES, _LETTERS = 8, 160  # of a script that are shown
Command = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One field of two records: what it is in each, as text, and whether that is the same for a person."""

    field: str
    a: str
    b: str
    same: bool


@dataclass(frozen=True, slots=True)
class Told:
    """What a record says of its change, ready to be held against another.

    Attributes:
        texts: What is compared as it is written, by field.
        times: Durations in milliseconds by field; None is what could not be measured.
        checks: Verdict and what was found, by question; of a question that was asked again, the last answer.
        plans: By the plan's name its commands: the lines that are run and given, by step and purpose.
    """

    texts: Mapping[str, str]
    times: Mapping[str, float | None]
    checks: Mapping[str, tuple[str, str]]
    plans: Mapping[str, Mapping[Command, Sequence[str]]]


def tell(folder: Path) -> Told:
    """Reads a record.

    Raises:
        NOT_OURS: It holds no run, or events that this version does not write.
    """
    events = read(folder)
    run = telling_run(events)
    told = fields(folder, run)
    checks = {
        str(each["question"]): (str(each["verdict"]), str(each["found"]))
        for event in of_kind(events, "checks")
        for each in event["checks"]
    }
    plans = {event["name"]: event for event in of_kind(events, "plan")}
    facts = next(iter(reversed(list(of_kind(events, "facts")))), {})
    texts = {name: told[name] for name in _TOLD if name in told}
    texts |= {name: str(facts[key]) for name, key in _SERVER.items() if key in facts}
    texts |= {"began": _second(events[0]["at"]), "runs": ", ".join(each[0]["notebook"] for each in runs_of(events))}
    texts |= _certificates(run, told)
    texts |= {f"{name} plan": f"sha256:{event['sha256']}" for name, event in plans.items()}
    texts |= {"checks": _counted(verdict for verdict, _ in checks.values())}
    times = _durations(events) | _outage(run, told)
    change_id = str(run[0].get("change_id") or folder.name)
    texts = {name: str(text) for name, text in texts.items()}  # whatever an event of another's making says
    return Told(texts, times, checks, {name: _commands(event, change_id) for name, event in plans.items()})


def _certificates(run: Sequence[Event], told: Mapping[str, str]) -> dict[str, str]:
    """What is said of the certificate before and after; where none is recorded, a word for it in place of the name."""
    found = {event["role"]: event for event in of_kind(run, "certificate")}
    rows: dict[str, str] = {}
    for role in ("before", "after"):
        event = found.get(role)
        said = {
            "common name": event["common_name"], "SAN": "\n".join(sorted(event["san"])), "issuer": event["issuer"],
            "valid from": _second(event["not_before"]), "valid until": _second(event["not_after"]), "key": event["key"],
            "fingerprint": event["sha256"], "public key": event["spki_sha256"],
        } if event else {"common name": told.get(f"certificate {role}", ABSENT)}  # fmt: skip
        rows |= {f"{role}: {name}": text or ABSENT for name, text in said.items()}
    return rows


def _second(at: str) -> str:
    return f"{at[:19].replace('T', ' ')} UTC"


def _counted(verdicts: Iterable[str]) -> str:
    counts = Counter(verdicts)
    return ", ".join(f"{counts[each]} {each}" for each in Verdict if counts[each]) or ABSENT


def _commands(plan: Event, change_id: str) -> dict[Command, list[str]]:
    """As in the plan's hash, the change's own id makes no difference."""
    found: dict[Command, list[str]] = {}
    for each in plan["commands"]:
        step, purpose, script, given = (
            str(each.get(name, "")).replace(change_id, "CHANGE-ID") for name in ("step", "purpose", "script", "stdin")
        )
        found.setdefault((step, purpose), []).extend(f"{script}\n{given}".splitlines())
    return found


def _durations(events: Sequence[Event]) -> dict[str, float | None]:
    """How long the commands of each step took."""
    took: dict[str, float | None] = {}
    for event in of_kind(events, "result"):
        name = f"duration: {event['step']}"
        took[name] = (took.get(name) or 0) + float(event["duration_s"]) * 1000
    return took


def _outage(run: Sequence[Event], told: Mapping[str, str]) -> dict[str, float | None]:
    """Nothing where there was none."""
    measured = [event["outage_ms"] for event in of_kind(run, "probe")]
    if measured:
        return {"outage": None if None in measured else float(sum(measured))}
    return {} if told["outage"] == ABSENT else {"outage": None}


def differences(a: Told, b: Told) -> tuple[Row, ...]:
    """Every field of both, and of commands and checks those alone that differ.

    A check differs when its verdict does; one that was asked in one record alone, when it did not pass there. A duration differs when one
    is more than twice the other, and by more than what the same command differs from itself.
    """
    return (*_texts(a.texts, b.texts), *_timed(a.times, b.times), *_verdicts(a.checks, b.checks), *_planned(a, b))


def _texts(a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[Row]:
    for name in {**a, **b}:
        ours, theirs = a.get(name, ABSENT), b.get(name, ABSENT)
        yield Row(name, ours, theirs, ours == theirs)


def _timed(a: Mapping[str, float | None], b: Mapping[str, float | None]) -> Iterator[Row]:
    for name in {**a, **b}:
        shown = [milliseconds(each[name]) if name in each else ABSENT for each in (a, b)]
        yield Row(name, shown[0], shown[1], name in a and name in b and _alike(a[name], b[name]))


def _alike(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return max(a, b) <= 2 * min(a, b) or abs(a - b) <= _NOISE_MS


def _verdicts(a: Mapping[str, tuple[str, str]], b: Mapping[str, tuple[str, str]]) -> Iterator[Row]:
    for question in {**a, **b}:
        ours, theirs = a.get(question, (ABSENT, "")), b.get(question, (ABSENT, ""))
        if ours[0] != theirs[0] and {ours[0], theirs[0]} != {ABSENT, Verdict.PASS}:
            yield Row(f"check: {question}", _judged(*ours), _judged(*theirs), same=False)


def _judged(verdict: str, found: str) -> str:
    return f"{verdict}: {found}" if found else verdict


def _planned(a: Told, b: Told) -> Iterator[Row]:
    """The commands of the plans that both have."""
    for name in a.plans:
        ours, theirs = a.plans[name], b.plans.get(name, a.plans[name])
        for command in {**ours, **theirs}:
            left, right = ours.get(command), theirs.get(command)
            if left != right:
                yield Row(f"{name} command: {': '.join(command)}", _lines(left, right), _lines(right, left), same=False)


def _lines(script: Sequence[str] | None, other: Sequence[str] | None) -> str:
    """Of a script the lines that the other has not."""
    if script is None:
        return ABSENT
    own = [line[:_LETTERS] for line in script if line not in set(other or ())]
    more = [f"… {len(own) - _LINES} more"] if len(own) > _LINES else []
    return "\n".join([*own[:_LINES], *more]) or "nothing else"
