"""Judgements over a pair before it may go live: do the keys match, and will clients take the certificate."""

import datetime as dt
import ipaddress
import re
from collections.abc import Iterator, Sequence

from runbook_lib.models import Certificate, CertificateRequest, Check, KeyDigest, Verdict, judged
from runbook_lib.pki.certificates import load, quiet
from runbook_lib.pki.csr import FIELDS
from runbook_lib.pki.path import CA_B, SERVER_AUTH, SOUND_HASHES, check_path

STRONG_CURVES = ("ec-p256", "ec-p384")
SHORTEST_RSA = 2048
LONGEST_DAYS = 825
SOON_DAYS = 30
ASK_AGAIN = "ask the CA for another certificate for this CSR"
NO_SAN = "the CA left out what the CSR asks for: have it copied (with openssl: x509 -req -copy_extensions copy)"
VALIDITY = "RFC 5280, section 4.1.2.5"
_LOOKS_LIKE_A_NAME = re.compile(r"[A-Za-z0-9*_-]+(\.[A-Za-z0-9_-]+)+")


def check_keys(digests: Sequence[KeyDigest]) -> tuple[Check, ...]:
    """Whether key, CSR and certificate hold one public key, for both programs that looked.

    Args:
        digests: One row a file; at least one. An empty digest is one that could not be taken.
    """
    question, source = f"Do {', '.join(row.file for row in digests)} hold the same public key?", "vendor's step 5"
    unread = [row.file for row in digests if not row.server or not row.here]
    values = [each for row in digests for each in (row.server, row.here) if each]
    odd = [row.file for row in digests if {row.server, row.here} - {"", values[0]}] if values else []
    if odd:
        return (Check(question, "one public key", f"another one in {', '.join(odd)}", Verdict.FAIL, source,
                      "this certificate was made for another key: ask the CA for the certificate of this change's CSR"),)  # fmt: skip
    if unread or not values:
        return (Check(question, "one public key", f"none read from {', '.join(unread) or 'any file'}", Verdict.FAIL, source,
                      "look at the file: openssl could not read a public key from it"),)  # fmt: skip
    return (Check(question, "one public key", "one public key", Verdict.PASS, source),)


def check_certificate(
    chain: Sequence[Certificate],
    request: CertificateRequest | None,
    trust: Sequence[Certificate],
    now: dt.datetime,
    names: Sequence[str],
) -> tuple[Check, ...]:
    """Whether clients will take a certificate at the names by which they reach the server.

    Args:
        chain: Leaf first, as nginx will send it.
        request: What was asked of the CA; None when it is not known.
        trust: Trust anchors that the chain must lead to; empty when none were given.
        now: The time to judge at, UTC.
        names: The service addresses.
    """
    if not chain:
        return (
            Check(
                "Is there a certificate?",
                "a certificate",
                "none",
                Verdict.FAIL,
                "vendor's step 4",
                "hand in what the CA sent back",
            ),
        )
    leaf = chain[0]
    return (
        *_dates(leaf, request, now), *_names(leaf, request, names), *_subject(leaf, request),
        *_usage(leaf), *_strength(leaf), *check_path(chain, trust, now),
    )  # fmt: skip


def _dates(leaf: Certificate, request: CertificateRequest | None, now: dt.datetime) -> Iterator[Check]:
    days = (leaf.not_after - now) / dt.timedelta(days=1)
    total = (leaf.not_after - leaf.not_before) / dt.timedelta(days=1)
    early = now < leaf.not_before
    found = f"{leaf.not_before:%Y-%m-%d %H:%M} to {leaf.not_after:%Y-%m-%d %H:%M}"
    yield judged("Is the certificate in date?", f"from now on, at {now:%Y-%m-%d %H:%M} UTC", found,
                 good=not early and days > 0, source=VALIDITY, todo="wait until it is valid, and compare the clocks" if early else ASK_AGAIN)  # fmt: skip
    yield judged("Is it good for more than a month?", f"{SOON_DAYS} days or more", f"{days:.0f} days", good=days >= SOON_DAYS, source=VALIDITY,
                 bad=Verdict.WARN, todo="plan the next replacement now")  # fmt: skip
    yield judged("Will every client accept so long a validity?", f"at most {LONGEST_DAYS} days", f"{total:.0f} days", good=total <= LONGEST_DAYS,
                 source="Apple's requirements, private CAs too", bad=Verdict.WARN, todo=f"ask for {LONGEST_DAYS} days or less next time")  # fmt: skip
    if request and request.validity_days:
        yield judged("Did the CA give the validity asked for?", f"{request.validity_days} days", f"{total:.0f} days",
                     good=total >= request.validity_days - 1, source="the request", bad=Verdict.WARN, todo="nothing, if the CA's policy is known")  # fmt: skip


