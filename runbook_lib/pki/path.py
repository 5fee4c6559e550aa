"""Judgements over the chain: does it lead from the leaf to a CA that clients trust, with what nginx will send."""

import datetime as dt
import ipaddress
import itertools
from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from runbook_lib.models import Certificate, Check, Verdict, judged
from runbook_lib.pki.certificates import LONGEST_CHAIN, issued, load
from runbook_lib.pki.foreign import UNREADABLE

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH.dotted_string
ANY_USAGE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string
SOUND_HASHES = ("sha256", "sha384", "sha512")
WHOLE_CHAIN = "hand in the certificate with its intermediates, and the right root as ca_file"
PATH_RULES = "RFC 5280, section 6"
CA_B = "CA/B Forum baseline requirements"


def check_path(chain: Sequence[Certificate], trust: Sequence[Certificate], now: dt.datetime) -> Iterator[Check]:
    """Whether clients can build a path from the leaf to an anchor.

    Args:
        chain: At least the leaf, which comes first, as nginx will send it.
        trust: Trust anchors; empty when none were given.
        now: The time to judge at, UTC.
    """
    if len(chain) > 1:
        yield from _as_sent(chain, now)
    yield _trusted(chain, trust, now)
    if above := [*chain[1:], *_anchors(chain, trust)]:
        first = min(above, key=lambda each: each.not_after)
        until = f"{first.subject}: to {first.not_after:%Y-%m-%d}"
        yield judged("Will its CA last longer than the certificate?", f"beyond {chain[0].not_after:%Y-%m-%d}", until,
                     good=first.not_after > chain[0].not_after, source=PATH_RULES, bad=Verdict.WARN,
                     todo="plan the next replacement for the end of the CA's certificate")  # fmt: skip


def _as_sent(chain: Sequence[Certificate], now: dt.datetime) -> Iterator[Check]:
    strangers = [upper.subject for lower, upper in itertools.pairwise(chain) if not issued(load(upper), load(lower))]
    yield judged("Did each certificate sign the one before it?", "each one", "not: " + ", ".join(strangers) if strangers else "each one",
                 good=not strangers, source="RFC 5246, section 7.4.2", todo=WHOLE_CHAIN)  # fmt: skip
    unfit = [f"{each.subject} {reason}" for each in chain[1:] if (reason := _unfit(each, now))]
    yield judged("May each CA in the file sign for TLS servers now?", "each one", "; ".join(unfit) or "each one",
                 good=not unfit, source=PATH_RULES, todo=WHOLE_CHAIN)  # fmt: skip


def _unfit(authority: Certificate, now: dt.datetime) -> str:
    usage, extended = authority.key_usage, authority.extended_key_usage
    reasons = (
        (not authority.is_ca, "is no CA's"),
        (usage is not None and "key_cert_sign" not in usage, "may not sign certificates"),
        (extended is not None and not {SERVER_AUTH, ANY_USAGE} & set(extended), "is not for TLS servers"),
        (now < authority.not_before, "is not valid yet"),
        (now >= authority.not_after, "has expired"),
        (
            not authority.self_signed and authority.signature_hash not in SOUND_HASHES,
            f"is signed with {authority.signature_hash or 'no SHA-2'}",
        ),
    )
    return next((reason for holds, reason in reasons if holds), "")


def _trusted(chain: Sequence[Certificate], trust: Sequence[Certificate], now: dt.datetime) -> Check:
    question, expected = "Does the chain lead to a trusted CA?", "an anchor of ca_file"
    leaf, top = chain[0], chain[-1]
    if leaf.self_signed:
        known = not trust or any(each.sha256 == leaf.sha256 for each in trust)
        return Check(question, "a CA that clients trust", "self-signed", Verdict.WARN if known else Verdict.FAIL, CA_B,
                     "every browser will warn: have it signed by a CA as soon as you can")  # fmt: skip
    if not trust:
        return Check(question, "ca_file", f"no ca_file given; it ends at {top.issuer}", Verdict.UNKNOWN, PATH_RULES,
                     "give the CA's root as ca_file, and see that its intermediates were handed in with the certificate")  # fmt: skip
    anchors = _anchors(chain, trust)
    if not anchors:
        return Check(
            question,
            expected,
            f"{top.issuer} is neither in the file nor in ca_file",
            Verdict.FAIL,
            PATH_RULES,
            WHOLE_CHAIN,
        )
    unsent = [each for each in anchors if each not in chain and not each.self_signed and _anchors([each], trust)]
    if unsent == anchors:
        return Check(question, expected, f"the intermediate {unsent[0].subject} is in ca_file alone, so nginx will not send it", Verdict.FAIL,
                     "RFC 5246, section 7.4.2", "hand in the certificate with this intermediate after it")  # fmt: skip
    # the leaf's own dates are another check's
    refusal = _refusal(chain, anchors, min(max(now, leaf.not_before), leaf.not_after))
    return judged(
        question, expected, refusal or anchors[0].subject, good=not refusal, source=PATH_RULES, todo=WHOLE_CHAIN
    )


def _anchors(chain: Sequence[Certificate], trust: Sequence[Certificate]) -> list[Certificate]:
    """The anchors that signed a certificate of the chain, and those that are in the chain themselves."""
    return [each for each in trust if each in chain[1:] or any(_signed(each, below) for below in chain)]


def _signed(upper: Certificate, lower: Certificate) -> bool:
    return upper.subject == lower.issuer and upper.sha256 != lower.sha256 and issued(load(upper), load(lower))


def _refusal(chain: Sequence[Certificate], anchors: Sequence[Certificate], now: dt.datetime) -> str:
    """Why a client refuses the path, or nothing.

    cryptography judges signatures, dates, CA flags, path lengths and name constraints. Its defaults ask for extensions that
    private CAs leave out and clients do not miss, so those are optional here; what it does not look at has checks of its own.
    """
    store = verification.Store([load(each) for each in anchors])
    builder = verification.PolicyBuilder().store(store).time(now).max_chain_depth(LONGEST_CHAIN)
    builder = builder.extension_policies(ca_policy=_AUTHORITY, ee_policy=_LEAF)
    try:
        builder.build_server_verifier(_a_name_of(chain[0])).verify(load(chain[0]), [load(each) for each in chain[1:]])
    except (verification.VerificationError, *UNREADABLE) as error:
        return (
            str(error)
            .removeprefix("validation failed: ")
            .removeprefix("candidates exhausted: ")
            .partition(" (encountered")[0]
        )
    return ""


def _lenient(policy: verification.ExtensionPolicy) -> verification.ExtensionPolicy:
    for kind in (
        x509.AuthorityKeyIdentifier,
        x509.SubjectKeyIdentifier,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.AuthorityInformationAccess,
    ):
        policy = policy.may_be_present(kind, verification.Criticality.AGNOSTIC, None)
    return policy


_AUTHORITY = _lenient(verification.ExtensionPolicy.webpki_defaults_ca()).require_present(
    x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
)
_LEAF = _lenient(verification.ExtensionPolicy.webpki_defaults_ee()).may_be_present(
    x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
)


def _a_name_of(leaf: Certificate) -> x509.DNSName | x509.IPAddress:
    """A name that the leaf is good for: whether it is good for the service addresses is another check."""
    kind, _, value = next((entry for entry in leaf.san if not entry.startswith("OTHER:")), "DNS:none").partition(":")
    return x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value.replace("*.", "any.", 1))
