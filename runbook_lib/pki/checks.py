"""Judgements over a pair before it may go live: do the keys match, and will clients take the certificate."""

import datetime as dt
import ipaddress
from collections.abc import Iterator, Sequence

from cryptography.x509.oid import ExtendedKeyUsageOID

from runbook_lib.models import Certificate, CertificateRequest, Check, KeyDigest, Verdict
from runbook_lib.pki.certificates import issued, load

SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH.dotted_string
ANY_USAGE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string
STRONG_KEYS = ("rsa-2048", "rsa-3072", "rsa-4096", "ec-p256", "ec-p384")
WEAK_HASHES = ("md5", "sha1")
LONGEST_DAYS = 825
SOON_DAYS = 30
ASK_AGAIN = "ask the CA for another certificate for this CSR"
CA_B = "CA/B Forum baseline requirements"


def _check(question: str, expected: str, found: str, *, good: bool, source: str, todo: str = ASK_AGAIN, bad: Verdict = Verdict.FAIL) -> Check:  # noqa: PLR0913
    return Check(question, expected, found, Verdict.PASS if good else bad, source, "" if good else todo)


def check_keys(digests: Sequence[KeyDigest]) -> tuple[Check, ...]:
    """Whether key, CSR and certificate hold one public key, for both programs that looked.

    Args:
        digests: One row a file; at least one.
    """
    values = {each for row in digests for each in (row.server, row.here)}
    files = ", ".join(row.file for row in digests)
    odd = ", ".join(row.file for row in digests if {row.server, row.here} != {digests[0].server})
    return (
        _check(
            f"Do {files} hold the same public key?", "one public key", odd + " differs" if odd else "one public key",
            good=len(values) == 1, source="vendor's step 5",
            todo="this certificate was made for another key: ask the CA for the certificate of this change's CSR",
        ),
    )  # fmt: skip


