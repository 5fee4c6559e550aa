"""The policy of the operator's host: root's alone, strict, and never passed over when it cannot be used."""

import os
from pathlib import Path

import pytest

from runbook_lib.errors import Refused
from runbook_lib.policy import Policy, read_policy
from tests.record.records import as_nobody
from tests.record.sealing import allowing, signing_key

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can write a policy")


def written(folder: Path, text: str) -> Path:
    """A policy file with this text."""
    path = folder / "policy.yaml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def refused(path: Path) -> str:
    """What is said of a policy that cannot be used."""
    with pytest.raises(Refused) as caught:
        read_policy(path)
    return str(caught.value)


def test_what_it_may_say(tmp_path: Path) -> None:
    """None, an empty one, one that asks for approval by the keys of a file."""
    assert read_policy(tmp_path / "none") is None
    assert read_policy(written(tmp_path, "")) == Policy()
    signers = allowing(signing_key(tmp_path), "bob")
    (tmp_path / "approvers").write_text(signers)
    text = f"require_approval: true\napprovers: {tmp_path}/approvers\n"
    assert read_policy(written(tmp_path, text)) == Policy(require_approval=True, approvers=signers)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("require_approval: yes please\n", "require_approval: Input should be a valid boolean"),
        ("requires_approval: true\n", "requires_approval: Extra inputs are not permitted"),
        ("require_approval: true\n", "approvers names no signer"),
        ("- true\n", "holds no names and values"),
        ("a: [", "is no YAML"),
        ("approvers: /nonexistent/approvers\n", "No such file"),
    ],
)
def test_one_that_cannot_be_used_stops_the_run(tmp_path: Path, text: str, says: str) -> None:
    """It says what is wrong with it, and who is to mend it."""
    said = refused(written(tmp_path, text))
    assert says in said
    assert "whoever administers this host is to mend it" in said


def test_one_that_cannot_be_seen_is_not_passed_over(tmp_path: Path) -> None:
    """A link that leads nowhere, a folder that is none, one that the operator may not enter: there is a policy, and it cannot be used."""
    (tmp_path / "policy.yaml").symlink_to(tmp_path / "nowhere")
    assert "cannot be used" in refused(tmp_path / "policy.yaml")
    (tmp_path / "file").write_text("")
    assert "cannot be used" in refused(tmp_path / "file" / "policy.yaml")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    path = written(closed, "require_approval: true\n")
    tmp_path.chmod(0o755)
    with as_nobody():
        assert "cannot be used" in refused(path)


def test_one_that_others_can_write_is_none(tmp_path: Path) -> None:
    """The file, its folder, the file of approvers: whoever can write one of them could approve."""
    (tmp_path / "approvers").write_text(allowing(signing_key(tmp_path), "bob"))
    path = written(tmp_path, f"require_approval: true\napprovers: {tmp_path}/approvers\n")
    for each in (path, tmp_path / "approvers", tmp_path):
        before = each.stat().st_mode
        each.chmod(before | 0o020)
        assert "others than root can write it" in refused(path)
        each.chmod(before)
        os.chown(each, 1, -1)
        assert "others than root can write it" in refused(path)
        os.chown(each, 0, -1)
    assert read_policy(path)
