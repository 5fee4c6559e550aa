"""The gate: it finds a secret wherever one is put, names file and cell, and finds none where there is none."""

import base64
import html
import json
import os
import pprint
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from runbook_lib.record.archive import open_record
from runbook_lib.record.gate import search
from runbook_lib.secrets import Registry
from tests.record.records import as_nobody, readable
from tests.record.sealing import CHANGE, notebook, run

SECRET = 's3cret & "of" the server'
FORMS = {
    "raw": SECRET,
    "JSON": json.dumps(SECRET),
    "hex": SECRET.encode().hex(),
    "hex dump": " ".join(f"{each:02x}" for each in SECRET.encode()),
    "bytes": "".join(f"\\x{each:02x}" for each in SECRET.encode()),
    "URL": "s3cret%20%26%20%22of%22%20the%20server",
    "HTML": "s3cret &amp; &quot;of&quot; the server",
    **{f"base64 at {n}": base64.b64encode(b"xyz"[:n] + SECRET.encode() + b"!").decode() for n in range(3)},
    "base64 in lines": base64.encodebytes(b"y" * 50 + SECRET.encode()).decode(),
    "Python's bytes": repr(SECRET.encode()),
    "by pprint": pprint.pformat([SECRET], width=12),
    "in a shell": "'s3cret & \"of\" the server'",
    "in CSV": SECRET.replace('"', '""'),
    "JSON in HTML": html.escape(json.dumps(SECRET)),
    "coloured": SECRET.replace("of", "\x1b[31mof\x1b[0m"),
    "letters without width": "\u200b".join(SECRET),
    "broken over lines": "\n".join(SECRET[at : at + 5] for at in range(0, len(SECRET), 5)),
}
ENCODED = ("PEM", "DER in base64", "DER in lines", "PEM in base64", "PEM in hex")
KEYS: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey] = {
    "RSA": rsa.generate_private_key(65537, 2048), "EC": ec.generate_private_key(ec.SECP256R1()), "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}  # fmt: skip


@pytest.fixture
def registry() -> Registry:
    """One secret, of sudo."""
    made = Registry()
    made.add(SECRET, name="sudo_password")
    return made


def found(folder: Path, registry: Registry) -> list[str]:
    """What the gate says."""
    return [str(each) for each in search(folder, registry)]


def test_a_clean_record_has_nothing(tmp_path: Path, registry: Registry) -> None:
    """Certificates and public keys are no secrets, and neither is prose about them."""
    record = run(tmp_path, 1, "the private key stays there; BEGIN CERTIFICATE, Maximum MII")
    for name, key in KEYS.items():
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        record.add_file(f"{name}.pem", public)
    assert found(record.folder, registry) == []


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_is_found(tmp_path: Path, registry: Registry, form: str) -> None:
    """In a notebook by its cell, in the journal by its line, in a file by its name; the secret itself is not said."""
    record = run(tmp_path, 1, f"before {form} after")
    record.journal.write("note", text=form)
    record.add_file("answer.txt", f"before {form} after".encode())
    lines = (record.folder / "journal.jsonl").read_bytes().splitlines()
    line = next(number for number, each in enumerate(lines, 1) if json.loads(each)["event"] == "note")
    said = found(record.folder, registry)
    assert said == [
        "sudo_password in files/answer.txt",
        f"sudo_password in journal.jsonl, line {line}",
        "sudo_password in notebooks/20260601T120000Z-300_install_certificate.ipynb, cell 2",
    ]


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("form", ["OpenSSH", *(f"{form}, {lock}" for form in ENCODED for lock in ("locked", "open"))])
def test_private_keys_are_found(tmp_path: Path, kind: str, form: str) -> None:
    """Of whatever kind and in whatever form: none was registered."""
    form, _, locked = form.partition(", ")
    lock = BestAvailableEncryption(b"x") if locked == "locked" else NoEncryption()
    private = KEYS[kind].private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH if form == "OpenSSH" else PrivateFormat.PKCS8, lock
    )
    der = KEYS[kind].private_bytes(Encoding.DER, PrivateFormat.PKCS8, lock)
    text = {
        "DER in base64": base64.b64encode(der).decode(), "DER in lines": base64.encodebytes(der).decode(),
        "PEM in base64": base64.b64encode(b"x" + private).decode(), "PEM in hex": private.hex(":"),
    }.get(form, private.decode())  # fmt: skip
    record = run(tmp_path, 1, f"it is {text} as it seems")
    assert found(record.folder, Registry()) == [
        "a private key in notebooks/20260601T120000Z-300_install_certificate.ipynb, cell 2"
    ]


