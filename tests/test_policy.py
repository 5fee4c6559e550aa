"""The policy of the operator's host: root's alone, strict, and never passed over when it cannot be used."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook_lib.errors import Refused
from runbook_lib.policy import Policy, read_policy
from tests.record.records import as_nobody
from tests.record.sealing import allowing, signing_key

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can write a policy")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with nothing above it that others can write, as everything in /tmp has."""
    with tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        yield Path(folder)


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
    operators = signers + allowing(signing_key(tmp_path, "ada"), "ada")  # bob runs changes, too
    (tmp_path / "operators").write_text(operators)
    text += f"operators: {tmp_path}/operators\n"
    assert read_policy(written(tmp_path, text)) == Policy(require_approval=True, approvers=signers, operators=operators)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("require_approval: yes please\n", "require_approval: Input should be a valid boolean"),
        ("requires_approval: true\n", "requires_approval: Extra inputs are not permitted"),
        ("require_approval: true\n", "approvers names no signer"),
        ("- true\n", "holds no names and values"),
        ("a: [", "is no YAML"),
        ("approvers: /nonexistent/approvers\n", "No such file"),
        ("approvers: approvers\n", "approvers is the relative path approvers: write the whole of it"),
        ("operators: ../operators\n", "operators is the relative path ../operators: write the whole of it"),
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
    with as_nobody():
        assert "cannot be used" in refused(path)


def test_one_that_others_can_write_is_none(tmp_path: Path) -> None:
    """The files, their folder and the one above it: whoever can write one of them could approve."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    for name in ("approvers", "operators"):
        (folder / name).write_text(allowing(signing_key(tmp_path), "bob"))
    path = written(folder, f"require_approval: true\napprovers: {folder}/approvers\noperators: {folder}/operators\n")
    for each in (path, folder / "approvers", folder / "operators", folder, tmp_path):
        before = each.stat().st_mode
        each.chmod(before | 0o020)
        assert "others than root can write it" in refused(path)
        each.chmod(before)
        os.chown(each, 1, -1)
        assert "others than root can write it" in refused(path)
        os.chown(each, 0, -1)
    assert read_policy(path)


def test_one_that_lies_among_what_everybody_can_write_is_none() -> None:
    """Though /tmp is root's, and keeps others from what is root's there: it is no place for a policy."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        assert "cannot be used: /tmp\nwhy: others than root can write it" in refused(written(Path(folder), ""))


def test_no_link_stands_in_the_way(tmp_path: Path) -> None:
    """Where it leads could be anybody's: the policy itself, the approvers, a folder above them."""
    real = tmp_path / "real"
    real.mkdir(mode=0o755)
    (real / "approvers").write_text(allowing(signing_key(tmp_path), "bob"))
    (tmp_path / "folder").symlink_to(real)
    (real / "linked").symlink_to(real / "approvers")
    text = f"require_approval: true\napprovers: {real}/approvers\n"
    assert read_policy(written(real, text))
    (tmp_path / "policy.yaml").symlink_to(real / "policy.yaml")
    for path in (tmp_path / "policy.yaml", tmp_path / "folder/policy.yaml"):
        assert "it is a link: write where it leads" in refused(path)
    for approvers in ("real/linked", "folder/approvers"):
        assert "it is a link" in refused(written(real, f"approvers: {tmp_path}/{approvers}\n"))


def test_nobody_has_two_names(tmp_path: Path) -> None:
    """Who could approve as one and run as another would need nobody: a pattern, two names a line, a key listed twice."""
    ada, bob = signing_key(tmp_path, "ada"), signing_key(tmp_path, "bob")
    text = f"require_approval: true\napprovers: {tmp_path}/approvers\noperators: {tmp_path}/operators\n"
    for approvers, operators, says in (
        (allowing(bob, "*@example.net"), allowing(ada, "ada"), "approvers line 1: *@example.net is not one name"),
        (allowing(bob, "bob"), allowing(ada, "ada,carl"), "operators line 1: ada,carl is not one name"),
        (allowing(bob, "bob") + allowing(ada, "eve"), allowing(ada, "ada"), "operators line 1: the key of ada is listed for eve, too"),
        (allowing(bob, "bob") + allowing(bob, "ada"), "", "approvers line 2: the key of ada is listed for bob, too"),
        (allowing(bob, "bob"), "ada ssh-ed25519 AAAA\n", "operators cannot be used, line 1"),
    ):  # fmt: skip
        (tmp_path / "approvers").write_text(approvers)
        (tmp_path / "operators").write_text(operators)
        used = text if operators else text.partition("operators")[0]
        assert says in refused(written(tmp_path, used))
