"""Encryption to public keys: what opens it, and what is said of keys and files that do not fit."""

import asyncssh
import pyrage
import pytest

from runbook_lib.age import decrypt, encrypt
from runbook_lib.parameters import validate

AGE = pyrage.x25519.Identity.generate()
SSH = asyncssh.generate_private_key("ssh-ed25519")
RECIPIENTS = [str(AGE.to_public()), SSH.export_public_key().decode().strip()]


@pytest.mark.parametrize(
    "identity", [f"# comment\n{AGE}", SSH.export_private_key().decode().strip()], ids=["age", "ssh"]
)
def test_each_recipient_opens_it(identity: str) -> None:
    """An age key file and an SSH private key, without the last line end that a secret's file loses."""
    assert decrypt(encrypt(b"pair", RECIPIENTS), identity) == b"pair"


@pytest.mark.parametrize(
    ("data", "identity", "says"),
    [
        (encrypt(b"pair", RECIPIENTS), str(pyrage.x25519.Identity.generate()), "does not open it"),
        (b"no age file", str(AGE), "does not open it"),
        (encrypt(b"pair", RECIPIENTS), "AGE-SECRET-KEY-1", "is no age or SSH private key"),
        (encrypt(b"pair", RECIPIENTS), "a password", "is no age or SSH private key"),
    ],
    ids=["another key", "no such file", "a key cut short", "no key at all"],
)
def test_what_does_not_fit_is_said(data: bytes, identity: str, says: str) -> None:
    """Another key, no such file, no key at all."""
    with pytest.raises(ValueError, match=says):
        decrypt(data, identity)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"fetch_backup": ["age1bad"]}, "fetch_backup.0"),
        ({"fetch_backup": ["ssh-ed25519 AAAA"]}, "fetch_backup.0"),
        ({"backup_file": "x.tar.age"}, "backup_identity"),
        ({"backup_identity": "env:KEY"}, "backup_file"),
        ({"backup_file": "x.tar.age", "backup_identity": "env:KEY", "pair": "installed"}, "backup_file"),
    ],
)
def test_parameters_that_name_no_key_or_only_half(given: dict[str, object], field: str) -> None:
    """A fault each, by the field that is to be mended."""
    _, faults = validate({"host": "192.0.2.1", **given}, asks_for_certificate=False)
    assert [each.field for each in faults] == [field]
