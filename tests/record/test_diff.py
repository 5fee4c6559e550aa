"""Two records compared as a person would: what differs is found, and what is only another id, path or moment is not."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.record.diff import Row, differences, tell
from runbook_lib.record.journal import NAME, NOT_OURS
from tests.record.records import BROKEN, line, opened

A, B = "20260601T120000Z-1a2b3c", "20260701T120000Z-4d5e6f"
Events = list[tuple[str, dict[str, Any]]]
CERTIFICATE = {
    "common_name": "apstra.example.com", "san": ["DNS:apstra.example.com", "IP:192.0.2.10"], "issuer": "CN=Example CA", "key": "rsa-2048",
    "not_before": "2026-06-01T12:00:00+00:00", "not_after": "2027-06-01T12:00:00+00:00", "sha256": "b" * 64, "spki_sha256": "c" * 64,
}  # fmt: skip


def check(question: str, verdict: str, found: str = "") -> dict[str, str]:
    """A check as the journal holds it."""
    return {"question": question, "expected": "e", "found": found, "verdict": verdict, "source": "s", "todo": ""}


def command(change_id: str, step: str, purpose: str, script: str, **more: str) -> dict[str, str]:
    """A command of a plan, with the change's own folder in it."""
    return {
        "step": step,
        "purpose": purpose,
        "script": f"cd /var/lib/changes/{change_id}\n{script}",
        "undo": "",
        **more,
    }


def events(change_id: str) -> Events:
    """A replacement that was done."""
    begun = {
        "host": "apstra",
        "change_id": change_id,
        "apply": True,
        "operator": "ada",
        "ticket": "CHG-1",
        "reason": "expiry",
    }
    return [
        ("run", {"notebook": "request", **begun}),
        ("facts", {"hostname": "aos", "os": "Ubuntu 22.04", "openssl": "OpenSSL 3.0.2", "apstra_version": "4.2.0"}),
        ("checks", {"step": "check", "checks": [check("Is it so?", "pass"), check("Is there room?", "warn", "little")]}),
        ("plan", {"name": "request", "sha256": "1" * 64, "way_back": "", "commands": [command(change_id, "make key", "make the key", "openssl genpkey")]}),
        ("intent", {"step": "make key", "purpose": "make the key"}),
        ("result", {"step": "make key", "purpose": "make the key", "status": 0, "duration_s": 0.5}),
        ("end", {"outcome": "done", "what": ""}),
        ("run", {"notebook": "install", **begun}),
        ("certificate", {"role": "before", **CERTIFICATE, "sha256": "a" * 64}),
        ("facts", {"hostname": "aos", "os": "Ubuntu 22.04", "openssl": "OpenSSL 3.0.2", "apstra_version": "4.2.0"}),
        ("checks", {"step": "check", "checks": [check("Is it so?", "pass"), check("Is there room?", "pass", "enough")]}),
        ("plan", {"name": "install", "sha256": "2" * 64, "way_back": "sh restore.sh", "commands": [
            command(change_id, "install", "arm the guard", "sh guard.sh arm", stdin="one\ntwo\n"), command(change_id, "install", "restart nginx", "docker restart"),
        ]}),
        ("intent", {"step": "install", "purpose": "arm the guard"}),
        ("result", {"step": "install", "purpose": "arm the guard", "status": 0, "duration_s": 0.3}),
        ("intent", {"step": "install", "purpose": "restart nginx"}),
        ("result", {"step": "install", "purpose": "restart nginx", "status": 0, "duration_s": 0.7}),
        ("probe", {"outage_ms": 150.0, "samples": 9}),
        ("certificate", {"role": "after", **CERTIFICATE}),
        ("end", {"outcome": "done", "what": ""}),
    ]  # fmt: skip


def written(folder: Path, told: Events) -> Path:
    """A record with these events."""
    made = opened(folder, A if not (folder / A).exists() else B)
    for kind, fields in told:
        made.journal.write(kind, **fields)
    made.journal.close()
    return made.folder


def compared(folder: Path, change: Callable[[Events], object]) -> tuple[Row, ...]:
    """The rows of two records, the second with a change in it."""
    second = events(B)
    change(second)
    return differences(tell(written(folder, events(A))), tell(written(folder, second)))


def of(told: Events, kind: str, number: int = -1) -> dict[str, Any]:
    """The fields of the events of a kind, the last one's."""
    return [fields for each, fields in told if each == kind][number]