def test_what_a_server_complains_of_is_searched(tmp_path: Path, registry: Registry) -> None:
    """Standard error is masked as it comes; what was broken up within is found in the journal."""
    record = run(tmp_path, 1)
    complaints = [f"sudo: {form(SECRET)}: no such user" for form in ("\u200b".join, "\x1b[1m".join, "\u202e".join)]
    for each in complaints:
        assert registry.redact(each) == each
        record.journal.write("result", step="install", purpose="p", status=1, stderr=each)
    assert [each.rpartition(", line")[0] for each in found(record.folder, registry)] == [
        "sudo_password in journal.jsonl"
    ] * 3


def test_a_folder_is_looked_into_or_named(tmp_path: Path, registry: Registry) -> None:
    """Of one in which nothing lies nobody can say what lay there; in those that every record has nothing need lie."""
    record = open_record(tmp_path, CHANGE, str)
    record.journal.write("note", text="refused before anything was kept")
    (record.folder / "seals").mkdir()
    assert found(record.folder, registry) == []
    (record.folder / "files" / "deep" / "deeper").mkdir(parents=True)
    (record.folder / SECRET).mkdir()
    assert found(record.folder, registry) == [
        "something that cannot be read in files/deep/deeper",
        "sudo_password in a file's name",
        f"something that cannot be read in {SECRET}",
    ]
    (record.folder / "files" / "deep" / "deeper" / "answer.txt").write_text(SECRET)
    (record.folder / SECRET).rmdir()
    assert found(record.folder, registry) == ["sudo_password in files/deep/deeper/answer.txt"]


def test_a_closed_folder_is_named(registry: Registry) -> None:
    """Whoever seals may not look into it: what lies there is not passed over, wherever it is in the record."""
    for name in (".", "files", "files/deep", "notebooks"):
        with readable(CHANGE) as records:
            record = records / CHANGE
            (record / "files" / "deep").mkdir(exist_ok=True)
            for each in (record, *record.rglob("*")):
                each.chmod(0o755)
            (record / "files" / "deep" / "answer.txt").write_text("nothing odd")
            (record / name).chmod(0)
            with as_nobody():
                assert found(record, registry) == [f"something that cannot be read in {name}"]


def test_what_cannot_be_vouched_for_is_named(tmp_path: Path, registry: Registry) -> None:
    """A link, a pipe, a name that is a secret, a notebook that is none: nothing is passed over, nothing waits."""
    record = run(tmp_path, 1)
    files = record.folder / "files"
    (files / "link").symlink_to("/etc/hostname")
    (files / "linked folder").symlink_to("/etc")
    os.mkfifo(files / "pipe")
    (files / SECRET).write_bytes(b"")
    (record.folder / "notebooks" / "broken.ipynb").write_text(f'{{"cells": [{SECRET}')
    (record.folder / "notebooks" / "odd.ipynb").write_bytes(
        notebook("x").replace(b'"metadata": {}', f'"metadata": {json.dumps({"x": SECRET})}'.encode())
    )
    assert found(record.folder, registry) == [
        "a link in files/link",
        "a link in files/linked folder",
        "something that cannot be read in files/pipe",
        "sudo_password in a file's name",
        "sudo_password in notebooks/broken.ipynb",
        "sudo_password in notebooks/odd.ipynb, cell 1",
        "sudo_password in notebooks/odd.ipynb, cell 2",
    ]
