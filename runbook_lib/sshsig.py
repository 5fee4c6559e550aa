"""Signatures by SSH keys, in the form of `ssh-keygen -Y sign` and `-Y verify` (OpenSSH, PROTOCOL.sshsig)."""

import base64
import binascii
import os
import re
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
from asyncssh.packet import PacketDecodeError, SSHPacket
from asyncssh.sshsig import SSHAllowedSigners

from runbook_lib.allowed_signers import KINDS, Allowed, read_allowed
from runbook_lib.files import read_regular

LARGEST_KEY = 64 * 1024
TOUCH_S = 60  # a hardware key waits for a finger
AGENT_S = 10
RSA_BITS = range(1024, 16385)  # OpenSSH's SSH_RSA_MINIMUM_MODULUS_SIZE, and the largest that it verifies by
_MAGIC = b"SSHSIG"
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
        program = _program("ssh-keygen")
        if program is None:
            raise NotSigned("ssh-keygen is not installed here, which asks the agent")
        asked = [program, "-Y", "sign", "-n", namespace, "-f", str(self.path)]
        try:
            done = subprocess.run(
                asked, input=data, capture_output=True, env=_environment(), timeout=TOUCH_S, check=False,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise NotSigned("stopped by hand while ssh-keygen was asked") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotSigned(f"ssh-keygen did not sign: {error}") from None
        if done.returncode or not _ARMOR.fullmatch(done.stdout):
            raise NotSigned(f"ssh-keygen did not sign: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def why_not(self) -> str:
        """Why this key could not sign now, as far as it can be told without anybody's finger; empty where it could."""
        if self._private is not None:
            return ""
        if _program("ssh-keygen") is None:
            return "needs ssh-keygen to sign, which is not installed here"
        if self.public.startswith("sk-") or self.public.split()[1] in _in_agent():
            return ""
        with suppress(OSError, ValueError):  # ssh-keygen looks there, too
            if load_signing_key(self.path.with_suffix("")).fingerprint == self.fingerprint:
                return ""
        return f"is the public half of {self.fingerprint}, which no agent holds here"


def _program(name: str) -> str | None:
    return shutil.which(name, path="/usr/bin:/bin:/usr/local/bin")


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _HANDED_ON if name in os.environ}


def _in_agent() -> list[str]:
    """The keys that the agent holds, in base64; none where there is no agent."""
    program = _program("ssh-add")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, env=_environment(), timeout=AGENT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [word for line in listed.stdout.decode(errors="replace").splitlines() for word in line.split()[1:2]]


def load_signing_key(path: Path) -> SigningKey:
    """The key in a file: a private one in the clear, or the public half of one that the agent or a token holds.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no such key, or of a kind by which OpenSSH signs no files.
    """
    data = read_regular(path, LARGEST_KEY)
    try:
        if b"PRIVATE KEY" not in data:
            public = asyncssh.import_public_key(data)
            return SigningKey(path, _usable(public), public.get_fingerprint())
        private = asyncssh.import_private_key(data)
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError) as error:
        locked = "passphrase" in str(error) or "encrypt" in str(error).lower()
        why = (
            "is locked with a passphrase: load it into the agent and name its .pub file" if locked else "is no SSH key"
        )
        raise ValueError(why) from None
    public_line = _usable(private)
    by_itself = not public_line.startswith("sk-")  # the file of a token's key holds a handle alone
    return SigningKey(path, public_line, private.get_fingerprint(), private if by_itself else None)


def _usable(key: asyncssh.SSHKey) -> str:
    """A key's public half as OpenSSH writes it.

    Raises:
        ValueError: OpenSSH signs no files by such a key.
    """
    kind = key.get_algorithm()
    if kind not in KINDS:
        raise ValueError(f"is a key of the kind {kind}, by which OpenSSH signs no files: use an Ed25519 key")
    if kind == "ssh-rsa" and _bits(key.public_data) not in RSA_BITS:
        raise ValueError("is an RSA key of a size that OpenSSH does not take: use an Ed25519 key")
    return key.export_public_key().decode().strip()


