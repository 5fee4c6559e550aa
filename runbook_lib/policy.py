"""The policy of whoever administers the operator's host: a file that an operator cannot write, and parameters cannot loosen."""

import os
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
_WHO_MENDS_IT = (
    "whoever administers this host is to mend it: the operator cannot, and the run does not go on without it"
)


class _File(BaseModel):
    """What the file may say."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)
    require_approval: bool = False
    approvers: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of every run from this host.

    Attributes:
        require_approval: Whether install and restore need somebody else's approval of their plan.
        approvers: Who may approve, the text of an allowed-signers file; empty where nobody was named.
    """

    require_approval: bool = False
    approvers: str = ""


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
        signers = _protected(Path(given.approvers)) if given.approvers else ""
        if signers or given.require_approval:
            check_allowed(signers)
    except OSError as error:
        raise Refused(
            f"the policy of this host cannot be used: {error.filename}", why=str(error.strerror), todo=_WHO_MENDS_IT
        ) from None
    except (ValueError, UnusableParameters) as error:
        raise Refused(f"the policy of this host cannot be used: {path}", why=_why(error), todo=_WHO_MENDS_IT) from None
    return Policy(given.require_approval, signers)


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
    if isinstance(error, UnusableParameters):
        return "; ".join(f"{each.field} {each.wrong}" for each in error.faults)
    return f"approvers {error}: write the path of an allowed-signers file"


def _protected(path: Path) -> str:
    """The text of a file that root alone can write, in a folder of which the same is true.

    Raises:
        OSError: It cannot be read, or others can write it.
        ValueError: It is no text.
    """
    for each in (path.parent, path):
        facts = each.stat()
        if facts.st_uid != 0 or stat.S_IMODE(facts.st_mode) & 0o022:
            raise PermissionError(1, "others than root can write it", os.fspath(each))
    return read_regular(path, LARGEST).decode()
