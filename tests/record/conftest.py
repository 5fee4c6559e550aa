"""Somebody who seals, and the secret that must not be in what they seal."""

from pathlib import Path

import pytest

from runbook_lib.secrets import Registry
from runbook_lib.sshsig import SigningKey
from tests.record.sealing import SECRET, signing_key


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """The operator's key."""
    return signing_key(tmp_path)


@pytest.fixture
def registry() -> Registry:
    """One secret, of sudo."""
    made = Registry()
    made.add(SECRET, name="sudo_password")
    return made
