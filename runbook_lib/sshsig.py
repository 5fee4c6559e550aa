"""Signatures by SSH keys, in the form of `ssh-keygen -Y sign` and `-Y verify` (OpenSSH, PROTOCOL.sshsig)."""

import base64
import binascii
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
from asyncssh.sshsig import SSHAllowedSigners, import_allowed_signers

from runbook_lib.files import read_regular

LARGEST_KEY = 64 * 1024
TOUCH_S = 60  # a hardware key waits for a finger
_ARMOR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=\n]+)\n-----END SSH SIGNATURE-----\n")
_HANDED_ON = (
    "HOME",
    "SSH_AUTH_SOCK",
    "SSH_ASKPASS",
    "DISPLAY",
    "WAYLAND_DISPLAY",
)  # what ssh-keygen asks the agent and the person by


class NotSigned(Exception):
    """A signature that was not made, or is not worth anything; the text says why."""


class NotAllowed(NotSigned):
    """Somebody signed, and not who was to or not for this; the text says who."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key that signs.

    Attributes:
        path: The private key's file, or the public half of a key that the agent or a token holds.
        public: The public key as OpenSSH writes it.
        fingerprint: `SHA256:` and the digest, as ssh-keygen shows it.
    """

    path: Path
    public: str
    fingerprint: str
    _private: asyncssh.SSHKey | None = field(repr=False, default=None)

    def sign(self, data: bytes, namespace: str) -> bytes:
        """The armored signature over data.

        Raises:
            NotSigned: The agent or the token did not sign.
        """
        if self._private is not None:
            return asyncssh.create_sshsig(self._private, data, namespace=namespace)
        program = shutil.which("ssh-keygen", path="/usr/bin:/bin:/usr/local/bin")
        if program is None:
            raise NotSigned("ssh-keygen is not installed here, which asks the agent")
        environment = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
        asked = [program, "-Y", "sign", "-n", namespace, "-f", str(self.path)]
        try:
            done = subprocess.run(
                asked, input=data, capture_output=True, env=environment, timeout=TOUCH_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotSigned(f"ssh-keygen did not sign: {error}") from None
        if done.returncode or not _ARMOR.fullmatch(done.stdout):
            raise NotSigned(f"ssh-keygen did not sign: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


def load_signing_key(path: Path) -> SigningKey:
    """The key in a file: a private one in the clear, or the public half of one that the agent or a token holds.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such key.
    """
    data = read_regular(path, LARGEST_KEY)
    try:
        if b"PRIVATE KEY" not in data:
            public = asyncssh.import_public_key(data)
            return SigningKey(path, _line(public), public.get_fingerprint())
        private = asyncssh.import_private_key(data)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        locked = "passphrase" in str(error) or "encrypt" in str(error).lower()
        why = (
            "is locked with a passphrase: load it into the agent and name its .pub file" if locked else "is no SSH key"
        )
        raise ValueError(why) from None
    return SigningKey(path, _line(private), private.get_fingerprint(), private)


def _line(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


class _Allowed(SSHAllowedSigners):
    """Allowed signers for one purpose, which remember whose key it was; asyncssh takes any purpose that the signature names."""

    def __init__(self, text: str, namespace: str) -> None:
        self.namespace, self.fingerprint, self.another = namespace, "", False
        super().__init__(text)

    def validate(self, key: asyncssh.SSHKey, principal: str, namespace: str, ca: bool = False) -> bool:  # noqa: FBT001, FBT002 - asyncssh's
        self.fingerprint, self.another = key.get_fingerprint(), namespace != self.namespace
        return not self.another and super().validate(key, principal, namespace, ca)


def signer_of(data: bytes, signature: bytes, *, principal: str, allowed_signers: str, namespace: str) -> str:
    """Whose key signed the data.

    Args:
        data: What was signed.
        signature: The armored signature, byte for byte as it was written.
        principal: Who must have signed it, a name in `allowed_signers`.
        allowed_signers: The text of such a file (ssh-keygen(1), ALLOWED SIGNERS).
        namespace: The purpose it must have been signed for.

    Returns:
        The key's fingerprint, `SHA256:…`.

    Raises:
        NotAllowed: It is by a key that is not allowed, or for another purpose.
        NotSigned: The signature is broken.
        ValueError: `allowed_signers` cannot be used.
    """
    armored = _ARMOR.fullmatch(signature)
    try:
        packed = base64.b64decode(armored[1].replace(b"\n", b""), validate=True) if armored else b""
    except binascii.Error:
        packed = b""
    if not armored or base64.b64encode(packed) != armored[1].replace(b"\n", b""):
        raise NotSigned("the signature is no SSH signature, byte for byte")
    allowed = _Allowed(allowed_signers, namespace)
    try:
        good = asyncssh.validate_sshsig(data, packed, principal, allowed)
    except (ValueError, asyncssh.Error):
        good = False
    if good:
        return allowed.fingerprint
    if not allowed.fingerprint:
        raise NotSigned("the signature does not belong to these bytes")
    why = "for another purpose" if allowed.another else f"which allowed_signers does not name for {principal}"
    raise NotAllowed(f"the signature is by {allowed.fingerprint}, {why}")


def allows(text: str, *, principal: str, key: SigningKey, namespace: str) -> bool:
    """Whether allowed signers list a key for somebody and a purpose.

    Raises:
        ValueError: The text names no signer.
    """
    return import_allowed_signers(text).validate(asyncssh.import_public_key(key.public), principal, namespace)


def check_allowed(text: str) -> None:
    """Whether a text can be used as allowed signers.

    Raises:
        ValueError: It names no signer.
    """
    try:
        import_allowed_signers(text or "#")
    except (ValueError, asyncssh.Error):
        msg = "names no signer"
        raise ValueError(msg) from None
