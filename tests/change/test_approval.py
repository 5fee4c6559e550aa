"""Approval of a plan by another person: what it is bound to, whose counts, and what is said when it is missing."""

import asyncio
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest

from runbook_lib.change import planning
from runbook_lib.models import Outcome
from runbook_lib.policy import Policy
from runbook_lib.record.approval import approve, last_plan
from runbook_lib.record.archive import open_record
from runbook_lib.record.verify import Proof, proof_of, verify
from runbook_lib.sshsig import SigningKey
from tests.change.operator import ROOT, Operator, Run
from tests.embedded import EmbeddedHost
from tests.record.sealing import OPERATOR, allowing, closed, signing_key

BOB = "bob@example.net"
UNPROVEN = "; that none of them runs this under another name is not proven: the policy lists no operators"


@pytest.fixture
def operator(practice: EmbeddedHost, tmp_path: Path) -> Operator:
    """Somebody who seals, at the embedded server."""
    made = Operator(practice, tmp_path)
    made.given |= {"signing_key": str(signing_key(tmp_path, "ada").path), "operator": OPERATOR, **practice.signing}
    return made


@pytest.fixture
def bob(tmp_path: Path) -> SigningKey:
    """The key of somebody else."""
    return signing_key(tmp_path, "bob")


@pytest.fixture
def policy(bob: SigningKey, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the policy of this host; at first, that bob approves."""

    def set_to(*, require_approval: bool = True, approvers: str = allowing(bob, BOB), operators: str = "") -> None:
        made = Policy(require_approval, approvers, operators)
        monkeypatch.setattr(planning, "read_policy", lambda: made)

    set_to()
    return set_to


def approved(run: Run, key: SigningKey, name: str = BOB) -> None:
    """Has somebody approve the plan of a run."""
    assert run.record
    found = last_plan(run.record)
    assert found
    record = open_record(run.record.parent, run.record.name, str)
    approve(record, found[0], found[1].read_bytes(), approver=name, key=key)
    record.journal.close()


def kept_plan(run: Run) -> str:
    """The plan of a run, as it is kept to be approved."""
    assert run.record
    found = last_plan(run.record)
    assert found
    return found[1].read_text()


def approval(run: Run) -> str:
    """What the record says of the approval."""
    return str([event["text"] for event in run.journal if event["event"] == "approval"][-1])


@pytest.mark.usefixtures("policy")
async def test_what_was_approved_is_applied(operator: Operator, bob: SigningKey) -> None:
    """Without approval the plan is shown and nothing applied; with it, it is; the request needs none."""
    assert (await operator.run("request")).outcome is Outcome.DONE
    planned = await operator.run("install", apply=False)
    assert (planned.outcome, approval(planned)) == (Outcome.PLANNED, "required: not approved by anybody else")
    served = operator.server.served()
    refused = await operator.run("install")
    assert refused.outcome is Outcome.REFUSED
    assert "runbook approve" in refused.said
    assert operator.server.served() == served
    approved(planned, bob)
    done = await operator.run("install")
    assert (done.outcome, approval(done)) == (
        Outcome.DONE,
        f"required: approved by {BOB} ({bob.fingerprint}){UNPROVEN}",
    )
    assert operator.server.served() != served


@pytest.mark.usefixtures("policy")
async def test_a_plan_that_drifted_is_refused_with_the_difference(operator: Operator, bob: SigningKey) -> None:
    """Another time limit for the guard: what was approved, what it is now, line by line."""
    await operator.run("request")
    approved(await operator.run("install", apply=False), bob)
    served = operator.server.served()
    refused = await operator.run("install", rollback_after_s=250)
    assert refused.outcome is Outcome.REFUSED
    assert "guard.sh arm 300" in next(
        line for line in refused.said.splitlines() if line.startswith("-") and ".sh arm" in line
    )
    assert "guard.sh arm 250" in next(
        line for line in refused.said.splitlines() if line.startswith("+") and ".sh arm" in line
    )
    assert operator.server.served() == served
    assert (await operator.run("install")).outcome is Outcome.DONE


async def test_what_was_given_is_approved_with_the_commands(operator: Operator) -> None:
    """What makes apply do or let pass something else, and shows in no command; who runs it and why is no part of it."""
    await operator.run("request")
    before = (await operator.run("install", apply=False)).plan_sha256
    for name, value in (
        ("accept_broken_start", True), ("not_before", "2026-01-01T00:00:00Z"), ("not_after", "2099-01-01T00:00:00Z"),
        ("service_addresses", ["127.0.0.1", "localhost"]), ("ca_file", operator.answer(ROOT.x509)), ("browser", True),
        ("fetch_backup", [str(pyrage.x25519.Identity.generate().to_public())]),
    ):  # fmt: skip
        planned = await operator.run("install", apply=False, **{name: value})
        assert planned.plan_sha256 != before, name
        assert f'"{name}":' in kept_plan(planned)
    same = await operator.run("install", apply=False, reason="another", ticket="CHG-2")
    assert same.plan_sha256 == before
    command = json.loads(kept_plan(same))["commands"][-1]
    assert command.keys() == {"step", "purpose", "script", "stdin", "undo", "time_limit_s"}


async def test_an_approval_is_used_up(operator: Operator, bob: SigningKey, policy: Callable[..., None]) -> None:
    """Put back with approval, installed again, and put back once more: the same pairs and commands, and another plan."""
    policy(require_approval=False)
    _, installed = await operator.replace()
    new = operator.server.served()
    policy()
    planned = await operator.run("restore", apply=False)
    approved(planned, bob)
    assert (await operator.run("restore")).outcome is Outcome.DONE
    policy(require_approval=False)
    assert (await operator.run("restore", pair="installed", change_id=installed.change_id)).outcome is Outcome.DONE
    assert operator.server.served() == new
    policy()
    again = await operator.run("restore", change_id=installed.change_id)
    assert (again.outcome, "was not approved" in again.said) == (Outcome.REFUSED, True)
    then, now = (json.loads(kept_plan(each)) for each in (planned, again))
    assert {name for name in now if now[name] != then[name]} == {"decided"}
    assert operator.server.served() == new


async def test_whose_approval_counts(operator: Operator, bob: SigningKey, policy: Callable[..., None]) -> None:
    """Not one's own by name or by key, not one whom the policy does not name; and who runs it must be known."""
    ada = signing_key(operator.folder, "ada2")
    await operator.run("request")
    planned = await operator.run("install", apply=False)
    approved(planned, ada, OPERATOR)
    policy(approvers=allowing(ada, OPERATOR))
    refused = await operator.run("install")
    assert (refused.outcome, "another plan" in refused.said) == (Outcome.REFUSED, False)
    policy(approvers=allowing(ada, "eve"))
    approved(planned, ada, "eve")
    assert (await operator.run("install", signing_key=str(ada.path))).outcome is Outcome.REFUSED
    policy()
    assert (await operator.run("install")).outcome is Outcome.REFUSED
    approved(planned, bob)
    assert "who runs this cannot be proven" in (await operator.run("install", signing_key="")).said
    assert (await operator.run("install")).outcome is Outcome.DONE


async def test_nobody_approves_her_own_plan_as_somebody_else(
    operator: Operator, bob: SigningKey, policy: Callable[..., None]
) -> None:
    """An approver who runs the change under a made-up name and key: where the policy lists the operators, they are none of them."""
    ada, made_up = signing_key(operator.folder, "ada"), signing_key(operator.folder, "made-up")
    policy(approvers=allowing(bob, BOB), operators=allowing(ada) + allowing(bob, BOB))
    await operator.run("request")
    planned = await operator.run("install", apply=False)
    approved(planned, bob)
    served = operator.server.served()
    for given, key in (
        ({"operator": "eve"}, made_up), ({}, made_up), ({"operator": "eve"}, bob), ({"operator": "eve"}, ada),
    ):  # fmt: skip
        refused = await operator.run("install", signing_key=str(key.path), **given)
        assert refused.outcome is Outcome.REFUSED
        assert f"its operators do not list {key.fingerprint} for {given.get('operator', OPERATOR)}" in refused.said
    herself = await operator.run("install", signing_key=str(bob.path), operator=BOB)
    assert (herself.outcome, "not approved by anybody else" in herself.said) == (Outcome.REFUSED, True)
    assert operator.server.served() == served
    done = await operator.run("install", signing_key=str(ada.path))
    assert (done.outcome, approval(done)) == (Outcome.DONE, f"required: approved by {BOB} ({bob.fingerprint})")


async def test_without_a_policy_it_is_advisory(operator: Operator, bob: SigningKey) -> None:
    """Nothing is refused; the record says whether somebody approved, as far as allowed_signers tells."""
    signers = operator.file("allowed", (allowing(bob, BOB) + allowing(signing_key(operator.folder, "ada"))).encode())
    operator.given |= {"signing_key": str(operator.folder / "ada"), "allowed_signers": signers}
    await operator.run("request")
    planned = await operator.run("install", apply=False)
    assert approval(planned) == "advisory: not approved by anybody else"
    approved(planned, bob)
    done = await operator.run("install")
    assert (done.outcome, approval(done)) == (
        Outcome.DONE,
        f"advisory: approved by {BOB} ({bob.fingerprint})",
    )


async def test_without_any_list_of_approvers_a_name_is_not_proven(operator: Operator, bob: SigningKey) -> None:
    """What lies there is told, and told as what it is."""
    await operator.run("request")
    approved(await operator.run("install", apply=False), bob)
    assert approval(await operator.run("install", apply=False)).startswith(
        f"advisory: signed as {BOB}, which is not proven"
    )


async def test_a_restore_needs_approval_too(operator: Operator, bob: SigningKey, policy: Callable[..., None]) -> None:
    """Each has a record of its own: the approval is taken over from the record of the plan."""
    policy(require_approval=False)
    await operator.replace()
    policy()
    planned = await operator.run("restore", apply=False)
    assert planned.outcome is Outcome.PLANNED
    assert "was not approved" in (await operator.run("restore")).said
    ada = signing_key(operator.folder, "ada")
    assert planned.record
    assert closed(open_record(planned.record.parent, planned.change_id, str), ada).seal
    approved(planned, bob)
    done = await operator.run("restore")
    assert (done.outcome, approval(done)) == (
        Outcome.DONE,
        f"required: approved by {BOB} ({bob.fingerprint}){UNPROVEN}",
    )
    assert done.record
    assert done.record != planned.record
    assert [each.name for each in (done.record / "files").glob("*.sig")]
    assert proof_of(verify(planned.record, allowed_signers=allowing(ada) + allowing(bob, BOB))) == (Proof.PROVEN, "")


@pytest.mark.usefixtures("policy")
async def test_who_cannot_write_the_record_approves_with_ssh_keygen(operator: Operator, bob: SigningKey) -> None:
    """The plan's file is handed over, and its signature laid into the record, as the guide says."""
    await operator.run("request")
    planned = await operator.run("install", apply=False)
    handed = Path(operator.file("plan.json", kept_plan(planned).encode()))
    assert hashlib.sha256(handed.read_bytes()).hexdigest() == planned.plan_sha256
    command = ["ssh-keygen", "-Y", "sign", "-n", "apstra-runbook-approval", "-f", str(bob.path), str(handed)]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    assert planned.record
    shutil.copy(f"{handed}.sig", planned.record / "files" / f"approval-{planned.plan_sha256[:16]}-{BOB}.sig")
    done = await operator.run("install")
    assert (done.outcome, f"approved by {BOB} ({bob.fingerprint})" in approval(done)) == (Outcome.DONE, True)
