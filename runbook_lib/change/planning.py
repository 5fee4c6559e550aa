"""What a plan's hash stands on, and whether somebody else approved the plan."""

import hashlib
import importlib.resources
from collections.abc import Sequence
from typing import Any

import rfc8785

from runbook_lib import VERSION
from runbook_lib.errors import Refused
from runbook_lib.models import Facts, Pair, Plan, PlannedCommand
from runbook_lib.policy import Policy, read_policy
from runbook_lib.record.approval import SIGNED, Approver, approvers, bring, claimed, difference, last_approved
from runbook_lib.record.archive import Record
from runbook_lib.record.seal import NAMESPACE as SEALS
from runbook_lib.session import NOTEBOOKS, Kind, Prepared
from runbook_lib.sshsig import allows

FORM = 2  # of a plan's document; the first held neither what was given nor what had been decided, and of a command its script alone
SCRIPTS = importlib.resources.files("runbook_lib.server")
GUARD, REHEARSAL = (SCRIPTS.joinpath(name).read_text() for name in ("guard.sh", "rehearse.sh"))


def plan_over(
    prepared: Prepared, facts: Facts, change_id: str, commands: Sequence[PlannedCommand], way_back: str
) -> Plan:
    """The plan, with the digest over its RFC 8785 form, in which the change id is a placeholder."""
    said = {
        "form": FORM, "name": prepared.kind, "given": _given(prepared),
        "commands": [{"step": each.step, **{name: getattr(each.command, name) for name in SIGNED}} for each in commands],
    }  # fmt: skip
    document = rfc8785.dumps(stands_on(facts, change_id) | said).replace(change_id.encode(), b"<change-id>")
    return Plan(prepared.kind, tuple(commands), hashlib.sha256(document).hexdigest(), way_back, document)


def _given(prepared: Prepared) -> dict[str, Any]:
    """What was given that makes apply do or let pass something else, and shows in no command and no file."""
    given = prepared.parameters
    names = ("accept_broken_start", "browser", "fetch_backup", "not_before", "not_after", "service_addresses")
    return {name: getattr(given, name) for name in names} | {"ca_file": sorted(each.sha256 for each in prepared.trust)}


def stands_on(facts: Facts, change_id: str) -> dict[str, Any]:
    """What must still be true when a plan is applied; free space and clocks are no part of it.

    What was decided on the server is: a plan that was carried out is another one from then on, also where the same pair
    is live again, so that its approval is used up.
    """
    return {
        "host": facts.host,
        "host_key": facts.host_key,
        "live": digests_of(facts.live),
        "staged": digests_of(facts.change(change_id).staged),
        "nginx.conf": facts.nginx_conf,
        "container": facts.container.container_id if facts.container else "",
        "decided": [[name, decided] for name, _, decided in facts.listed if decided],
        "guard": hashlib.sha256(GUARD.encode()).hexdigest(),
        "version": VERSION,
    }


def digests_of(pair: Pair) -> list[str]:
    """The digests of certificate file and key file."""
    return [pair.certificate_sha256, pair.key_sha256]


def keep_plan(record: Record, plan: Plan, kind: Kind) -> str:
    """Keeps a plan's bytes in the record, for somebody to approve; returns the file's name."""
    return record.add_file(f"plan-{NOTEBOOKS[kind]}.json", plan.document).name


def check_approval(prepared: Prepared, record: Record, plan: Plan) -> None:
    """Notes who approved a plan, and stops a run that applies one that is not approved as it has to be.

    Raises:
        Refused: It is another plan than `approved_plan`, or the policy of this host asks for an approval that is not there.
    """
    approved = prepared.parameters.approved_plan
    if approved and approved != plan.sha256:
        raise _refused(
            prepared, "the plan is not the approved one",
            f"approved {approved}, now {plan.sha256}", "look at what changed and have this plan approved",
        )  # fmt: skip
    policy = read_policy()
    allowed = policy.approvers if policy and policy.approvers else prepared.allowed_signers
    if prepared.kind == "restore":
        bring(record, plan.document)
    by = _others(prepared, record, plan, allowed)
    required = policy is not None and policy.require_approval
    said = f"approved by {', '.join(map(str, by))}" if by else "not approved by anybody else"
    if not allowed and (names := claimed(record.folder, plan.document)):
        said = f"signed as {', '.join(names)}, which is not proven: there is no list of approvers here"
    if by and required and policy is not None and not policy.operators:
        said += "; that none of them runs this under another name is not proven: the policy lists no operators"
    record.journal.write(
        "approval", required=required, by=[str(each) for each in by],
        text=f"{'required' if required else 'advisory'}: {said}",
    )  # fmt: skip
    if policy is None or not required or not prepared.parameters.apply:
        return
    _known(prepared, policy)
    if not by:
        before = last_approved(record.folder, allowed)
        why = (
            f"another plan was approved; from that to this:\n{difference(before, plan.document)}"
            if before and before != plan.document
            else said
        )
        todo = (
            f"another person looks at it and runs: runbook approve {record.folder} --signing-key FILE --approver NAME"
        )
        raise _refused(prepared, "the plan was not approved, and the policy of this host asks for that", why, todo)


def _known(prepared: Prepared, policy: Policy) -> None:
    """Holds that who runs this is somebody: whoever could take any name and key could approve under her own.

    Raises:
        Refused: There is no key that seals, or the policy does not list it for the operator.
    """
    key, operator = prepared.signing, prepared.operator
    what = "the policy of this host asks for approval by another person, and who runs this cannot be proven"
    if key is None:
        raise _refused(prepared, what, "there is no signing_key", "give signing_key, your own SSH key")
    if policy.operators and not allows(policy.operators, principal=operator, key=key, namespace=SEALS):
        why = f"its operators do not list {key.fingerprint} for {operator}"
        todo = "give operator and signing_key as they are listed there, or ask whoever administers this host"
        raise _refused(prepared, what, why, todo)


def _others(prepared: Prepared, record: Record, plan: Plan, allowed: str) -> list[Approver]:
    """Who approved it and is neither by name nor by key the one who runs it."""
    key = prepared.signing
    found = approvers(record.folder, plan.document, allowed) if allowed else ()
    return [
        each
        for each in found
        if each.name != prepared.operator and (key is None or each.fingerprint != key.fingerprint)
    ]


def _refused(prepared: Prepared, what: str, why: str, todo: str) -> Refused:
    return Refused(what, server=prepared.parameters.host, step="plan", why=why, todo=todo)
