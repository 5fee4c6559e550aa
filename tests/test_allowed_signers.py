"""Allowed signers held against OpenSSH's own reading: whatever is taken here, stock `ssh-keygen -Y verify` takes, too."""

import base64
import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import asyncssh
import pytest
from asyncssh.packet import String, UInt32

from runbook_lib.sshsig import NotSigned, SigningKey, check_allowed, signer_of
from tests.record.sealing import OPERATOR, allowing, signing_key

SPACE, DATA = "a-purpose", b"what is signed\n"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    """The signer's key."""
    return signing_key(tmp_path_factory.mktemp("key"))


def ours(text: bytes, signature: bytes) -> bool:
    """Whether the signature is taken here."""
    try:
        signer_of(DATA, signature, principal=OPERATOR, allowed_signers=text.decode(), namespace=SPACE)
    except (NotSigned, ValueError):
        return False
    return True


def theirs(folder: Path, text: bytes, signature: bytes) -> bool:
    """Whether stock ssh-keygen takes it."""
    (folder / "allowed").write_bytes(text)
    (folder / "sig").write_bytes(signature)
    asked = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", OPERATOR, "-n", SPACE, "-s", "sig"]
    return subprocess.run(asked, input=DATA, cwd=folder, capture_output=True, check=False).returncode == 0


def taken(folder: Path, text: bytes, signature: bytes) -> bool:
    """Whether it is taken here; that OpenSSH refuses it then must never be."""
    here = ours(text, signature)
    assert theirs(folder, text, signature) or not here, "taken here, and refused by ssh-keygen"
    return here


