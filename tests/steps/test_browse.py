"""The judgements over what a browser said: what fails, what warns, what is not known."""

import dataclasses

import pytest

from runbook_lib.models import Certificate, Said, Verdict, Visited
from runbook_lib.steps import browse
from tests.pki.authority import Issued
from tests.steps.facts import ISSUER, LIVE, NEW, OLD, OTHER, ROOT, STAGED, a_change, a_pair, parameters

ANCHORS = (ROOT.certificate,)
NAME_INVALID = "net::ERR_CERT_COMMON_NAME_INVALID"


def visited(said: Said, error: str = "", *chain: Issued) -> Visited:
    """What a browser saw at one address."""
    protocol = "TLS 1.3" if chain else ""
    return Visited("a", "https://a/", said, error, tuple(each.certificate for each in chain), protocol)


ACCEPTED = visited(Said.ACCEPTED, "", NEW, ISSUER, ROOT)
REFUSED = visited(Said.REFUSED, NAME_INVALID, NEW, ISSUER, ROOT)
UNKNOWN_CA = visited(Said.REFUSED, browse.AUTHORITY, NEW, ISSUER)
INSTALLED: dict[str, tuple[Visited, tuple[Certificate, ...], str, Verdict, str]] = {
    "accepted": (ACCEPTED, ANCHORS, "replace", Verdict.PASS, ""),
    "accepted, a CA that every browser knows": (ACCEPTED, (), "replace", Verdict.PASS, ""),
    "accepted, another certificate": (visited(Said.ACCEPTED, "", OTHER), ANCHORS, "replace", Verdict.FAIL, "what answers there"),
    "accepted, no certificate told": (visited(Said.ACCEPTED), ANCHORS, "replace", Verdict.UNKNOWN, "by hand"),
    "another name": (REFUSED, ANCHORS, "replace", Verdict.FAIL, "is put back"),
    "another name, no anchor": (REFUSED, (), "replace", Verdict.FAIL, "is put back"),
    "an unknown CA": (UNKNOWN_CA, ANCHORS, "replace", Verdict.FAIL, "is put back"),
    "an unknown CA, no anchor": (UNKNOWN_CA, (), "replace", Verdict.WARN, "give ca_file"),
    "an unknown CA, another certificate": (visited(Said.REFUSED, browse.AUTHORITY, OTHER), (), "replace", Verdict.FAIL, "what answers there"),
    "an unknown CA, no certificate told": (visited(Said.REFUSED, browse.AUTHORITY), (), "replace", Verdict.UNKNOWN, "by hand"),
    "no handshake": (visited(Said.REFUSED, "net::ERR_SSL_PROTOCOL_ERROR"), ANCHORS, "replace", Verdict.FAIL, "what answers there"),
    "a recorded pair that is refused": (REFUSED, ANCHORS, "restore", Verdict.WARN, "when it served"),
    "not the recorded pair": (visited(Said.ACCEPTED, "", OLD), ANCHORS, "restore", Verdict.FAIL, "what answers there"),
    "unreachable": (visited(Said.UNREACHABLE, "net::ERR_CONNECTION_REFUSED"), ANCHORS, "replace", Verdict.UNKNOWN, "reaches it"),
    "no browser": (dataclasses.replace(visited(Said.NOTHING, "no Chromium"), todo="install it"), ANCHORS, "replace", Verdict.UNKNOWN, "install it"),
}  # fmt: skip


@pytest.mark.parametrize("case", INSTALLED.values(), ids=INSTALLED)
def test_what_was_installed(case: tuple[Visited, tuple[Certificate, ...], str, Verdict, str]) -> None:
    """Only what a browser has seen and does not take is a fail; what it cannot know or reach is no reason to roll back."""
    seen, anchors, kind, verdict, todo = case
    (check,) = browse.checks([seen], a_change(kind=kind), anchors)
    assert check.verdict is verdict
    assert todo in check.todo
    assert check.question == "Does a browser accept the new certificate at a?"
    assert (seen.error in check.found, bool(check.todo)) == (True, verdict is not Verdict.PASS)


AS_FOUND: dict[str, tuple[Visited, Verdict, str]] = {
    "accepted": (visited(Said.ACCEPTED, "", OLD), Verdict.PASS, ""),
    "refused": (visited(Said.REFUSED, browse.AUTHORITY, OLD), Verdict.WARN, "old certificate"),
    "another certificate": (visited(Said.ACCEPTED, "", OTHER), Verdict.WARN, "after the install the same is a fail"),
    "no handshake": (visited(Said.REFUSED, "net::ERR_SSL_PROTOCOL_ERROR"), Verdict.WARN, "after the install"),
    "unreachable": (visited(Said.UNREACHABLE, "net::ERR_TIMED_OUT"), Verdict.UNKNOWN, "reaches it"),
}  # fmt: skip


@pytest.mark.parametrize("case", AS_FOUND.values(), ids=AS_FOUND)
def test_what_was_found(case: tuple[Visited, Verdict, str]) -> None:
    """Before the change nothing is a fail."""
    seen, verdict, todo = case
    (check,) = browse.before([seen], LIVE)
    assert (check.verdict, todo in check.todo) == (verdict, True)


def test_whom_it_trusts() -> None:
    """The anchors that were given; without any, a certificate that signed itself, and nobody for one that a CA signed."""
    assert browse.trust(STAGED, ANCHORS) == ANCHORS
    assert browse.trust(STAGED, ()) == ()
    assert browse.trust(a_pair(OTHER), ()) == (OTHER.certificate,)
    assert browse.trust(a_pair(OTHER), ANCHORS) == ANCHORS


@pytest.mark.parametrize(
    ("window_s", "gone_s", "limit_s"),
    [(300, 10, 20), (300, 245, 15), (60, 9, 13), (60, 25, 5), (60, 26, 0), (30, 4, 0), (30, 40, 0)],
)
def test_it_leaves_time_for_the_confirm(window_s: int, gone_s: float, limit_s: float) -> None:
    """At most half of what the guard still waits and the confirm does not need, and nothing where that is too little to see anything."""
    assert browse.time_limit_s(parameters(rollback_after_s=window_s), gone_s) == limit_s
