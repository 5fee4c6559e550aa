"""`runbook approve`, `seal` and `verify`: the approval of a plan, the seal over a record, and its proof."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runbook_lib import VERSION
from runbook_lib.cli.ending import heard
from runbook_lib.cli.given import all_records, ask, base, parameters, record_folder, values_of
from runbook_lib.errors import Refused, UnusableParameters
from runbook_lib.files import read_regular
from runbook_lib.models import Fault, Outcome
from runbook_lib.secrets import REGISTRY
from runbook_lib.tables import checks_table, summary_table, table
from runbook_lib.terminal import planned_table, show
from runbook_lib.text import plain

if TYPE_CHECKING:
    from runbook_lib.sshsig import SigningKey


@click.command()
@click.argument("record", type=click.Path(path_type=Path))
@click.option(
    "--mask",
    is_flag=True,
    help="First mask the secrets that are found in it; the journal says where. Verify goes on naming it where it was sealed.",
)
@parameters
def seal(record: Path, mask: bool, **given: Any) -> None:  # noqa: ANN401, FBT001 - click's options
    """Seal a record that is not sealed: of a run that was killed, or in which a secret was found.

    RECORD is a change id or a record's folder. The parameters are those of the run: its secrets are searched for once
    more, and signing_key seals.
    """
    from runbook_lib.record.archive import open_record  # noqa: PLC0415 - each command imports what it needs
    from runbook_lib.record.closing import close_record, mask_finds  # noqa: PLC0415
    from runbook_lib.record.seal import described  # noqa: PLC0415
    from runbook_lib.session import prepare  # noqa: PLC0415

    def sealing() -> tuple[Outcome, None]:
        folder = record_folder(record)
        whole = " sha256:" in described(folder)
        if whole and not mask:
            show(f"it is sealed: {described(folder)}")
            return Outcome.NOTHING_TO_DO, None
        prepared = prepare("audit", values_of(given["files"], given["inline"], given["pairs"]), base(), ask())
        if prepared.signing is None:
            raise UnusableParameters([Fault("signing_key", "is empty", "the SSH key that seals")])
        opened = open_record(folder.parent, folder.name, REGISTRY.redact)
        try:
            if mask and not mask_finds(opened, REGISTRY) and whole:
                show(f"nothing was found in it that can be masked, and it is sealed: {described(folder)}")
                return Outcome.NOTHING_TO_DO, None
            closed = close_record(opened, REGISTRY, operator=prepared.operator, key=prepared.signing, version=VERSION)
        finally:
            opened.journal.close()
        if closed.seal is None:
            todo = "" if mask else "look at what was found; `--mask` masks it, and the journal then says so"
            raise Refused(f"not sealed: {closed.why}", todo=todo)
        show(f"seal: {closed}")
        return Outcome.DONE, None

    outcome, _ = heard(sealing)
    sys.exit(outcome.exit_code)


@click.command()
@click.argument("record", type=click.Path(path_type=Path))
@click.option("--signing-key", type=click.Path(path_type=Path), required=True, metavar="FILE",
              help="Your SSH key, or the .pub of one in the agent.")  # fmt: skip
@click.option("--approver", required=True, metavar="NAME", help="Who you are, as allowed_signers names you.")
@click.option("--records-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where the records are.")
def approve(record: Path, signing_key: Path, approver: str, records_dir: Path | None) -> None:
    """Approve the newest plan of a record, as another person than the one who runs it.

    RECORD is a change id or a record's folder. Shows the plan that install or restore made with `apply: False`, and
    on a yes signs its digest. A run that applies is refused when its plan is another one by then.
    """
    from runbook_lib.record.approval import APPROVER, LARGEST_PLAN, last_plan, stands_on  # noqa: PLC0415
    from runbook_lib.record.approval import approve as sign  # noqa: PLC0415
    from runbook_lib.record.archive import open_record  # noqa: PLC0415
    from runbook_lib.record.summary import fields  # noqa: PLC0415
    from runbook_lib.sshsig import NotSigned  # noqa: PLC0415

    def approving() -> tuple[Outcome, None]:
        if not APPROVER.fullmatch(approver):
            raise click.BadParameter(
                f"{approver!r} is no such name; write letters, digits and @._+- alone", param_hint="--approver"
            )
        folder = record_folder(record, records_dir)
        found = last_plan(folder)
        if found is None:
            raise Refused(
                "there is no plan to approve in this record", todo="run install or restore with apply False first"
            )
        plan, path = found
        summary = fields(folder)
        if approver == summary["operator"]:
            raise click.BadParameter(f"{approver} runs this change; somebody else approves it", param_hint="--approver")
        show(f"{summary_table(summary)!r}\n")
        show(f"{planned_table(plan)!r}\n")
        document = read_regular(path, LARGEST_PLAN)
        show(f"{table('what this plan stands on, as it is signed', ('', 'value'), stands_on(document))!r}\n")
        key = _signing_key(signing_key)
        click.confirm(plain(f"Do you, {approver}, approve this plan for change {folder.name}?"), abort=True)
        opened = open_record(folder.parent, folder.name, REGISTRY.redact)
        try:
            sign(opened, plan, document, approver=approver, key=key)
        except (NotSigned, OSError) as error:
            raise Refused("the plan was not approved", why=str(error)) from None
        finally:
            opened.journal.close()
        show(f"approved: plan sha256:{plan['sha256']} by {approver} ({key.fingerprint})")
        return Outcome.DONE, None

    outcome, _ = heard(approving)
    sys.exit(outcome.exit_code)


def _signing_key(file: Path) -> "SigningKey":
    from runbook_lib.sshsig import load_signing_key  # noqa: PLC0415

    try:
        return load_signing_key(file)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise click.BadParameter(f"{file}: {why}", param_hint="--signing-key") from None


@click.command()
@click.argument("record", type=click.Path(path_type=Path), required=False)
@click.option("--all", "every", is_flag=True, help="Every record in --records-dir, a row each.")
@click.option("--allowed-signers", type=click.Path(path_type=Path), metavar="FILE",
              help="Whose keys may seal, as ssh-keygen -Y verify takes it; never a file out of the record.")  # fmt: skip
@click.option("--expect", default="", metavar="DIGEST", help="SHA-256 of a seal that must be there, from the ticket.")
@click.option("--records-dir", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
              help="Where the records are; default: records in the project.")  # fmt: skip
def verify(
    record: Path | None,
    every: bool,  # noqa: FBT001 - as click gives it
    allowed_signers: Path | None,
    expect: str,
    records_dir: Path | None,
) -> None:
    """Prove that a record is as it was sealed; says what was altered, added, removed or cut off.

    RECORD is a change id or a record's folder. Needs no server and no network. The last line says what came of it: proven,
    not sealed yet (nobody altered what is sealed; runbook seal), not proven (who sealed it is not known), or ALTERED.
    Exit status 0: proven; 1: not; 2: it could not be looked at.
    """
    from runbook_lib.record.verify import NOT_PROVEN  # noqa: PLC0415

    if bool(record) == every or (every and expect):
        raise click.UsageError("give one record, with --expect if you have a digest, or --all")
    signers = _text(allowed_signers) if allowed_signers else None
    proven, said = (
        _verify_all(records_dir, signers)
        if record is None
        else _verify_one(record, records_dir, signers, _digest(expect))
    )
    show(f"\n{NOT_PROVEN}\n\n{said}")
    sys.exit(0 if proven else 1)


def _verify_one(record: Path, records_dir: Path | None, signers: str | None, expect: str) -> tuple[bool, str]:
    from runbook_lib.record.verify import NEXT, Proof, proof_of  # noqa: PLC0415
    from runbook_lib.record.verify import verify as checked  # noqa: PLC0415

    folder = record_folder(record, records_dir)
    checks = checked(folder, allowed_signers=signers, expect=expect)
    show(f"{checks_table(f'the record {folder.resolve().name}', checks)!r}")
    proof, why = proof_of(checks)
    return proof is Proof.PROVEN, f"{proof}{why and f': {why}, '}{NEXT[proof]}"


def _verify_all(records_dir: Path | None, signers: str | None) -> tuple[bool, str]:
    from runbook_lib.record.verify import Proof, proof_of  # noqa: PLC0415
    from runbook_lib.record.verify import verify as checked  # noqa: PLC0415

    where = records_dir or base() / "records"
    rows = [
        (each.change_id, *proof_of(checked(where / each.change_id, allowed_signers=signers)))
        for each in all_records(where)
    ]
    proofs = [proof for _, proof, _ in rows]
    said = ", ".join(f"{number} {proof}" for proof in Proof if (number := proofs.count(proof)) or proof is Proof.PROVEN)
    title = f"{len(rows)} records, {said}"
    show(f"{table(title, ('change', 'verdict', 'why'), rows, keep=('change', 'verdict'))!r}")
    return all(
        each is Proof.PROVEN for each in proofs
    ), f"{max(proofs, key=list(Proof).index, default=Proof.PROVEN)}: {title}"


def _text(file: Path) -> str:
    from runbook_lib.sshsig import check_allowed  # noqa: PLC0415

    try:
        text = (
            file.read_bytes().decode()
        )  # as it is: what Python takes for the end of a line is not all one to ssh-keygen
        check_allowed(text)
    except OSError as error:
        raise click.BadParameter(f"{file} cannot be used: {error.strerror}", param_hint="--allowed-signers") from None
    except ValueError as error:
        raise click.BadParameter(f"{file} {error}", param_hint="--allowed-signers") from None
    return text


def _digest(text: str) -> str:
    digest = text.strip().lower().removeprefix("sha256:")
    if text and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):  # noqa: PLR2004 - hex digits of a SHA-256
        raise click.BadParameter(
            "is no SHA-256 digest; write its 64 hex digits, with or without sha256:", param_hint="--expect"
        )
    return digest
