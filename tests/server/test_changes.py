"""What is read of pairs and of changes: by this machine's own shell, from folders made here."""

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from runbook_lib.models import ChangeFolder, Pair
from runbook_lib.server import changes
from runbook_lib.server.reading import Fact
from tests.server.facts import here


def sent(fact: Fact[ChangeFolder]) -> bytes:
    """What the server sends for a fact."""
    return base64.b64decode(
        subprocess.run(["/bin/sh", "-c", fact.command.script], capture_output=True, check=True).stdout
    )


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    """A private key as PKCS#8."""
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def self_signed(folder: Path, *options: str) -> None:
    """A pair made by openssl."""
    arguments = ["openssl", "req", "-x509", "-nodes", "-days", "3", "-subj", "/CN=test", *options]
    subprocess.run(
        [*arguments, "-keyout", str(folder / "nginx.key"), "-out", str(folder / "nginx.crt")],
        check=True,
        capture_output=True,
    )


def test_pair(tmp_path: Path) -> None:
    """Hashes of both files, the chain, and of the key nothing but its public half."""
    self_signed(tmp_path, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    pair = here(changes.pair(str(tmp_path)))
    assert pair.matches
    assert pair.chain[0].common_name == "test"
    for name, digest in (("nginx.crt", pair.certificate_sha256), ("nginx.key", pair.key_sha256)):
        assert digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content", [b"", b"garbage\xff\0", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_pair_that_cannot_be_read_is_a_fact_too(tmp_path: Path, content: bytes) -> None:
    """Broken files are described by their hashes, without a crash and without a question for a passphrase."""
    (tmp_path / "nginx.crt").write_bytes(content)
    (tmp_path / "nginx.key").write_bytes(pem(ec.generate_private_key(ec.SECP256R1()), b"a passphrase"))
    pair = here(changes.pair(str(tmp_path)))
    assert (pair.chain, pair.key_spki_sha256, pair.matches) == ((), "", False)
    assert pair.certificate_sha256 == hashlib.sha256(content).hexdigest()
    assert pair.key_sha256 != ""


def test_a_key_of_a_kind_that_we_do_not_know(tmp_path: Path) -> None:
    """openssl reads more kinds of keys than we do: such a pair does not match, and the run goes on."""
    self_signed(tmp_path, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp160k1")
    pair = here(changes.pair(str(tmp_path)))
    assert (pair.key_spki_sha256, pair.matches) == ("", False)
    assert pair.key_sha256 != ""


def test_a_missing_folder_is_an_empty_pair(tmp_path: Path) -> None:
    """No folder, no pair."""
    assert here(changes.pair(str(tmp_path / "none"))) == Pair()


def change(state_dir: Path, change_id: str, begun: str = '{"kind": "replace"}', decided: str = "") -> Path:
    """A change's folder."""
    folder = state_dir / "changes" / change_id
    folder.mkdir(parents=True)
    (folder / "change.json").write_text(begun)
    if decided:
        (folder / "decided").write_text(f"{decided}\n")
    return folder


def test_change_list(tmp_path: Path) -> None:
    """Oldest first, with kind and decision; what has no change.json is no change."""
    assert here(changes.change_list(str(tmp_path / "none"))) == ((), ())
    change(tmp_path, "20251102T000000Z-bbbbbb", json.dumps({"kind": "restore"}, indent=1))
    change(tmp_path, "20251101T000000Z-aaaaaa", decided="confirmed")
    change(tmp_path, "20251103T000000Z-cccccc", "{", decided="rolled-back")
    (tmp_path / "changes/other").mkdir()
    half = change(tmp_path, "20251104T000000Z-dddddd", decided="rolled-back")
    (half / "armed").touch()
    listed, half_way = here(changes.change_list(str(tmp_path)))
    assert listed == (
        ("20251101T000000Z-aaaaaa", "replace", "confirmed"),
        ("20251102T000000Z-bbbbbb", "restore", ""),
        ("20251103T000000Z-cccccc", "replace", "rolled-back"),
        ("20251104T000000Z-dddddd", "replace", "rolled-back"),
    )
    assert half_way == ("20251104T000000Z-dddddd",)
    (half / "settled").touch()
    assert here(changes.change_list(str(tmp_path)))[1] == ()


def test_change_folder(tmp_path: Path) -> None:
    """All of a change that may be shown, twice the same public key, and no private key in what is sent."""
    folder = change(tmp_path, "id", json.dumps({"kind": "replace", "request": {"common_name": "a", "san": ["DNS:a"]}}))
    self_signed(folder, "-newkey", "rsa:2048")
    subprocess.run(
        ["openssl", "req", "-new", "-key", folder / "nginx.key", "-subj", "/CN=a", "-out", folder / "nginx.csr"],
        check=True,
    )
    backup = folder / "backup"
    backup.mkdir(mode=0o700)
    self_signed(backup, "-newkey", "rsa:2048")
    (backup / "SHA256SUMS").write_text(f"{'0' * 64}  aos.tar\n{'1' * 64}  nginx.crt\n")
    (folder / "armed").write_text("77 1234\n")
    (folder / "journal-head").write_text("abc\n")
    (folder / "nginx.key").chmod(0o600)
    fact = changes.change_folder(str(tmp_path), ChangeFolder("id"))
    found = here(fact)
    assert (found.kind, found.request) == ("replace", {"common_name": "a", "san": ["DNS:a"]})
    assert found.csr == (folder / "nginx.csr").read_text()
    assert found.staged.matches
    assert found.before.matches
    assert found.before.key_sha256 != found.staged.key_sha256
    assert found.backup_sums == {"aos.tar": "0" * 64, "nginx.crt": "1" * 64}
    assert (found.armed, found.decided, found.journal_head) == (True, "", "abc")
    assert found.files["nginx.key"] == "600"
    digests = {name: digest for name, (digest, _) in found.public_keys.items()}
    staged = found.staged.key_spki_sha256
    assert digests == {"key": staged, "csr": staged, "certificate": staged, "before": found.before.key_spki_sha256}
    shown = sent(fact)
    assert b"BEGIN PUBLIC KEY" in shown
    assert b"PRIVATE" not in shown
    for key in (folder / "nginx.key", backup / "nginx.key"):
        assert key.read_bytes().splitlines()[1] not in shown


@pytest.mark.parametrize("begun", ["", '{"kind": "rep', "[]"])
def test_a_change_that_was_cut_off_at_its_beginning(tmp_path: Path, begun: str) -> None:
    """A half-written change.json does not stop every later run on that server."""
    change(tmp_path, "id", begun)
    found = here(changes.change_folder(str(tmp_path), ChangeFolder("id")))
    assert (found.kind, found.request, found.staged) == ("replace", {}, Pair())
    assert "change.json" in found.files


def test_a_change_that_is_not_there(tmp_path: Path) -> None:
    """Its folder is empty."""
    assert here(changes.change_folder(str(tmp_path), ChangeFolder("id"))) == ChangeFolder("id")


def test_what_is_known_is_not_taken_out_again(tmp_path: Path) -> None:
    """The same bytes hold the same public key; other bytes, and a file that is gone, are seen."""
    folder = change(tmp_path, "id")
    self_signed(folder, "-newkey", "rsa:2048")
    first = here(changes.change_folder(str(tmp_path), ChangeFolder("id")))
    again = changes.change_folder(str(tmp_path), first)
    assert b"pem:" not in sent(again)
    assert here(again) == first
    self_signed(folder, "-newkey", "rsa:2048")
    other = here(again)
    assert other == here(changes.change_folder(str(tmp_path), ChangeFolder("id")))
    assert other.public_keys.keys() == first.public_keys.keys()
    assert other.public_keys["key"] != first.public_keys["key"]
    (folder / "nginx.key").unlink()
    assert here(again).public_keys.keys() == {"certificate"}


def test_a_file_too_large_to_be_ours_is_known_by_its_digest(tmp_path: Path) -> None:
    """Nothing of it is sent."""
    folder = change(tmp_path, "id")
    (folder / "nginx.crt").write_bytes(b"x" * 300_000)
    found = here(changes.change_folder(str(tmp_path), ChangeFolder("id")))
    assert (found.staged.chain, len(found.staged.certificate_sha256)) == ((), 64)
