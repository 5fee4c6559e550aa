"""What is refused before anything is contacted: keys that could not seal, and signers who could not be verified."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from runbook_lib.errors import UnusableParameters
from runbook_lib.session import Prepared, prepare
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


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"signing_key": "none"}, "signing_key", "cannot be read: No such file"),
        ({"signing_key": "allowed"}, "signing_key", "is no SSH key"),
        ({"signing_key": "/dev/zero"}, "signing_key", "is no regular file"),
        ({"allowed_signers": "none"}, "allowed_signers", "cannot be read: No such file"),
        ({"allowed_signers": "key"}, "allowed_signers", "names no signer"),
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
