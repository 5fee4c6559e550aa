"""Step 5: key, CSR and certificate hold the same public key, and the certificate is one that clients will take."""

import contextlib
import dataclasses
import datetime as dt
from collections.abc import Mapping

from runbook_lib.models import Certificate, CertificateRequest, Check, Facts, KeyDigest, SubjectName, Verdict
from runbook_lib.parameters import Parameters
from runbook_lib.pki.certificates import spki_sha256
from runbook_lib.pki.checks import check_certificate, check_keys


def digests(facts: Facts, change_id: str) -> tuple[KeyDigest, ...]:
    """The public key of each staged file, once as the server's openssl sees it and once as cryptography does here."""
    public = facts.change(change_id).public_keys
    names = {"key": "nginx.key", "csr": "nginx.csr", "certificate": "nginx.crt"}
    return tuple(
        KeyDigest(file, public[name][0], _spki_sha256(public[name][1]))
        for name, file in names.items()
        if name in public
    )


def _spki_sha256(pem: str) -> str:
    """Empty for a key of a kind that only the server's openssl knows."""
    with contextlib.suppress(ValueError):
        return spki_sha256(pem)
    return ""


def checks(
    facts: Facts, parameters: Parameters, change_id: str, trust: tuple[Certificate, ...], now: dt.datetime
) -> tuple[Check, ...]:
    """Every judgement over the staged pair before it may go live.

    A recorded pair that is put back must match its key; all else about it is known from when it served, so that it warns.
    """
    change = facts.change(change_id)
    request = recorded_request(change.request) if change.kind == "replace" else None
    rows = digests(facts, change_id)
    keys = check_keys(rows) if rows else ()
    rest = check_certificate(change.staged.chain, request, trust, now, parameters.addresses)
    if change.kind == "replace":
        return (*keys, *rest)
    return (
        *keys,
        *(dataclasses.replace(each, verdict=Verdict.WARN) if each.verdict is Verdict.FAIL else each for each in rest),
    )


def recorded_request(kept: Mapping[str, object]) -> CertificateRequest:
    """What was asked of the CA, from the change's own folder."""
    subject = SubjectName(**{name: str(kept.get(name, "")) for name in SubjectName.__dataclass_fields__})
    san = kept.get("san", [])
    days = kept.get("validity_days")
    return CertificateRequest(
        subject,
        tuple(map(str, san if isinstance(san, list) else ())),
        str(kept.get("key_type", "")),
        days if isinstance(days, int) else None,
    )
