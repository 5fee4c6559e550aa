"""Approval of a plan by another person: an SSH signature over the very bytes whose digest is the plan's."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

from runbook_lib.files import read_regular
from runbook_lib.record.archive import Record
from runbook_lib.record.journal import Event, read
from runbook_lib.record.seal import digest
from runbook_lib.sshsig import NotSigned, SigningKey, signer_of

NAMESPACE = "apstra-runbook-approval"
APPROVER = re.compile(r"[A-Za-z0-9@._+-]+")  # a principal of allowed_signers that can stand in a file's name
_NAMED = re.compile(r"approval-([0-9a-f]{16})-(" + APPROVER.pattern + r")(?:-\d+)?\.sig")
SIGNED = ("purpose", "script", "stdin", "undo", "time_limit_s")  # of each command, besides its step
LARGEST_SIGNATURE = 1 << 16
LARGEST_PLAN = 1 << 24
SHOWN = 40  # lines of a difference


@dataclass(frozen=True, slots=True)
class Approver:
    """Who approved a plan, with which key."""

    name: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})"


@dataclass(frozen=True, slots=True)
class Approval:
    """An approval that lies in a record.

    Attributes:
        file: Its name in `files/`.
        size: Of that file, bytes.
        plan: SHA-256 of the plan, lower-case hex.
        by: Whose it is.
    """

    file: str
    size: int
    plan: str
    by: Approver

    def __str__(self) -> str:
        return f"an approval by {self.by}"

    @property
    def noted(self) -> dict[str, str]:
        """The fields of the event by which the journal tells that it was given."""
        return {
            "plan": self.plan, "approver": self.by.name, "key": self.by.fingerprint, "file": self.file,
            "text": f"{self.by} approved the plan sha256:{self.plan}",
        }  # fmt: skip

    def tells(self, event: Event) -> bool:
        """Whether an event says nothing but that this approval was given and kept."""
        said = {name: value for name, value in event.items() if name not in {"n", "at", "prev"}}
        return said in ({"event": "approved", **self.noted}, {"event": "file", "name": self.file, "bytes": self.size})


def last_plan(folder: Path) -> tuple[Event, Path] | None:
    """The newest plan of a record that can be approved, as the journal tells it, and the file of its bytes."""
    for event in reversed(read(folder)):
        if event["event"] == "plan" and event.get("file"):
            return event, folder / "files" / Path(str(event["file"])).name
    return None


def approve(record: Record, plan: Event, document: bytes, *, approver: str, key: SigningKey) -> None:
    """Signs a plan's bytes and keeps the signature beside them.

    Args:
        record: The record that holds the plan.
        plan: The plan as the journal tells it.
        document: The bytes of its file, whose SHA-256 is the plan's.
        approver: Who approves, as `allowed_signers` names them.
        key: Their key.

    Raises:
        NotSigned: The bytes are not those of the plan, or not what was shown of it, or the key did not sign.
    """
    if digest(document) != plan["sha256"]:
        raise NotSigned(f"files/{plan['file']} is not the plan that the journal tells of")
    if not _shown(plan, document, record.folder.name):
        raise NotSigned(f"files/{plan['file']} holds other commands than the journal shows")
    signature = key.sign(document, NAMESPACE)
    file = record.add_file(f"approval-{plan['sha256'][:16]}-{approver}.sig", signature)
    made = Approval(file.name, len(signature), plan["sha256"], Approver(approver, key.fingerprint))
    said = made.noted
    record.journal.write(
        "approved", plan=said["plan"], approver=said["approver"], key=said["key"], file=said["file"], text=said["text"]
    )


def _shown(plan: Event, document: bytes, change_id: str) -> bool:
    """Whether the commands that the journal shows are those of the plan: who may write there could show others than are signed."""
    try:
        shown = [{name: each[name] for name in ("step", *SIGNED)} for each in plan["commands"]]
        return bool(json.loads(document.replace(b"<change-id>", change_id.encode()))["commands"] == shown)
    except (LookupError, TypeError, ValueError, RecursionError):
        return False


def stands_on(document: bytes) -> tuple[tuple[str, str], ...]:
    """What a plan stands on besides its commands, as its own bytes say: a journal may tell of another server than is signed."""
    try:
        held = json.loads(document)
        return tuple((str(name), json.dumps(value)) for name, value in held.items() if name != "commands")
    except (ValueError, AttributeError, RecursionError):
        return ()


def approvers(folder: Path, document: bytes, allowed_signers: str) -> Iterator[Approver]:
    """Everybody whose approval of a plan lies in a record and is worth something.

    Args:
        folder: The record.
        document: The plan's bytes.
        allowed_signers: Who may approve, the text of such a file.
    """
    names = (path.name for path in sorted((folder / "files").glob("approval-*.sig")))
    return (each.by for each in proven(folder, names, document, allowed_signers))


def proven(folder: Path, names: Iterable[str], document: bytes, allowed_signers: str) -> Iterator[Approval]:
    """Those files of a record that are an approval of a plan by somebody who may approve.

    Args:
        folder: The record.
        names: Of the files in its `files/`.
        document: The plan's bytes.
        allowed_signers: Who may approve, the text of such a file.
    """
    plan = digest(document)
    for file in names:
        named = _NAMED.fullmatch(file)
        if named is None or not plan.startswith(named[1]):
            continue
        # a number may be add_file's, or the person's
        for name in dict.fromkeys([named[2], re.sub(r"-\d+$", "", named[2])]):
            try:
                signature = read_regular(folder / "files" / file, LARGEST_SIGNATURE, follow=False)
                key = signer_of(
                    document, signature, principal=name, allowed_signers=allowed_signers, namespace=NAMESPACE
                )
            except (NotSigned, OSError, ValueError):
                continue
            yield Approval(file, len(signature), plan, Approver(name, key))


def claimed(folder: Path, document: bytes) -> tuple[str, ...]:
    """Whose approvals of a plan lie in a record by their files' names; nothing is proven by that."""
    named = (_NAMED.fullmatch(path.name) for path in sorted((folder / "files").glob("approval-*.sig")))
    return tuple(each[2] for each in named if each and digest(document).startswith(each[1]))