def put(kind: str, number: int = -1, **fields: object) -> Callable[[Events], object]:
    """Gives an event other fields."""
    return lambda told: of(told, kind, number).update(fields)


def killed(told: Events) -> None:
    """The run was killed before it could say how it ended."""
    del told[-6:]


def odd(rows: tuple[Row, ...]) -> Mapping[str, tuple[str, str]]:
    """What differs, but for when it was."""
    return {each.field: (each.a, each.b) for each in rows if not each.same and each.field not in {"when", "began"}}


def test_two_of_a_kind_do_not_differ(tmp_path: Path) -> None:
    """Another id and another time are no difference in certificates, commands, checks and durations; every field is there."""
    rows = compared(tmp_path, lambda _: None)
    assert odd(rows) == {}
    fields = {each.field: each.a for each in rows}
    assert fields.items() >= {
        "server": "apstra (aos)", "outcome": "done", "ticket": "CHG-1", "reason": "expiry", "operator": "ada", "runs": "request, install",
        "system": "Ubuntu 22.04", "before: fingerprint": "a" * 64, "after: fingerprint": "b" * 64, "after: SAN": "DNS:apstra.example.com\nIP:192.0.2.10",
        "after: valid until": "2027-06-01 12:00:00 UTC", "request plan": f"sha256:{'1' * 64}", "install plan": f"sha256:{'2' * 64}",
        "checks": "2 pass", "duration: make key": "500 ms", "duration: install": "1000 ms", "outage": "150 ms",
    }.items()  # fmt: skip


