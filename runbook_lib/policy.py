"""The policy of whoever administers the operator's host: a file that an operator cannot write, and parameters cannot loosen."""

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from runbook_lib.errors import Refused, UnusableParameters
from runbook_lib.files import read_regular
from runbook_lib.parameters import read_yaml
from runbook_lib.sshsig import check_allowed

POLICY = Path("/etc/apstra-runbook/policy.yaml")
LARGEST = 1 << 20
_SEVERAL = re.compile(r"[,*?!]")
_WHO_MENDS_IT = (
    "whoever administers this host is to mend it: the operator cannot, and the run does not go on without it"
)


class _File(BaseModel):
    """What the file may say."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
    require_approval: bool = False
    approvers: str = ""
    operators: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of every run from this host.

    Attributes:
        require_approval: Whether install and restore need somebody else's approval of their plan.
        approvers: Who may approve, the text of an allowed-signers file; empty where nobody was named.
        operators: Who may apply what needs approval, the same; empty: anybody, under any name.
    """

    require_approval: bool = False
    approvers: str = ""
    operators: str = ""


def read_policy(path: Path = POLICY) -> Policy | None:
    """The policy of this host; None where there is none.

    Raises:
        Refused: It is there and cannot be used, or others than root can write it.
    """
    with suppress(PermissionError, NotADirectoryError):  # said below: it cannot be used
        try:
            path.lstat()
        except FileNotFoundError:
            return None
    try:
        given = _File.model_validate(read_yaml(_protected(path), name=str(path)))
        approvers = _signers("approvers", given.approvers, needed=given.require_approval)
        operators = _signers("operators", given.operators)
        _one_name_a_key(approvers, operators)
    except OSError as error:
        raise Refused(
            f"the policy of this host cannot be used: {error.filename}", why=str(error.strerror), todo=_WHO_MENDS_IT
        ) from None
    except (ValueError, UnusableParameters) as error:
        raise Refused(f"the policy of this host cannot be used: {path}", why=_why(error), todo=_WHO_MENDS_IT) from None
    return Policy(given.require_approval, approvers, operators)


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    if isinstance(error, UnusableParameters):
        return "; ".join(f"{each.field} {each.wrong}" for each in error.faults)
    return str(error)


def _signers(name: str, path: str, *, needed: bool = False) -> str:
    """The text of a file of allowed signers; empty where none is named.

    Raises:
        OSError: It cannot be read, or others can write it.
        ValueError: It is named by a relative path, which would lead where whoever runs this stands, or is none.
    """
    if not path and needed:
        raise ValueError(f"{name} names no signer: write the path of an allowed-signers file")
    if not path:
        return ""
    if not Path(path).is_absolute():
        raise ValueError(f"{name} is the relative path {path}: write the whole of it")
    text = _protected(Path(path))
    try:
        check_allowed(text)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
    return text


def _one_name_a_key(approvers: str, operators: str) -> None:
    """Holds that nobody bears two names here: the approver is another person than the operator only where a name is one.

    Raises:
        ValueError: A line has a pattern or several names, or a key has two.
    """
    names: dict[bytes, str] = {}
    for name, text in (("approvers", approvers), ("operators", operators)):
        for each in check_allowed(text) if text else ():
            if _SEVERAL.search(each.who):
                raise ValueError(
                    f"{name} line {each.number}: {each.who} is not one name: a policy names each person by one"
                )
            if names.setdefault(each.key, each.who) != each.who:
                raise ValueError(
                    f"{name} line {each.number}: the key of {each.who} is listed for {names[each.key]}, too"
                )


def _protected(path: Path) -> str:
    """The text of a file that root alone can write, replace or lead elsewhere, with every folder above it.

    Raises:
        OSError: It cannot be read, or others can write it, or a link stands in its path.
        ValueError: It is no text.
    """
    for each in (*reversed(path.parents), path):
        facts = each.lstat()
        if stat.S_ISLNK(facts.st_mode):
            raise PermissionError(1, "it is a link: write where it leads", os.fspath(each))
        if facts.st_uid != 0 or stat.S_IMODE(facts.st_mode) & 0o022:
            raise PermissionError(1, "others than root can write it", os.fspath(each))
    return read_regular(path, LARGEST, follow=False).decode()
