"""What is refused before anything is contacted: keys that could not seal, and signers who could not be verified."""

import base64
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import asyncssh
import pytest
from asyncssh.packet import String

from runbook_lib.errors import UnusableParameters
from runbook_lib.session import Prepared, prepare
from tests.agents import agent
from tests.record.sealing import OPERATOR, allowing, signing_key


def prepared(folder: Path, **given: object) -> Prepared:
    """A run with these parameters."""
    return prepare("audit", {"host": "192.0.2.1", "operator": OPERATOR, **given}, folder, None)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with the operator's key, and a file that allows it."""
    (tmp_path / "allowed").write_text(allowing(signing_key(tmp_path)))
    return tmp_path


def test_a_key_and_its_public_half(keys: Path) -> None:
    """Either can be named, by a path from the project's folder; without a key nothing is sealed."""
    private, public = prepared(keys, signing_key="key").signing, prepared(keys, signing_key="key.pub").signing
    assert private
    assert public
    assert private.fingerprint == public.fingerprint
    assert prepared(keys, allowed_signers="allowed").signing is None


def wrong_key(folder: Path, name: str) -> str:
    """What is said of a signing key."""
    with pytest.raises(UnusableParameters) as caught:
        prepared(folder, signing_key=name)
    (fault,) = caught.value.faults
    assert fault.field == "signing_key"
    return f"{fault.wrong}: {fault.write}"


def test_a_public_half_whose_key_is_nowhere(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No agent, an agent without it, a private half beside it that is locked or another's: it could not sign at the end."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(keys / "no agent"))
    private, public = (keys / "key").read_bytes(), prepared(keys, signing_key="key.pub").signing
    assert public
    (keys / "key").unlink()
    said = wrong_key(keys, "key.pub")
    assert f"is the public half of {public.fingerprint}, which no agent holds here" in said
    assert "ssh-add its private half first" in said
    signing_key(keys, "other")
    shutil.copy(keys / "other", keys / "key")
    assert "which no agent holds" in wrong_key(keys, "key.pub")
    (keys / "key").write_bytes(private)
    (keys / "key").chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "a word", "-f", keys / "key"], check=True, capture_output=True)
    assert "which no agent holds" in wrong_key(keys, "key.pub")


def test_a_public_half_that_the_agent_holds(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked before anything is contacted."""
    (keys / "key").rename(keys / "elsewhere")
    with agent(keys) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        assert "which no agent holds" in wrong_key(keys, "key.pub")
        subprocess.run(["ssh-add", "-q", keys / "elsewhere"], check=True, capture_output=True)
        assert prepared(keys, signing_key="key.pub").signing


def test_a_token_s_public_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the token is there is not asked: that would want a finger."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "no agent"))
    kind = "sk-ssh-ed25519@openssh.com"
    blob = String(kind) + String(bytes(32)) + String("ssh:")
    (tmp_path / "token.pub").write_text(f"{kind} {base64.b64encode(blob).decode()}\n")
    assert prepared(tmp_path, signing_key="token.pub").signing


@pytest.mark.parametrize("kind", ["ssh-ed448", "ssh-dss"])
def test_kinds_of_keys_that_openssh_signs_nothing_by(tmp_path: Path, kind: str) -> None:
    """Neither half is taken: nobody could verify such a seal with stock tools."""
    made = asyncssh.generate_private_key(kind)
    (tmp_path / "key").write_bytes(made.export_private_key())
    (tmp_path / "key.pub").write_bytes(made.export_public_key())
    for name in ("key", "key.pub"):
        assert f"is a key of the kind {kind}, by which OpenSSH signs no files" in wrong_key(tmp_path, name)


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"signing_key": "none"}, "signing_key", "cannot be read: No such file"),
        ({"signing_key": "allowed"}, "signing_key", "is no SSH key"),
        ({"signing_key": "/dev/zero"}, "signing_key", "is no regular file"),
        ({"allowed_signers": "none"}, "allowed_signers", "cannot be read: No such file"),
        ({"allowed_signers": "key"}, "allowed_signers", "cannot be used, line 1: what follows the name is no key"),
        ({"signing_key": "key", "operator": ""}, "operator", "is empty, and a seal bears it"),
        ({"signing_key": "key", "operator": "Ada Lovelace"}, "operator", "cannot stand in a file of allowed signers"),
        ({"signing_key": "key", "operator": "eve", "allowed_signers": "allowed"}, "allowed_signers", "for eve, so that no seal"),
    ],
)  # fmt: skip
def test_what_could_not_be_verified(keys: Path, given: Mapping[str, object], field: str, says: str) -> None:
    """Each fault names its field; the line that is missing is given whole."""
    with pytest.raises(UnusableParameters) as caught:
        prepared(keys, **given)
    (fault,) = caught.value.faults
    assert (fault.field, says in fault.wrong) == (field, True), fault
    if "eve" in says:
        assert f"eve {(keys / 'key.pub').read_text().strip()}" in fault.write