def _names(leaf: Certificate, request: CertificateRequest | None, names: Sequence[str]) -> Iterator[Check]:
    missing = [name for name in names if not verify_name(leaf, name)]
    yield judged("Does the certificate name every service address?", ", ".join(names) or "a SAN",
                 "missing: " + ", ".join(missing) if missing else "all of them" if leaf.san else "no SAN",
                 good=bool(leaf.san) and not missing, source="RFC 9525, section 6",
                 todo=f"{ASK_AGAIN}, with a SAN that has them all" if leaf.san else NO_SAN)  # fmt: skip
    if request:
        asked, found = ({each.lower(): each for each in names} for names in (request.san, leaf.san))
        lost, extra = (
            sorted(one[each] for each in one.keys() - other) for one, other in ((asked, found), (found, asked))
        )
        yield judged("Has it every name that was asked for?", " ".join(request.san), "missing: " + " ".join(lost) if lost else "all of them",
                     good=not lost, source="RFC 5280, section 4.2.1.6", todo=f"{ASK_AGAIN}, with the SAN of the CSR" if leaf.san else NO_SAN)  # fmt: skip
        yield judged("Has it no name that was not asked for?", "none", " ".join(extra) or "none", good=not extra, source="the request",
                     bad=Verdict.WARN, todo="make sure that these names are yours")  # fmt: skip
    if leaf.common_name:
        own = verify_name(leaf, leaf.common_name)
        bad = Verdict.FAIL if _LOOKS_LIKE_A_NAME.fullmatch(leaf.common_name) else Verdict.WARN
        yield judged("Does the common name stand in the SAN too?", leaf.common_name, "yes" if own else "no", good=own, source=CA_B, bad=bad,
                     todo="clients look at the SAN alone: give the common name in san too")  # fmt: skip


def _subject(leaf: Certificate, request: CertificateRequest | None) -> Iterator[Check]:
    if request is None:
        return
    with quiet():
        subject = load(leaf).subject
    found = {name: [str(each.value) for each in subject.get_attributes_for_oid(oid)] for _, name, oid, _ in FIELDS}
    yield judged("Is the common name the one asked for?", request.subject.common_name, ", ".join(found["common_name"]) or "none",
                 good=found["common_name"] == [request.subject.common_name], source="vendor's step 7", bad=Verdict.WARN,
                 todo="make sure that the CA's policy does this, and that this is the certificate for this server")  # fmt: skip
    asked = {
        name: getattr(request.subject, name)
        for name in found
        if name != "common_name" and getattr(request.subject, name)
    }
    other = [
        f"{name}: {', '.join(found[name]) or 'dropped'}" for name, value in asked.items() if value not in found[name]
    ]
    if asked:
        yield judged("Is the rest of the subject as asked?", ", ".join(f"{name}: {value}" for name, value in asked.items()), ", ".join(other) or "as asked",
                     good=not other, source="the request", bad=Verdict.WARN, todo="nothing: CAs write the subject by their own policy")  # fmt: skip


def _usage(leaf: Certificate) -> Iterator[Check]:
    extended, usage = leaf.extended_key_usage, leaf.key_usage
    serves = extended is not None and SERVER_AUTH in extended
    yield judged("May it be used for a TLS server?", "serverAuth", "serverAuth" if serves else "no EKU" if extended is None else ", ".join(extended),
                 good=serves, source="RFC 5280, section 4.2.1.12", bad=Verdict.WARN if extended is None else Verdict.FAIL, todo=ASK_AGAIN)  # fmt: skip
    signs = usage is None or "digital_signature" in usage
    yield judged("May its key sign a handshake?", "digitalSignature", "yes" if signs else ", ".join(usage or ()) or "no usage at all",
                 good=signs, source="RFC 8446, section 4.4.2.2", todo=f"{ASK_AGAIN}, with digitalSignature in its key usage")  # fmt: skip
    yield judged("Is it a server's certificate and no CA's?", "CA:FALSE", "CA:TRUE" if leaf.is_ca else "CA:FALSE", good=not leaf.is_ca,
                 source="RFC 5280, section 4.2.1.9", bad=Verdict.WARN, todo=ASK_AGAIN)  # fmt: skip
    yield judged("Has it no critical extension that clients do not know?", "none", ", ".join(leaf.unknown_critical) or "none",
                 good=not leaf.unknown_critical, source="RFC 5280, section 4.2", todo=ASK_AGAIN)  # fmt: skip


def _strength(leaf: Certificate) -> Iterator[Check]:
    kind, _, size = leaf.key.partition("-")
    yield judged("Is its key strong enough?", f"RSA {SHORTEST_RSA} or more, P-256 or P-384", leaf.key,
                 good=leaf.key in STRONG_CURVES or (kind == "rsa" and int(size) >= SHORTEST_RSA), source=CA_B,
                 todo="begin anew with change_id=new and another key_type")  # fmt: skip
    yield judged("Is its signature made with a sound hash?", "SHA-2", leaf.signature_hash or "none of its own",
                 good=leaf.signature_hash in SOUND_HASHES, source=CA_B, bad=Verdict.FAIL if leaf.signature_hash else Verdict.WARN, todo=ASK_AGAIN)  # fmt: skip


def verify_name(certificate: Certificate, name: str) -> bool:
    """Whether a client that asks for this name or address accepts the certificate for it (RFC 9525, section 6).

    A wildcard stands for the whole left-most label alone, and only over two labels or more, as browsers and OpenSSL want it.
    """
    bare = name.removeprefix("[").removesuffix("]")
    try:
        return f"IP:{ipaddress.ip_address(bare)}" in certificate.san
    except ValueError:
        pass
    wanted = name.lower().removesuffix(".")
    patterns = [entry[4:].lower() for entry in certificate.san if entry.startswith("DNS:")]
    label, _, parent = wanted.partition(".")
    return bool(label) and (wanted in patterns or ("." in parent and f"*.{parent}" in patterns))
