"""What a browser makes of the service addresses, before and after: the vendor's last step, "confirm in your web browser"."""

from collections.abc import Sequence

from runbook_lib.models import Certificate, ChangeFolder, Check, Pair, Said, Verdict, Visited
from runbook_lib.parameters import Parameters

SOURCE = "vendor's step 7"
AUTHORITY = "net::ERR_CERT_AUTHORITY_INVALID"
CERTIFICATE = "net::ERR_CERT_"
SHORTEST_S, LONGEST_S = 5, 20
RESERVE_S = 25  # for the browser to be ended, an API that starts slowly, and the handshakes of the confirm
BACK = "the old pair is put back by itself"


def trust(staged: Pair, anchors: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    """Whom the browser is told to trust after the install.

    Args:
        staged: The installed pair.
        anchors: Those of `ca_file`. Where none were given, a self-signed certificate is its own.
    """
    return anchors or tuple(each for each in staged.chain[:1] if each.self_signed)


def time_limit_s(parameters: Parameters, gone_s: float) -> float:
    """Seconds that a browser may take while the guard waits for the confirm: no more than half of what the confirm leaves.

    Args:
        parameters: For `rollback_after_s`.
        gone_s: Seconds since the guard was armed.

    Returns:
        0 where so little is left that the confirm needs it all.
    """
    half = (parameters.rollback_after_s - gone_s - RESERVE_S) / 2
    return min(half, LONGEST_S) if half >= SHORTEST_S else 0


def before(seen: Sequence[Visited], live: Pair) -> tuple[Check, ...]:
    """What a browser says of the pair as found: it informs, and stops nothing."""
    return tuple(_as_found(each, live) for each in seen)


def _as_found(seen: Visited, live: Pair) -> Check:
    question, expected = f"What does a browser say of {seen.address} before the change?", "a page, or why there is none"
    if seen.said in {Said.NOTHING, Said.UNREACHABLE}:
        return _not_seen(question, expected, seen)
    if not _leaf_of(seen, live):
        todo = f"after the install the same is a fail, and {BACK}: see what answers there, or set browser to False"
        return Check(question, expected, _another(seen), Verdict.WARN, SOURCE, todo)
    if seen.said is Said.REFUSED:
        return Check(question, expected, _words(seen), Verdict.WARN, SOURCE, "nothing: it speaks of the old certificate")  # fmt: skip
    return Check(question, expected, _words(seen), Verdict.PASS, SOURCE)


def checks(seen: Sequence[Visited], change: ChangeFolder, anchors: tuple[Certificate, ...]) -> tuple[Check, ...]:
    """Whether a browser accepts what was installed, a check an address.

    Args:
        seen: What the browser made of each address.
        change: The change, whose staged pair is live.
        anchors: Whom it was told to trust. Where that is nobody, a browser that does not know the CA says nothing against it.
    """
    return tuple(_installed(each, change, anchors) for each in seen)


def _installed(seen: Visited, change: ChangeFolder, anchors: tuple[Certificate, ...]) -> Check:
    question, expected = f"Does a browser accept the new certificate at {seen.address}?", "accepted, the installed one"
    if seen.said in {Said.NOTHING, Said.UNREACHABLE}:
        return _not_seen(question, expected, seen)
    if seen.said is Said.ACCEPTED and not seen.chain:
        return Check(question, expected, "accepted, but it did not say which", Verdict.UNKNOWN, SOURCE, "look with a browser by hand")  # fmt: skip
    if seen.said is Said.REFUSED and not seen.chain and seen.error.startswith(CERTIFICATE):
        return Check(question, expected, f"{_words(seen)}, and it did not say which", Verdict.UNKNOWN, SOURCE, "look with a browser by hand")  # fmt: skip
    if not _leaf_of(seen, change.staged):
        return Check(question, expected, _another(seen), Verdict.FAIL, SOURCE, f"{BACK}; see what answers there")
    if seen.said is Said.ACCEPTED:
        return Check(question, expected, _words(seen), Verdict.PASS, SOURCE)
    verdict, todo = Verdict.FAIL, BACK
    if seen.error == AUTHORITY and not anchors:
        verdict, todo = Verdict.WARN, "give ca_file: a browser that knows no private CA refuses every certificate of it"
    elif change.kind != "replace":
        verdict, todo = Verdict.WARN, "nothing: all about a recorded pair is known from when it served"
    return Check(question, expected, _words(seen), verdict, SOURCE, todo)


def _leaf_of(seen: Visited, pair: Pair) -> bool:
    return bool(seen.chain and pair.chain) and seen.chain[0].sha256 == pair.chain[0].sha256


def _not_seen(question: str, expected: str, seen: Visited) -> Check:
    todo = seen.todo or "look from a place that reaches it"
    return Check(question, expected, _words(seen), Verdict.UNKNOWN, SOURCE, todo)


def _another(seen: Visited) -> str:
    other = f"another certificate at {seen.url}" if seen.chain else "without a certificate"
    return f"{_words(seen)}, {other}"


def _words(seen: Visited) -> str:
    return ", ".join(each for each in (seen.said, seen.error, seen.protocol) if each)