def check_certificate(
    chain: Sequence[Certificate], request: CertificateRequest | None, trust: Sequence[Certificate], now: dt.datetime, names: Sequence[str]
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
        return (_check("Is there a certificate?", "a certificate", "none", good=False, source="vendor's step 4"),)
    leaf = chain[0]
    return (*_dates(leaf, request, now), *_names(leaf, request, names), *_asked(leaf, request), *_usage(leaf), *_chain(chain, trust, now))


def _dates(leaf: Certificate, request: CertificateRequest | None, now: dt.datetime) -> Iterator[Check]:
    days = (leaf.not_after - now) / dt.timedelta(days=1)
    total = (leaf.not_after - leaf.not_before) / dt.timedelta(days=1)
    source = "RFC 5280, section 4.1.2.5"
    yield _check("Is the certificate in date?", f"from now on, at {now:%Y-%m-%d %H:%M} UTC", f"{leaf.not_before:%Y-%m-%d %H:%M} to {leaf.not_after:%Y-%m-%d %H:%M}",
                 good=leaf.not_before <= now < leaf.not_after, source=source)  # fmt: skip
    yield _check("Is it good for more than a month?", f"{SOON_DAYS} days or more", f"{days:.0f} days", good=days >= SOON_DAYS, source=source,
                 bad=Verdict.WARN, todo="plan the next replacement now")  # fmt: skip
    yield _check("Will every client accept so long a validity?", f"at most {LONGEST_DAYS} days", f"{total:.0f} days", good=total <= LONGEST_DAYS,
                 source="Apple's requirements, private CAs too", bad=Verdict.WARN)  # fmt: skip
    if request and request.validity_days:
        yield _check("Did the CA give the validity asked for?", f"{request.validity_days} days", f"{total:.0f} days",
                     good=total >= request.validity_days - 1, source="the request", bad=Verdict.WARN, todo="nothing, if the CA's policy is known")  # fmt: skip


def _names(leaf: Certificate, request: CertificateRequest | None, names: Sequence[str]) -> Iterator[Check]:
    missing = [name for name in names if not verify_name(leaf, name)]
    yield _check("Does the certificate name every service address?", ", ".join(names), "missing: " + ", ".join(missing) if missing else "all of them",
                 good=not missing, source="RFC 9525, section 6", todo=f"{ASK_AGAIN}, with a SAN that has them all")  # fmt: skip
    if request:
        asked, found = set(map(str.lower, request.san)), set(map(str.lower, leaf.san))
        lost, extra = sorted(asked - found), sorted(found - asked)
        yield _check("Has it every name that was asked for?", " ".join(request.san), "missing: " + " ".join(lost) if lost else "all of them",
                     good=not lost, source="RFC 5280, section 4.2.1.6", todo=f"{ASK_AGAIN}, with the SAN of the CSR")  # fmt: skip
        yield _check("Has it no name that was not asked for?", "none", " ".join(extra) or "none", good=not extra, source="the request",
                     bad=Verdict.WARN, todo="make sure that these names are yours")  # fmt: skip
    own = verify_name(leaf, leaf.common_name)
    yield _check("Does the common name stand in the SAN too?", leaf.common_name or "a common name", "yes" if own else "no", good=own,
                 source=CA_B, bad=Verdict.WARN, todo="browsers look at the SAN alone")  # fmt: skip


def _asked(leaf: Certificate, request: CertificateRequest | None) -> Iterator[Check]:
    if request is None:
        return
    wanted = request.subject
    yield _check("Is the common name the one asked for?", wanted.common_name, leaf.common_name or "none",
                 good=leaf.common_name == wanted.common_name, source="vendor's step 7", bad=Verdict.WARN)  # fmt: skip
    if wanted.organizational_unit:
        found = ", ".join(leaf.organizational_units) or "dropped by the CA"
        yield _check("Is the organizational unit the one asked for?", wanted.organizational_unit, found,
                     good=wanted.organizational_unit in leaf.organizational_units, source=CA_B, bad=Verdict.WARN, todo="nothing: public CAs drop it")  # fmt: skip


def _usage(leaf: Certificate) -> Iterator[Check]:
    extended, usage = leaf.extended_key_usage, leaf.key_usage
    serves = extended is not None and (SERVER_AUTH in extended or ANY_USAGE in extended)
    yield _check("May it be used for a TLS server?", "serverAuth", "serverAuth" if serves else "no EKU" if extended is None else ", ".join(extended),
                 good=serves, source="RFC 5280, section 4.2.1.12", bad=Verdict.WARN if extended is None else Verdict.FAIL)  # fmt: skip
    signs = usage is None or "digital_signature" in usage
    yield _check("May its key sign a handshake?", "digitalSignature", "yes" if signs else ", ".join(usage or ()), good=signs, source="RFC 8446, section 4.4.2.2")
    yield _check("Is its key strong enough?", "RSA 2048 or more, P-256 or P-384", leaf.key,
                 good=leaf.key in STRONG_KEYS or (leaf.key.startswith("rsa-") and int(leaf.key[4:]) > 2048), source=CA_B)  # fmt: skip  # noqa: PLR2004
    yield _check("Is its signature made with a sound hash?", "SHA-2", leaf.signature_hash or "none of its own", good=leaf.signature_hash not in WEAK_HASHES, source=CA_B)
    yield _check("Is it a server's certificate and no CA's?", "CA:FALSE", "CA:TRUE" if leaf.is_ca else "CA:FALSE", good=not leaf.is_ca,
                 source="RFC 5280, section 4.2.1.9", bad=Verdict.WARN)  # fmt: skip
    yield _check("Has it no critical extension that clients do not know?", "none", ", ".join(leaf.unknown_critical) or "none",
                 good=not leaf.unknown_critical, source="RFC 5280, section 4.2")  # fmt: skip


def _chain(chain: Sequence[Certificate], trust: Sequence[Certificate], now: dt.datetime) -> Iterator[Check]:
    question = "Does the chain lead to a trusted CA?"
    leaf, top = chain[0], chain[-1]
    if not trust:
        if leaf.self_signed:
            yield Check(question, "a CA that clients trust", "self-signed", Verdict.WARN, CA_B, "every browser will warn: have it signed by a CA as soon as you can")
        else:
            yield Check(question, "ca_file", "no ca_file given", Verdict.UNKNOWN, "RFC 5280, section 6", "give the CA's root as ca_file")
        return
    anchors = [each for each in trust if each.sha256 == top.sha256 or issued(load(each), load(top))]
    weak = [each.subject for each in chain[1:] if not _may_issue(each, now)]
    found = top.issuer + " is not in ca_file" if not anchors else ", ".join(weak) + " may not issue certificates now" if weak else anchors[0].subject
    yield _check(question, "an anchor of ca_file", found, good=bool(anchors) and not weak, source="RFC 5280, section 6",
                 todo="hand in the certificate with its intermediates, and the right root as ca_file")  # fmt: skip


def _may_issue(certificate: Certificate, now: dt.datetime) -> bool:
    usage = certificate.key_usage
    return certificate.is_ca and certificate.not_before <= now < certificate.not_after and (usage is None or "key_cert_sign" in usage)


def verify_name(certificate: Certificate, name: str) -> bool:
    """Whether a client that asks for this name or address accepts the certificate for it (RFC 9525, section 6)."""
    try:
        return f"IP:{ipaddress.ip_address(name)}" in certificate.san
    except ValueError:
        pass
    wanted = name.lower().rstrip(".")
    patterns = [entry[4:].lower() for entry in certificate.san if entry.startswith("DNS:")]
    _, dot, parent = wanted.partition(".")
    return bool(wanted) and (wanted in patterns or (bool(dot) and f"*.{parent}" in patterns))