def bring(record: Record, document: bytes) -> None:
    """Copies approvals of the same plan from the other records: every restore has a record of its own, and so has its plan."""
    for path in record.folder.parent.glob(f"*/files/approval-{digest(document)[:16]}-*.sig"):
        if path.parents[1] != record.folder:
            try:
                signature = read_regular(path, LARGEST_SIGNATURE, follow=False)  # a link could lead to anybody's secret
            except OSError as error:  # whoever may write there keeps no other approval from counting
                record.journal.write("note", text=f"an approval of this plan cannot be read: {path}: {error.strerror}")
            else:
                record.add_file(path.name, signature)


def last_approved(folder: Path, allowed_signers: str) -> bytes | None:
    """The bytes of the plan that was approved last."""
    for event in reversed(read(folder)):
        if event["event"] == "plan" and event.get("file"):
            path = folder / "files" / Path(str(event["file"])).name
            with suppress(OSError):
                document = read_regular(path, LARGEST_PLAN)
                if next(approvers(folder, document, allowed_signers), None):
                    return document
    return None


def difference(approved: bytes, now: bytes) -> str:
    """What is another in a plan than in the one that was approved, as lines that begin with - and +."""
    before, after = (
        json.dumps(_lines(json.loads(each)), indent=1, ensure_ascii=False).splitlines() for each in (approved, now)
    )
    changed = [
        line for line in unified_diff(before, after, lineterm="", n=0) if not line.startswith(("---", "+++", "@@"))
    ]
    more = len(changed) - SHOWN
    return "\n".join([*changed[:SHOWN], *([f"… and {more} lines more"] if more > 0 else [])])


def _lines(value: object) -> object:
    """Long texts line by line, so that a difference shows the line and not the whole script."""
    if isinstance(value, str) and "\n" in value:
        return value.splitlines()
    if isinstance(value, Mapping):
        return {name: _lines(each) for name, each in value.items()}
    return [_lines(each) for each in value] if isinstance(value, list) else value