def _bits(public: bytes) -> int:
    """How long the modulus of an RSA key is (RFC 4253, section 6.6)."""
    packet = SSHPacket(public)
    packet.get_string()
    packet.get_mpint()
    return packet.get_mpint().bit_length()


def signer_of(data: bytes, signature: bytes, *, principal: str, allowed_signers: str, namespace: str) -> str:
    """Whose key signed the data. Nothing is taken that `ssh-keygen -Y verify` would refuse at this moment.

    Args:
        data: What was signed.
        signature: The armored signature, byte for byte as it was written.
        principal: Who must have signed it, a name in `allowed_signers`.
        allowed_signers: The text of such a file (ssh-keygen(1), ALLOWED SIGNERS); its times are held against now.
        namespace: The purpose it must have been signed for.

    Returns:
        The key's fingerprint, `SHA256:…`.

    Raises:
        NotAllowed: It is by a key that is not allowed, or for another purpose.
        NotSigned: The signature is broken.
        ValueError: `allowed_signers` cannot be used.
    """
    allowed = check_allowed(allowed_signers)
    armored = _ARMOR.fullmatch(signature)
    try:
        packed = base64.b64decode(armored[1].replace(b"\n", b""), validate=True) if armored else b""
    except binascii.Error:
        packed = b""
    if not armored or base64.b64encode(packed) != armored[1].replace(b"\n", b""):
        raise NotSigned("the signature is no SSH signature, byte for byte")
    said = _Said()
    try:
        asyncssh.validate_sshsig(data, packed, principal, said)
        key, algorithm = _named_in(packed)
    except (ValueError, asyncssh.Error, PacketDecodeError):
        said.namespace = ""
    if not said.namespace or algorithm not in KINDS.get(_kind(key), ()):
        raise NotSigned("the signature does not belong to these bytes")
    if said.namespace != namespace:
        why = "for another purpose"
    elif any(each.permits(key, principal=principal, namespace=namespace, now=time.time()) for each in allowed):
        return said.fingerprint
    else:
        why = f"which allowed_signers does not name for {principal}"
    raise NotAllowed(f"the signature is by {said.fingerprint}, {why}")


class _Said(SSHAllowedSigners):
    """Allows nobody; asked only where the signature is good, it remembers whose it is and for what."""

    def __init__(self) -> None:
        self.namespace = self.fingerprint = ""
        super().__init__()

    def validate(self, key: asyncssh.SSHKey, principal: str, namespace: str, ca: bool = False) -> bool:  # noqa: ARG002, FBT001, FBT002 - asyncssh's
        if not ca:
            self.fingerprint, self.namespace = key.get_fingerprint(), namespace
        return False


def _named_in(packed: bytes) -> tuple[bytes, bytes]:
    """The public key and the algorithm that a signature names (PROTOCOL.sshsig)."""
    packet = SSHPacket(packed)
    packet.get_bytes(len(_MAGIC))
    packet.get_uint32()
    key, *_, signature = (packet.get_string() for _ in range(5))
    return key, SSHPacket(signature).get_string()


def _kind(public: bytes) -> str:
    return SSHPacket(public).get_string().decode(errors="replace")


def allows(text: str, *, principal: str, key: SigningKey, namespace: str) -> bool:
    """Whether allowed signers list a key for somebody and a purpose, as of now.

    Raises:
        ValueError: The text cannot be used.
    """
    wanted = base64.b64decode(key.public.split()[1])
    return any(
        each.permits(wanted, principal=principal, namespace=namespace, now=time.time()) for each in check_allowed(text)
    )


def check_allowed(text: str) -> tuple[Allowed, ...]:
    """The lines of a text of allowed signers.

    Raises:
        ValueError: It names no signer, or holds a line that cannot be used.
    """
    found = read_allowed(text)
    for each in found:
        try:
            _usable(asyncssh.import_public_key(each.public))
        except (asyncssh.KeyImportError, ValueError):
            msg = f"cannot be used, line {each.number}: the key is spoilt, or too weak"
            raise ValueError(msg) from None
    return found
