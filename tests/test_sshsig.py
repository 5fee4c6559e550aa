"""Signatures by SSH keys, held against OpenSSH's own, both ways."""

import os
import subprocess
from pathlib import Path

import pytest

from runbook_lib.sshsig import NotSigned, SigningKey, allows, check_allowed, load_signing_key, signer_of
from tests.agents import agent
from tests.record.sealing import OPERATOR, allowing, signing_key

SPACE = "a-purpose"
KINDS = ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]


def signed_by(
    key: SigningKey, data: bytes, signature: bytes, *, namespace: str = SPACE, principal: str = OPERATOR
) -> str:
    """Whose key it was, where this key alone is allowed."""
    return signer_of(data, signature, principal=principal, allowed_signers=allowing(key), namespace=namespace)


@pytest.mark.parametrize("kind", KINDS)
def test_openssh_verifies_ours_and_we_verify_openssh_s(tmp_path: Path, kind: str) -> None:
    """Ed25519, ECDSA and RSA keys."""
    key, data = signing_key(tmp_path, kind=kind), b"what is signed\n"
    signature = key.sign(data, SPACE)
    (tmp_path / "sig").write_bytes(signature)
    (tmp_path / "allowed").write_text(allowing(key))
    asked = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", OPERATOR, "-n", SPACE, "-s", "sig"]
    assert subprocess.run(asked, input=data, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    theirs = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-n", SPACE, "-f", key.path], input=data, capture_output=True, check=True
    ).stdout
    assert signed_by(key, data, signature) == signed_by(key, data, theirs) == key.fingerprint
    shown = subprocess.run(["ssh-keygen", "-lf", key.path], capture_output=True, text=True, check=True).stdout
    assert key.fingerprint in shown


def test_a_key_in_the_agent_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its public half is enough, as for a hardware key; once it is taken out of the agent it does not sign any more."""
    key = signing_key(tmp_path)
    with agent(tmp_path, key.path) as socket:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        key.path.unlink()
        public = load_signing_key(tmp_path / "key.pub")
        assert signed_by(key, b"x", public.sign(b"x", SPACE)) == key.fingerprint == public.fingerprint
        subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True)
        with pytest.raises(NotSigned, match="ssh-keygen did not sign: "):
            public.sign(b"x", SPACE)


def test_what_is_not_signed_is_said(tmp_path: Path) -> None:
    """Other bytes, another key, another name, another purpose, no signature at all."""
    key, other = signing_key(tmp_path), signing_key(tmp_path, "other")
    signature = key.sign(b"x", SPACE)
    for data, by, more, says in (
        (b"y", key, {}, "does not belong to these bytes"),
        (b"x", other, {}, "does not name for ada@example.net"),
        (b"x", key, {"principal": "eve"}, "does not name for eve"),
        (b"x", key, {"namespace": "git"}, "for another purpose"),
    ):
        with pytest.raises(NotSigned, match=says):
            signed_by(by, data, signature, **more)
    for spoilt in (
        b"",
        b"x",
        signature[:-1],
        signature.replace(b"\n", b"\r\n"),
        signature + b"x",
        signature[:60] + signature[61:],
    ):
        with pytest.raises(NotSigned):
            signed_by(key, b"x", spoilt)


def test_files_that_are_no_key(tmp_path: Path) -> None:
    """One that is locked says what to do; others say that they are none."""
    locked = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "word", "-f", locked], check=True)
    with pytest.raises(ValueError, match="locked with a passphrase: load it into the agent"):
        load_signing_key(locked)
    for content in (
        b"",
        b"ssh-ed25519 AAAA",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n",
        b"\xff" * 99,
    ):
        (tmp_path / "none").write_bytes(content)
        with pytest.raises(ValueError, match="is no SSH key"):
            load_signing_key(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no regular file"):
        load_signing_key(tmp_path / "pipe")


def test_allowed_signers(tmp_path: Path) -> None:
    """Names, purposes and times count; a text without any key is none."""
    key = signing_key(tmp_path)
    for text, good in (
        (allowing(key), True), (f"# a comment\n\n{allowing(key)}", True), (f"*@example.net {key.public}", True),
        (f'{OPERATOR} namespaces="{SPACE}" {key.public}', True), (f'{OPERATOR} namespaces="git" {key.public}', False),
        (f'{OPERATOR} valid-before="20200101" {key.public}', False), (f"eve {key.public}", False),
    ):  # fmt: skip
        assert allows(text, principal=OPERATOR, key=key, namespace=SPACE) is good, text
        check_allowed(text)
    for text, says in (
        ("", "names no signer"), ("# nothing", "names no signer"), ("ada", "line 1"), ("ada ssh-ed25519", "line 1"), ("ada AAAA", "line 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            check_allowed(text)
