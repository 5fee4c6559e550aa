"""Encryption to public keys in the age format (age-encryption.org/v1): age's own keys, and SSH keys of the kinds ed25519 and RSA."""

from collections.abc import Sequence
from typing import Any

import pyrage

HOW_TO_WRITE = "an age recipient (`age1…`) or an SSH public key (`ssh-ed25519 …` or `ssh-rsa …`)"


def recipient_of(text: str) -> Any:  # noqa: ANN401 - pyrage has no common type for its recipients
    """The recipient that a public key names.

    Raises:
        ValueError: It is none.
    """
    try:
        return (pyrage.ssh if text.startswith("ssh-") else pyrage.x25519).Recipient.from_str(text)
    except pyrage.RecipientError:
        msg = "is no public key that age encrypts to"
        raise ValueError(msg) from None


def encrypt(data: bytes, recipients: Sequence[str]) -> bytes:
    """The data for whoever holds the private key of one of the recipients.

    Raises:
        ValueError: A recipient is none.
    """
    return bytes(pyrage.encrypt(data, [recipient_of(each) for each in recipients]))


def decrypt(data: bytes, identity: str) -> bytes:
    """What was encrypted.

    Args:
        data: An age file.
        identity: An age secret key (`AGE-SECRET-KEY-…`, with comments as `age-keygen` writes them), or an SSH private key in the clear.

    Raises:
        ValueError: It is no such key or no such file, or the key opens it not.
    """
    lines = [line for line in identity.splitlines() if line.startswith("AGE-SECRET-KEY-")]
    try:
        ours = (
            [pyrage.x25519.Identity.from_str(each.strip()) for each in lines]
            if lines
            else [pyrage.ssh.Identity.from_buffer(f"{identity}\n".encode())]
        )
        return bytes(pyrage.decrypt(data, ours))
    except pyrage.IdentityError as error:
        msg = f"is no age or SSH private key that can be used: {error}"
        raise ValueError(msg) from None
    except pyrage.DecryptError as error:
        msg = f"does not open it: {error}"
        raise ValueError(msg) from None
