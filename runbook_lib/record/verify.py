"""The proof of a sealed record, offline: what was altered, added, removed or cut off since, and what cannot be told."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runbook_lib.files import read_regular, sha256_of
from runbook_lib.models import CHANGE_ID, Check, Verdict, judged
from runbook_lib.record.archive import files_of, folders_and_others
from runbook_lib.record.journal import NAME, JournalUnusable, check_chain, event_of
from runbook_lib.record.seal import FOLDER, NAMESPACE, NUMBERED, REPORT, digest, statement_in
from runbook_lib.sshsig import NotSigned, signer_of

NOT_PROVEN = (
    "What this cannot prove: that whoever holds a signing key did not write the whole record anew; that no newer seal was taken away,\n"
    "unless `--expect` names it; and that what root on the server told was true."
)
MOST = 64 << 20  # bytes of a journal or a seal
_KEEP_IT = "keep the record as it is, and find out who could write it"
_SEAL = "a run that was killed has none: runbook seal; else keep it as it is, and find out who could write it"


@dataclass(frozen=True, slots=True)
class _Seal:
    """A seal as it lies there; `fault` says why it cannot be read."""

    name: str
    data: bytes
    statement: Mapping[str, Any]
    fault: str = ""

    @property
    def subjects(self) -> dict[str, str]:
        return {each["name"]: each["digest"]["sha256"] for each in self.statement["subject"]}

    @property
    def predicate(self) -> Mapping[str, Any]:
        return dict(self.statement["predicate"])


def verify(folder: Path, *, allowed_signers: str | None, expect: str = "") -> tuple[Check, ...]:
    """Holds a record against its seals.

    Args:
        folder: The record.
        allowed_signers: The text of such a file, which must come from outside the record; None: signatures are not checked.
        expect: SHA-256 of a seal that must be there, as it was printed when it was made; empty: none.

    Returns:
        A check a question; the record is proven when every one passes.
    """
    seals = tuple(_seals(folder))
    files = files_of(folder)
    journal = _read(files[NAME]) if NAME in files else None
    return (
        _check("Is the record sealed?", "a seal", [] if seals else ["no seal"], _SEAL),
        _signatures(folder, seals, allowed_signers),
        _looked(seals, _check("Do the seals follow one another?", "each names the one before", _sequence(folder, seals))),
        _looked(seals, _unaltered(_altered(files, seals, journal))),
        _check("Is there nothing that was not sealed?", "nothing", _added(files, seals, journal), _SEAL),
        _check("Do the journal's lines hang together?", "each carries the digest of the one before", _chain(journal, folder)),
        *([_expected(seals, expect)] if expect else []),
    )  # fmt: skip


def _check(question: str, expected: str, faults: Iterable[str], todo: str = _KEEP_IT) -> Check:
    faults = tuple(faults)
    found = "; ".join(faults) or expected
    return judged(question, expected, found, good=not faults, source="the record's seals", todo=todo)


def _looked(seals: Sequence["_Seal"], check: Check) -> Check:
    """The check; without a seal it could not be made."""
    return check if seals else replace(check, found="there is no seal", verdict=Verdict.UNKNOWN)


def altered(folder: Path, *, repairs: bool = True) -> tuple[str, ...]:
    """What is not as the seals of a record or the lines of its journal say, but for the report, which every seal makes anew.

    Args:
        folder: The record.
        repairs: Whether a file is told, too, that is another one only by repairs that the journal tells of.
    """
    seals, files = tuple(_seals(folder)), files_of(folder)
    journal = _read(files[NAME]) if NAME in files else None
    found = [each for each, repaired in _altered(files, seals, journal).items() if repairs or not repaired]
    faults = (*_sequence(folder, seals), *found, *_chain(journal, folder))
    return tuple(each for each in faults if not each.startswith(f"{REPORT}: "))


def _seals(folder: Path) -> Iterator[_Seal]:
    try:
        names = sorted(each.name for each in (folder / FOLDER).iterdir() if NUMBERED.fullmatch(each.name))
    except OSError:
        return
    for name in names:
        data = _read(folder / FOLDER / name)
        try:
            statement = statement_in(data or b"")
            found = _Seal(f"{FOLDER}/{name}", data or b"", statement)
            _ = found.subjects, range(found.predicate["journal"]["lines"]), found.predicate["operator"]
        except (ValueError, KeyError, TypeError):
            yield _Seal(f"{FOLDER}/{name}", data or b"", {}, "is no seal any more")
        else:
            yield found


def _read(path: Path) -> bytes | None:
    """A file's bytes; None for what is no file of ours: a link, a pipe, one that cannot be read or has no end."""
    try:
        return read_regular(path, MOST, follow=False)
    except OSError:
        return None


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""


def _signatures(folder: Path, seals: Sequence[_Seal], allowed_signers: str | None) -> Check:
    question, expected = "Is every seal signed by its operator?", "a signature by a key of allowed_signers"
    if allowed_signers is None:
        return Check(question, expected, "not looked at: no allowed signers were given", Verdict.UNKNOWN, "the record's seals",
                     "give --allowed-signers, a file that does not come from the record")  # fmt: skip
    faults, signed = [], []
    for each in seals:
        try:
            signed.append(_signer(folder, each, allowed_signers))
        except NotSigned as error:
            faults.append(f"{each.name}: {error}")
    found = "; ".join(faults) or ", ".join(dict.fromkeys(signed)) or "no seal"
    return judged(
        question, expected, found, good=bool(seals) and not faults, source="the record's seals", todo=_KEEP_IT
    )