WHO, LINE = OPERATOR.encode(), OPERATOR.encode() + b" KEY\n"
FILES: Mapping[str, tuple[bytes, bool]] = {
    "plain": (LINE, True),
    "no end of line": (LINE.strip(), True),
    "blanks, tabs and comments": (b"# KEY\n\n \t" + WHO + b" \t KEY \t a comment \xc3\xa9\n", True),
    "patterns": (b"bob,*@example.n?t KEY\n", True),
    "kept out": (b"!" + WHO + b",* KEY\n", False),
    "another kept out": (b"!eve@example.net,*@example.net KEY\n", True),
    "nobody but who is kept out": (b"!eve@example.net KEY\n", False),
    "a class is no pattern": (b"[a-z]da@example.net KEY\n", False),
    "capitals in a name": (WHO.upper() + b" KEY\n", False),
    "quoted name": (b'"' + WHO + b'" KEY\n', False),
    "quote within a name": (b'bob",' + WHO + b'" KEY\n', False),
    "purposes": (WHO + b' namespaces="git,a-*" KEY\n', True),
    "another purpose": (WHO + b' namespaces="git" KEY\n', False),
    "a purpose kept out": (WHO + b' namespaces="*,!a-purpose" KEY\n', False),
    "no purpose": (WHO + b' namespaces="" KEY\n', False),
    "purposes without quotes": (WHO + b" namespaces=a-purpose KEY\n", False),
    "purposes twice": (WHO + b' namespaces="a-purpose",namespaces="a-purpose" KEY\n', False),
    "blank between purposes": (WHO + b' namespaces="git, a-purpose" KEY\n', False),
    "option in capitals": (WHO + b' NAMESPACES="a-purpose" KEY\n', False),
    "time in capitals": (WHO + b' Valid-Before="20200101" KEY\n', False),
    "unknown option": (WHO + b" touch-required KEY\n", False),
    "unknown option with a value": (WHO + b' valid-until="20200101" KEY\n', False),
    "options without comma": (WHO + b' valid-after="20200101"namespaces="a-purpose" KEY\n', False),
    "options that end in a comma": (WHO + b' valid-after="20200101", KEY\n', False),
    "over": (WHO + b' valid-before="20200101" KEY\n', False),
    "not yet": (WHO + b' valid-after="20990101Z" KEY\n', False),
    "in between": (WHO + b' valid-after="202001010000",valid-before="20990101235959Z" KEY\n', True),
    "never": (WHO + b' valid-after="20200101",valid-before="20190101" KEY\n', False),
    "no such day": (WHO + b' valid-after="20200230" KEY\n', False),
    "no such month": (WHO + b' valid-after="20201301" KEY\n', False),
    "time with a sign": (WHO + b' valid-after="+2020010" KEY\n', False),
    "time of nine digits": (WHO + b' valid-after="202001010" KEY\n', False),
    "time in words": (WHO + b' valid-after="always" KEY\n', False),
    "authority": (WHO + b" cert-authority KEY\n", False),
    "authority and the key": (WHO + b" cert-authority KEY\n" + LINE, False),
    "carriage return hides a line": (b"# a comment\r" + LINE, False),
    "carriage returns": (LINE.replace(b"\n", b"\r\n"), False),
    "line separator hides a line": ("# a comment\u2028".encode() + LINE, False),
    "next line hides a line": ("# a comment\u0085".encode() + LINE, False),
    "vertical tab hides a line": (b"# a comment\x0b" + LINE, False),
    "form feed hides a line": (b"# a comment\x0c" + LINE, False),
    "vertical tab between": (WHO + b"\x0bKEY\n", False),
    "zero byte": (WHO + b" KEY\x00 more\n", False),
    "byte order mark": (b"\xef\xbb\xbf" + LINE, False),
    "blank that is none": (WHO + "\u00a0".encode() + b"KEY\n", False),
    "spoilt key first": (WHO + b" ssh-ed25519 AAAA\n" + LINE, False),
    "spoilt line of another": (b"bob ssh-ed25519 AAAA\n" + LINE, False),
    "another kind": (WHO + b" ssh-rsa BLOB\n", False),
    "key with more behind": (WHO + b" KEY=\n", False),
    "key in two pieces": (WHO + b" ssh-ed25519 HALF1 HALF2\n", False),
    "name alone": (WHO + b"\n" + LINE, False),
    "a second line that fits": (WHO + b' namespaces="git" KEY\n' + LINE, True),
    "weak key": (WHO + b" ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQC7\n" + LINE, False),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_taken_that_openssh_refuses(tmp_path: Path, key: SigningKey, name: str) -> None:
    """Odd files one by one."""
    text, good = FILES[name]
    blob = key.public.split()[1].encode()
    for word, stands_for in (
        (b"KEY", key.public.encode()), (b"BLOB", blob), (b"HALF1", blob[:32]), (b"HALF2", blob[32:]),
    ):  # fmt: skip
        text = text.replace(word, stands_for)
    assert taken(tmp_path, text, key.sign(DATA, SPACE)) is good


def test_a_file_that_is_refused_names_the_line(key: SigningKey) -> None:
    """And what is wrong there."""
    for more, says in (
        ("eve cert-authority ssh-ed25519 AAAA", "line 3: cert-authority: certificates are not understood here"),
        ("eve no-such ssh-ed25519 AAAA", "line 3: what follows the name is no key"),
        ("eve ssh-dss AAAA", "line 3: what follows the name is no key"),
        ("eve", "line 3: there is no key"),
        ("eve\r ssh-ed25519 AAAA", r"line 3: holds the control character '\\r'"),
        ("\u00e9ve ssh-ed25519 AAAA", "line 3: the name is not plain ASCII"),
        (f'eve valid-before="soon" {key.public}', "line 3: soon is no time"),
        (f"eve ssh-ed25519 {base64.b64encode(String('ssh-ed25519') + String(b'x')).decode()}", "line 3: the key is spoilt, or too weak"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            check_allowed(f"# a comment\n{allowing(key)}{more}\n")


def armored(public: bytes, signature: bytes) -> bytes:
    """An SSH signature with these parts."""
    packed = (
        b"SSHSIG" + UInt32(1) + String(public) + String(SPACE) + String(b"") + String(b"sha512") + String(signature)
    )
    text = base64.b64encode(packed).decode()
    lines = "\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}\n-----END SSH SIGNATURE-----\n".encode()


def to_be_signed() -> bytes:
    """What an SSH signature is over (PROTOCOL.sshsig)."""
    digest = hashlib.sha512(DATA).digest()
    return b"SSHSIG" + String(SPACE) + String(b"") + String(b"sha512") + String(digest)


@pytest.mark.parametrize(
    ("kind", "algorithm", "good"),
    [
        ("ssh-rsa", b"rsa-sha2-256", True), ("ssh-rsa", b"rsa-sha2-512", True), ("ssh-rsa", b"ssh-rsa", False),
        ("ssh-rsa", b"ssh-rsa-sha256@ssh.com", False), ("ssh-dss", b"ssh-dss", False), ("ssh-ed448", b"ssh-ed448", False),
        ("ecdsa-sha2-nistp521", b"ecdsa-sha2-nistp521", True), ("ecdsa-sha2-1.3.132.0.10", b"ecdsa-sha2-1.3.132.0.10", False),
    ],
)  # fmt: skip
def test_kinds_of_keys_and_algorithms(tmp_path: Path, kind: str, algorithm: bytes, *, good: bool) -> None:
    """SHA-1, and kinds that OpenSSH does not know: asyncssh would take them all."""
    made = asyncssh.generate_private_key(kind)
    text = f"{OPERATOR} {made.export_public_key().decode()}".encode()
    assert taken(tmp_path, text, armored(made.public_data, made.sign(to_be_signed(), algorithm))) is good


def test_a_certificate_s_signature_is_not_its_key_s(tmp_path: Path) -> None:
    """The key is listed, the signature names a certificate over it: OpenSSH compares the two and refuses."""
    authority, key = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_user_certificate(key, "ada", principals=[OPERATOR])
    text = f"{OPERATOR} {key.export_public_key().decode()}".encode()
    signature = key.sign(to_be_signed(), b"ssh-ed25519")
    assert not taken(tmp_path, text, armored(certificate.public_data, signature))
    assert taken(tmp_path, text, armored(key.public_data, signature))