CHANGED: dict[str, tuple[Callable[[Events], object], dict[str, tuple[str, str]]]] = {
    "server": (put("run", host="other"), {"server": ("apstra (aos)", "other (aos)")}),
    "operator": (put("run", operator="eve"), {"operator": ("ada", "eve")}),
    "ticket": (put("run", ticket="CHG-2"), {"ticket": ("CHG-1", "CHG-2")}),
    "outcome": (put("end", outcome="failed", what="no\nmore"), {"outcome": ("done", "failed"), "why": ("none", "no")}),
    "openssl": (put("facts", openssl="OpenSSL 1.1.1"), {"openssl": ("OpenSSL 3.0.2", "OpenSSL 1.1.1")}),
    "name": (put("certificate", common_name="b"), {"after: common name": ("apstra.example.com", "b")}),
    "names in another order": (put("certificate", san=["IP:192.0.2.10", "DNS:apstra.example.com"]), {}),
    "fewer names": (put("certificate", san=["IP:192.0.2.10"]), {"after: SAN": ("DNS:apstra.example.com\nIP:192.0.2.10", "IP:192.0.2.10")}),
    "no name": (put("certificate", san=[]), {"after: SAN": ("DNS:apstra.example.com\nIP:192.0.2.10", "none")}),
    "issuer": (put("certificate", issuer="CN=b"), {"after: issuer": ("CN=Example CA", "CN=b")}),
    "expiry": (put("certificate", not_after="2028-06-01T12:00:00+00:00"), {"after: valid until": ("2027-06-01 12:00:00 UTC", "2028-06-01 12:00:00 UTC")}),
    "kind of key": (put("certificate", key="ec-p256"), {"after: key": ("rsa-2048", "ec-p256")}),
    "key": (put("certificate", spki_sha256="d" * 64), {"after: public key": ("c" * 64, "d" * 64)}),
    "the certificate before": (put("certificate", 0, sha256="e" * 64), {"before: fingerprint": ("a" * 64, "e" * 64)}),
    "plan": (put("plan", sha256="3" * 64), {"install plan": (f"sha256:{'2' * 64}", f"sha256:{'3' * 64}")}),
    "a command": (
        lambda told: of(told, "plan")["commands"][1].update(script="docker kill\ndocker start"),
        {"install command: install: restart nginx": ("cd /var/lib/changes/CHANGE-ID\ndocker restart", "docker kill\ndocker start")},
    ),
    "what a command is given": (
        lambda told: of(told, "plan")["commands"][0].update(stdin="one\nthree\n"),
        {"install command: install: arm the guard": ("two", "three")},
    ),
    "a command less": (
        lambda told: of(told, "plan")["commands"].pop(),
        {"install command: install: restart nginx": ("cd /var/lib/changes/CHANGE-ID\ndocker restart", "none")},
    ),
    "the same command twice": (
        lambda told: of(told, "plan")["commands"].append(of(told, "plan")["commands"][1]),
        {"install command: install: restart nginx": ("nothing else", "nothing else")},
    ),
    "a verdict": (
        lambda told: of(told, "checks")["checks"][0].update(verdict="fail", found="no"),
        {"check: Is it so?": ("pass", "fail: no"), "checks": ("2 pass", "1 pass, 1 fail")},
    ),
    "other words for a pass": (lambda told: of(told, "checks")["checks"][0].update(found="yes, indeed"), {}),
    "an earlier verdict": (put("checks", 0, checks=[check("Is it so?", "fail")]), {}),
    "one question more": (lambda told: of(told, "checks")["checks"].append(check("More?", "pass")), {"checks": ("2 pass", "3 pass")}),
    "one bad answer more": (
        lambda told: of(told, "checks")["checks"].append(check("More?", "unknown", "nobody")),
        {"check: More?": ("none", "unknown: nobody"), "checks": ("2 pass", "2 pass, 1 unknown")},
    ),
    "a little longer": (put("result", duration_s=1.2), {}),
    "much longer": (put("result", duration_s=5.7), {"duration: install": ("1000 ms", "6000 ms")}),
    "a longer outage": (put("probe", outage_ms=900.0), {"outage": ("150 ms", "900 ms")}),
    "an outage that is not known": (put("probe", outage_ms=None), {"outage": ("150 ms", "unknown")}),
    "killed": (
        killed,
        {
            "outcome": ("done", "unknown"), "after: common name": ("apstra.example.com", "unknown"), "outage": ("150 ms", "unknown"),
            "duration: install": ("1000 ms", "none"),
            **{f"after: {name}": (value, "none") for name, value in {
                "SAN": "DNS:apstra.example.com\nIP:192.0.2.10", "issuer": "CN=Example CA", "valid from": "2026-06-01 12:00:00 UTC",
                "valid until": "2027-06-01 12:00:00 UTC", "key": "rsa-2048", "fingerprint": "b" * 64, "public key": "c" * 64}.items()},
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "seen"), CHANGED.values(), ids=CHANGED)
def test_a_difference_is_told_by_its_field(
    tmp_path: Path, change: Callable[[Events], object], seen: dict[str, tuple[str, str]]
) -> None:
    """That field alone, with what it is in each; what makes no difference to a person is none."""
    assert odd(compared(tmp_path, change)) == seen


def test_a_plan_that_one_of_them_has_not(tmp_path: Path) -> None:
    """A change that waits for its CA has no plan to install: that is one difference, not one a command."""
    first, second = written(tmp_path, events(A)), written(tmp_path, events(B)[:7])
    seen = odd(differences(tell(first), tell(second)))
    assert seen["install plan"] == (f"sha256:{'2' * 64}", "none")
    assert not [field for field in seen if "command" in field]
    assert seen == {field: (b, a) for field, (a, b) in odd(differences(tell(second), tell(first))).items()}


def test_a_long_script_is_cut(tmp_path: Path) -> None:
    """Eight lines of it, and how many there are more."""

    def longer(told: Events) -> None:
        of(told, "plan")["commands"][0]["stdin"] += "".join(f"line {number} {'x' * 500}\n" for number in range(99))

    ((ours, theirs),) = odd(compared(tmp_path, longer)).values()
    assert ours == "nothing else"
    assert len(theirs.splitlines()) == 9
    assert theirs.endswith("… 91 more")
    assert max(map(len, theirs.splitlines())) == 160


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_record_of_ours_is_not_compared(tmp_path: Path, data: bytes | None) -> None:
    """Nothing is made up of it."""
    if data is not None:
        (tmp_path / NAME).write_bytes(data)
    with pytest.raises(NOT_OURS):
        tell(tmp_path)


@pytest.mark.parametrize("value", [None, 5, ["x"], {"x": 1}, "x"], ids=json.dumps)
def test_a_field_of_another_kind_is_compared_or_refused(tmp_path: Path, value: object) -> None:
    """Whatever another wrote in any one place: it is text like other text, or it is not ours; nothing else is raised."""
    good, refused = tell(written(tmp_path, events(A))), 0
    (tmp_path / B).mkdir()
    for number, name in [(number, name) for number, (_, fields) in enumerate(events(B)) for name in fields]:
        told = events(B)
        told[number][1][name] = value
        journal = b"".join(line(event=kind, n=n, **fields) for n, (kind, fields) in enumerate(told, 1))
        (tmp_path / B / NAME).write_bytes(journal)
        try:
            json.dumps([[each.field, each.a, each.b] for each in differences(good, tell(tmp_path / B))])
        except NOT_OURS:
            refused += 1
    assert refused < 30