def _signer(folder: Path, each: _Seal, allowed_signers: str) -> str:
    """Who signed a seal, with which key.

    Raises:
        NotSigned: Nobody who was to.
    """
    signature = _read(folder / f"{each.name}.sig")
    if each.fault or signature is None:
        raise NotSigned(each.fault or "has no signature")
    operator = str(each.predicate["operator"])
    key = signer_of(each.data, signature, principal=operator, allowed_signers=allowed_signers, namespace=NAMESPACE)
    return f"{operator} ({key})"


def _sequence(folder: Path, seals: Sequence[_Seal]) -> Iterator[str]:
    before: _Seal | None = None
    # a copy may bear any name, but not that of another record
    first = folder.name if CHANGE_ID.fullmatch(folder.name) or not seals else seals[0].predicate.get("change_id")
    for number, each in enumerate(seals, 1):
        named = {} if each.fault else each.predicate.get("before") or {}
        there: Mapping[str, Any] = {"name": before.name, "digest": {"sha256": digest(before.data)}} if before else {}
        if each.name != f"{FOLDER}/{number:04}.json":
            yield f"{FOLDER}/{number:04}.json: removed"
            return
        if not each.fault and named != there:
            yield f"{each.name}: the seal before it is not the one that it names"
        if not each.fault and each.predicate.get("change_id") != first:
            yield f"{each.name}: speaks of the record {each.predicate.get('change_id')}"
        before = each


def _unaltered(faults: Mapping[str, bool]) -> Check:
    """The check of what was sealed. It does not pass for a repair either.

    The digest of a seal in a ticket holds even whoever has the key; a journal that they write themselves must not set it aside.
    """
    check = _check("Is everything that was sealed as it was?", "every digest the same", faults)
    if not faults or not all(faults.values()):
        return check
    todo = "ask who sealed it what was taken out: the file as it was is gone, and that nothing else was changed cannot be proven"
    return replace(check, verdict=Verdict.WARN, todo=todo)


def _altered(files: Mapping[str, Path], seals: Sequence[_Seal], journal: bytes | None) -> Mapping[str, bool]:
    """What is not as a seal says, each named once, and whether the journal tells of it as a repair.

    The report is written anew with every seal, so that the newest alone speaks of it.
    """
    faults = {f"{each.name}: {each.fault}": False for each in seals if each.fault}
    good = [each for each in seals if not each.fault]
    for each in good:
        for name, wanted in each.subjects.items():
            if name == NAME:
                faults |= dict.fromkeys(_cut(journal, each), False)
            elif name != REPORT or each is good[-1]:
                if name not in files:
                    faults[f"{name}: removed"] = False
                elif (now := _digest(files[name])) != wanted:
                    repaired = _repaired(name, wanted, now, good, journal)
                    faults[repaired or f"{name}: altered"] = bool(repaired)
    return faults


def _repaired(name: str, sealed: str, now: str, seals: Sequence[_Seal], journal: bytes | None) -> str:
    """How a file became another than was sealed, where one repair after the other in the journal leads to it as it is; else empty."""
    known, at = sealed, ""
    for event in map(event_of, (journal or b"").split(b"\n")):
        if (event.get("event"), event.get("file"), event.get("before")) == ("repair", name, known):
            known, at = str(event.get("after")), str(event["at"])
    if not at or known != now:
        return ""
    by = next(
        (
            f"sealed so by {each.predicate['operator']} in {each.name}"
            for each in seals
            if each.subjects.get(name) == now
        ),
        "not sealed since",
    )
    return f"{name}: altered, as the journal says (repair, last {at[:19]}Z, before sha256 {sealed}, after sha256 {now}), {by}"


def _cut(journal: bytes | None, each: _Seal) -> Iterator[str]:
    """What happened to the lines of the journal that a seal covers."""
    lines, there = each.predicate["journal"]["lines"], (journal or b"").split(b"\n")
    if journal is None:
        yield f"{NAME}: removed"
    elif len(there) - 1 < lines:
        yield f"{NAME}: cut off after line {len(there) - 1} of {lines}"
    elif digest(b"".join(line + b"\n" for line in there[:lines])) != each.subjects[NAME]:
        yield f"{NAME}: altered within its first {lines} lines"


def _added(files: Mapping[str, Path], seals: Sequence[_Seal], journal: bytes | None) -> Iterator[str]:
    known = {NAME, *(name for each in seals for name in (each.name, f"{each.name}.sig"))}
    good = [each for each in seals if not each.fault]
    for each in good:
        known |= each.subjects.keys()
    yield from (f"{name}: {_stranger(files[name])}" for name in sorted(files.keys() - known))
    lines, there = (good[-1].predicate["journal"]["lines"] if good else 0), (journal or b"").split(b"\n")
    more = len(there) - lines - (there[-1] == b"")
    if more > 0:
        yield f"{NAME}: {more} line{'' if more == 1 else 's'} after line {lines}"


def _stranger(path: Path) -> str:
    """What it is that no seal covers; of a folder nothing but its last one can be named, and only where it holds no file."""
    if path.is_symlink() or not path.is_dir():
        return "added"
    return "a folder that cannot be read" if folders_and_others(path) is None else "a folder, added"


def _chain(journal: bytes | None, folder: Path) -> Iterator[str]:
    if journal is None:
        yield "there is none"
        return
    try:
        check_chain(journal.splitlines(), folder / NAME)
    except JournalUnusable as error:
        yield error.what


def _expected(seals: Sequence[_Seal], expect: str) -> Check:
    number = next((index for index, each in enumerate(seals, 1) if digest(each.data) == expect), 0)
    found = f"seal {number} of {len(seals)}" if number else "it is not there: removed, or of another record"
    return judged("Is the seal there that was noted elsewhere?", expect, found, good=bool(number), source="--expect",
                  todo="a seal that is gone took the newest files with it: find the record's other copy")  # fmt: skip
