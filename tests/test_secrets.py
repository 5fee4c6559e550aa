"""Secrets: references lead to them under strict conditions only, and no form of one is let through."""

import base64
import csv
import functools
import html
import io
import json
import os
import pprint
import random
import shlex
import subprocess
import textwrap
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import markupsafe
import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from jinja2.utils import htmlsafe_json_dumps

from runbook_lib.secrets import LARGEST_FILE, MASK, REFERENCE, SHORTEST_MASKED, Registry, SecretUnavailable, resolve
from runbook_lib.tables import table
from runbook_lib.text import plain
from tests.pki.authority import authority, ec_key, rsa_key

VALUE = "s3cret of the server"
AWKWARD = ["correct horse battery", "p@ss/w+ö\"rd&<1>'", "back\\slash\\n{}[]().*", "日本語パスワード", "tab\tand\nline", "+/+/+/+/+/", "%41%42%43%44", "😀" * 8]  # fmt: skip


def found(reference: str, base: Path) -> str:
    """The value behind a reference, with nobody there to ask."""
    return resolve(reference, name="ssh_password", base=base)


def refused(reference: str, base: Path) -> str:
    """Why a reference is refused."""
    with pytest.raises(SecretUnavailable) as caught:
        found(reference, base)
    assert VALUE not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A secret file as it should be."""
    path = tmp_path / "secret"
    path.write_text(f"{VALUE}\n")
    path.chmod(0o600)
    return path


REFERENCES = {
    "env:A_1": True, "file:x": True, "file:/a b/ä": True, "file:~/x": True, "keyring:a/b": True, "keyring:a/b/c": True, "prompt": True,
    "": False, "env:": False, "env:1A": False, "env:A B": False, "file:": False, "file:a\nb": False, "keyring:a": False, "keyring:/b": False,
    "keyring:a/": False, "prompt:x": False, "PROMPT": False, "hunter2": False, " prompt": False, "prompt\n": False, "ENV:A": False,
}  # fmt: skip


@pytest.mark.parametrize(("text", "good"), REFERENCES.items())
def test_what_a_reference_is(text: str, *, good: bool) -> None:
    """The four forms and nothing else."""
    assert bool(REFERENCE.fullmatch(text)) is good


def test_a_variable_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`env:NAME` is that variable as it is; unset and empty are the same fault, which names it."""
    monkeypatch.setenv("RUNBOOK_TEST", VALUE)
    assert found("env:RUNBOOK_TEST", tmp_path) == VALUE
    fault = "ssh_password: env:RUNBOOK_TEST is empty or not set; put the secret there, or point the reference elsewhere"
    monkeypatch.setenv("RUNBOOK_TEST", "")
    assert refused("env:RUNBOOK_TEST", tmp_path) == fault
    monkeypatch.delenv("RUNBOOK_TEST")
    assert refused("env:RUNBOOK_TEST", tmp_path) == fault


@pytest.mark.parametrize("written", ["secret", "./secret", "{}/secret"])
def test_a_file_that_is_closed_to_others(secret_file: Path, written: str) -> None:
    """A regular file of our own with mode 0600; relative paths begin at the project, the last line end is no part of it."""
    assert found(f"file:{written.format(secret_file.parent)}", secret_file.parent) == VALUE


def test_a_file_in_the_home_folder(secret_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder, not a name in the project."""
    monkeypatch.setenv("HOME", str(secret_file.parent))
    assert found("file:~/secret", Path("/nowhere")) == VALUE


@pytest.mark.parametrize("text", ["two\nlines\n", " blanks around ", "kept\r\n"])
def test_only_line_ends_are_cut_off(secret_file: Path, text: str) -> None:
    """A passphrase may hold blanks and line feeds."""
    secret_file.write_bytes(text.encode())
    assert found("file:secret", secret_file.parent) == text.rstrip("\r\n")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o601, 0o620, 0o644, 0o777, 0o4644])
def test_a_file_that_others_reach_is_refused(secret_file: Path, mode: int) -> None:
    """Any right of group or others is one too many; the text says what to run."""
    secret_file.chmod(mode)
    assert f"is open to others (mode {mode & 0o7777:04o}); run chmod 600" in refused("file:secret", secret_file.parent)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_that_only_its_owner_reaches_is_taken(secret_file: Path, mode: int) -> None:
    """What the owner may do is the owner's business."""
    secret_file.chmod(mode)
    assert found("file:secret", secret_file.parent) == VALUE


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(secret_file: Path) -> None:
    """Root could read it, and whoever owns it could change it."""
    os.chown(secret_file, 12345, -1)
    assert f"belongs to another user; chown it to {os.geteuid()}" in refused("file:secret", secret_file.parent)


def make_link(path: Path) -> None:
    """A link to a file that would be taken."""
    target = path.with_name("target")
    target.write_text(VALUE)
    target.chmod(0o600)
    path.symlink_to(target)


def make_large(path: Path) -> None:
    """One byte more than is read."""
    path.write_bytes(b"a" * (LARGEST_FILE + 1))
    path.chmod(0o600)


def make_binary(path: Path) -> None:
    """No text."""
    path.write_bytes(b"\xff\xfe\0")
    path.chmod(0o600)


def make_empty(path: Path) -> None:
    """A line end alone."""
    path.write_bytes(b"\n")
    path.chmod(0o600)


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent": (lambda _: None, "No such file"),
    "a link": (make_link, "symbolic link"),
    "a pipe": (lambda path: os.mkfifo(path, 0o600), "is no regular file"),
    "a folder": (lambda path: path.mkdir(0o700), "is no regular file"),
    "too large": (make_large, f"larger than {LARGEST_FILE} bytes"),
    "no text": (make_binary, "is no UTF-8 text"),
    "empty": (make_empty, "is empty or not set"),
}


@pytest.mark.timeout(5)
@pytest.mark.parametrize("case", UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_no_secret_file_is_refused(tmp_path: Path, case: tuple[Callable[[Path], object], str]) -> None:
    """Each by its own reason, at once, without leaving a descriptor open; a pipe does not hang the run."""
    make, why = case
    make(tmp_path / "odd")
    before = os.open("/", os.O_RDONLY)
    os.close(before)
    assert why in refused("file:odd", tmp_path)
    after = os.open("/", os.O_RDONLY)
    os.close(after)
    assert after == before


def test_a_file_of_exactly_the_largest_size_is_read(tmp_path: Path) -> None:
    """The limit itself is within it."""
    make_large(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(b"a" * LARGEST_FILE)
    assert len(found("file:secret", tmp_path)) == LARGEST_FILE


def test_a_home_of_nobody_is_refused(tmp_path: Path) -> None:
    """`~nobody-here` leads nowhere: said as such and not as a Python error."""
    assert "No such file" in refused("file:~nobody-here-at-all/secret", tmp_path)


class KeyringOfTests(keyring.backend.KeyringBackend):
    """A keyring that knows one entry, or is locked."""

    priority = 1
    locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked(VALUE)
        return VALUE if (service, username) == ("apstra", "admin/of/all") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise NotImplementedError  # a backend must have it; nothing here ever stores a secret

    def delete_password(self, service: str, username: str) -> None:
        raise NotImplementedError  # the same: nothing here ever deletes one


@pytest.fixture
def keyring_of_tests() -> Iterator[KeyringOfTests]:
    """The keyring while the test runs."""
    before, ours = keyring.get_keyring(), KeyringOfTests()  # type: ignore[no-untyped-call]
    keyring.set_keyring(ours)
    yield ours
    keyring.set_keyring(before)


def test_an_entry_of_the_keyring(tmp_path: Path, keyring_of_tests: KeyringOfTests) -> None:
    """Service and user are parted at the first slash; an absent entry and a locked keyring are named, each for itself."""
    assert found("keyring:apstra/admin/of/all", tmp_path) == VALUE
    assert "keyring:apstra/admin is empty or not set" in refused("keyring:apstra/admin", tmp_path)
    keyring_of_tests.locked = True
    assert "did not answer for apstra/admin: KeyringLocked; unlock it" in refused("keyring:apstra/admin", tmp_path)


def test_a_person_is_asked_by_the_parameters_name(tmp_path: Path) -> None:
    """`prompt` asks for the parameter it stands in."""
    asked: list[str] = []

    def ask(name: str) -> str:
        asked.append(name)
        return VALUE

    assert resolve("prompt", name="sudo_password", base=tmp_path, ask=ask) == VALUE
    assert asked == ["sudo_password"]


def test_a_prompt_without_a_person_is_refused(tmp_path: Path) -> None:
    """A headless run says what to use instead of waiting for nobody; an empty answer is no secret."""
    assert "ssh_password: `prompt` needs a person" in refused("prompt", tmp_path)
    with pytest.raises(SecretUnavailable, match="is empty"):
        resolve("prompt", name="ssh_password", base=tmp_path, ask=lambda _: "")


def in_base64(value: str, offset: int, encode: Callable[[bytes], bytes]) -> str:
    """The value within other bytes, at one of the three places where base64 can have it."""
    return encode(b"x" * offset + value.encode() + b" and what follows").decode()


def in_csv(value: str) -> str:
    """The value as a cell that needs quotes."""
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerow([value])
    return written.getvalue().rstrip("\r\n")


FORMS: dict[str, Callable[[str], str]] = {
    "raw": lambda value: value,
    "JSON": json.dumps,
    "JSON, not ASCII": lambda value: json.dumps(value, ensure_ascii=False),
    "JSON within JSON": lambda value: json.dumps(json.dumps(value)),
    "repr": repr,
    "bytes": lambda value: repr(value.encode()),
    "bytes between quotes": lambda value: repr(value.encode() + b"'")[:-2],
    "bytes between other quotes": lambda value: repr(value.encode() + b"'\"")[:-4],
    "shell": shlex.quote,
    "shell, by hand": lambda value: value.replace("'", "'\\''"),
    "SQL": lambda value: value.replace("'", "''"),
    "CSV": in_csv,
    "JSON in HTML": lambda value: html.escape(json.dumps(value)),
    "JSON in HTML, not ASCII": lambda value: html.escape(json.dumps(value, ensure_ascii=False)),
    "JSON in a template": lambda value: str(markupsafe.escape(json.dumps(value))),
    "JSON in a script": lambda value: str(htmlsafe_json_dumps(value)),
    "repr in HTML": lambda value: html.escape(repr(value)),
    "bytes in HTML": lambda value: html.escape(repr(value.encode())),
    "URL path": urllib.parse.quote,
    "URL component": lambda value: urllib.parse.quote(value, safe=""),
    "URL form": urllib.parse.quote_plus,
    "URL, small letters": lambda value: urllib.parse.quote(value, safe="").replace("%C3", "%c3").replace("%2F", "%2f"),
    "hex": lambda value: value.encode().hex(),
    "hex, capitals": lambda value: value.encode().hex().upper(),
    "hex, colons": lambda value: value.encode().hex(":"),
    "hex over two lines": lambda value: value.encode().hex()[:6] + "\n" + value.encode().hex()[6:],
    "hex as C writes it": lambda value: ", ".join(f"0x{each:02x}" for each in value.encode()),
    "hex as Python writes it": lambda value: "".join(f"\\x{each:02x}" for each in value.encode()),
    "URL, every byte": lambda value: "".join(f"%{each:02X}" for each in value.encode()),
    "HTML": html.escape,
    "HTML text": lambda value: html.escape(value, quote=False),
    "HTML of a table": lambda value: table("t", ("a",), [(value,)])._repr_html_(),
    **{f"base64 at {offset}": functools.partial(in_base64, offset=offset, encode=base64.b64encode) for offset in range(5)},
    **{f"URL-safe base64 at {offset}": functools.partial(in_base64, offset=offset, encode=base64.urlsafe_b64encode) for offset in range(3)},
    "base64 alone": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 without padding": lambda value: base64.b64encode(value.encode()).decode().rstrip("="),
}  # fmt: skip


def leaks(value: str, text: str) -> bool:
    """Whether the value can be had from a text: as it is, or after undoing one of the forms."""
    undone = [text, html.unescape(text), urllib.parse.unquote(text), urllib.parse.unquote_plus(text)]
    return any(value in each for each in undone) or value.encode().hex() in text.lower()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("value", AWKWARD)
def test_no_form_of_a_secret_is_let_through(value: str, form: Callable[[str], str]) -> None:
    """Raw, JSON, URL, hex, HTML and base64 at every offset: masked, while what stands around it stays."""
    registry = Registry()
    registry.add(value, name="ssh_password")
    shown = form(value)
    said = registry.redact(f"before [{shown}] after")
    assert MASK in said
    assert said.startswith("before [")
    assert said.endswith("] after")
    assert not leaks(value, said)
    assert shown not in said


def by_pprint(value: object) -> str:
    """In pieces: `pprint` breaks what is long at its blanks, and bytes after every fourth."""
    return pprint.pformat({"password": value}, width=24)


LONG = 'a correct "horse" battery isn\'t \\a staple ö <&> at all'
BROKEN_UP: dict[str, Callable[[str], str]] = {
    "by pprint": by_pprint,
    "as bytes by pprint": lambda value: by_pprint(value.encode()),
    "over lines": lambda value: textwrap.fill(value, 12),
    "over lines that are set in": lambda value: textwrap.indent(textwrap.fill(value, 12), "    "),
    "JSON in JSON in JSON": lambda value: json.dumps(json.dumps(json.dumps(json.dumps(value)))),
    "JSON in HTML in HTML": lambda value: html.escape(html.escape(json.dumps(value))),
    "letters without width": "\u200b".join,
    "half of them joined": lambda value: f"{value[:9]}\u2060\ufeff{value[9:]}",
    "letters that tag": "\U000e0041".join,
    "coloured": lambda value: f"{value[:5]}\x1b[1;31m{value[5:]}\x1b[0m",
    "every letter coloured": "\x1b[38;5;2m".join,
    "coloured in eight bits": "\x9b31m".join,
    "backslashes": "\\".join,
    "quotes": "'\"".join,
}


@pytest.mark.parametrize("form", BROKEN_UP.values(), ids=BROKEN_UP)
def test_a_secret_that_is_broken_up_is_found(form: Callable[[str], str]) -> None:
    """By what a program or a person puts between its letters; and not without one letter of it."""
    registry = Registry()
    registry.add(LONG, name="sudo_password")
    assert registry.found_in(f"before {form(LONG)} after") == ("sudo_password",)
    assert registry.found_in(f"before {form(LONG[:-1])} after") == ()


def test_little_is_taken_for_a_secret_that_is_none() -> None:
    """What is left of one without its quotes and blanks is not looked for where it is short; ordinary text holds none of them."""
    registry = Registry()
    for number, value in enumerate([*AWKWARD, "'\"' of \"'\"", "a b c d e f", "\\\\\\\\\\\\\\\\"]):
        registry.add(value, name=str(number))
    ours = [each.read_text() for each in Path(__file__).parents[1].glob("*.md")]
    assert len(ours) > 2
    for text in ours:
        assert registry.found_in(text) == ()
        assert registry.redact(text) == text
    assert registry.found_in("x '\"' of \"'\" y") == ("8",)


def test_a_secret_as_a_terminal_is_shown_it() -> None:
    """Without its controls and turned letters, which `plain` takes out."""
    value = "s3cret\x07 of\u202e the server"
    registry = Registry()
    registry.add(value, name="p")
    assert registry.redact(f"[{plain(value)}] [{value}]") == f"[{MASK}] [{MASK}]"


def test_a_line_of_a_secret_is_one() -> None:
    """Of a key, of an identity: each line alone; not what all of them have, nor what is public in the same file."""
    public, identity = (
        "age1qqp5x6ukd3x9vm8l0w0w4w2tqd0y8g7yfy4yv8l",
        "AGE-SECRET-KEY-1QQPQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQ",
    )
    certificate = authority("Example CA").pem.decode()
    for value, lines in {
        f"# created: 2026-06-01\n# public key: {public}\n{identity}\n": [identity],
        PRIVATE["PKCS#8"] + certificate: PRIVATE["PKCS#8"].splitlines()[1:-1],
        PRIVATE["OpenSSH"].replace("\n", "\r\n"): PRIVATE["OpenSSH"].splitlines()[1:-1],
    }.items():
        registry = Registry()
        registry.add(value, name="backup_identity")
        for line in (each for each in lines if len(each) >= SHORTEST_MASKED):
            assert registry.redact(f"before {line} after") == f"before {MASK} after"
            assert registry.found_in(f"before {line} after") == ("backup_identity",)
        for known in (public, "# created: 2026-06-01", certificate, "-----BEGIN PRIVATE KEY-----"):
            assert registry.found_in(known) == ()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "value",
    ["'\"'\"'\"'\"'\"'\"'\"'\"", "\\" * 40, "%25" * 20, "&amp;" * 10, "aaaaaaaaaaaaaaaaaaaaaaab", " " * 30 + "x" * 9],
)
def test_no_text_keeps_the_search_busy(value: str) -> None:
    """One that nearly holds a secret all the way, in every form of it: the time goes with its length."""
    registry = Registry()
    registry.add(value, name="p")
    near = [form(value)[:-1] for form in FORMS.values()]
    for each in near:
        text = (each * (100_000 // len(each)))[:100_000]
        begun = time.monotonic()
        registry.redact(text)
        registry.found_in(text)
        assert time.monotonic() - begun < 5


def test_base64_of_seeded_random_secrets() -> None:
    """Wherever a secret begins in what is encoded, what can be decoded of the masked text does not hold it."""
    chance = random.Random(20260602)
    for _ in range(200):
        value = "".join(chance.choices("abcdefghijklmnopqrstuvwxyzABCDEF0123456789+/=!ö€", k=chance.randint(8, 40)))
        registry = Registry()
        registry.add(value, name="p")
        before = chance.randbytes(chance.randint(0, 9))
        text = base64.b64encode(before + value.encode() + chance.randbytes(chance.randint(0, 9))).decode()
        head, mask, tail = registry.redact(text).partition(MASK)
        assert mask, value
        kept = len(head) * 6 + len(tail.rstrip("=")) * 6
        hidden = len(text.rstrip("=")) * 6 - kept
        assert hidden > len(value.encode()) * 8 - 12  # all but the bits that share a letter with a neighbour


def test_every_registered_value_is_masked_the_longer_first() -> None:
    """A secret that contains another leaves none of its rest behind; the mask says nothing of the length."""
    registry = Registry()
    registry.add("secretsecret", name="a")
    registry.add("secretsecret-and-more", name="b")
    assert registry.redact("x secretsecret-and-more y SECRETSECRET z") == f"x {MASK} y {MASK} z"


def test_the_longest_form_is_known() -> None:
    """Whoever holds text back until a secret cannot begin in it any more needs the length of the longest form."""
    registry = Registry()
    assert registry.longest == 0
    for value in AWKWARD:
        registry.add(value, name="p")
        assert registry.longest >= max(len(form(value)) for name, form in FORMS.items() if name in {"raw", "hex", "URL component", "HTML"})  # fmt: skip


NOT_MASKED = {
    "7 characters": "a1b2c3d",
    "a common word": "password",
    "a common word in capitals": "ChangeMe",
    "another parameter": "apstra.example.com",
    "part of another parameter": "grace.hopper",
    "part of one, in capitals": "EXAMPLE.COM",
}


@pytest.mark.parametrize("value", NOT_MASKED.values(), ids=NOT_MASKED)
def test_a_value_that_cannot_be_masked_is_noted(value: str) -> None:
    """Masking it would spoil ordinary text: it stays, and the record can warn with the parameter's name, never the value."""
    registry = Registry()
    registry.add(value, name="sudo_password", public=["admin", "apstra.example.com", "grace.hopper@example.net"])
    assert registry.redact(f"x {value} y") == f"x {value} y"
    assert registry.unmasked == {"sudo_password"}
    assert registry.longest == 0


def test_a_secret_within_a_sentence_is_masked() -> None:
    """Whoever writes their password into the reason of a change spoils that text alone."""
    registry = Registry()
    registry.add("grace.hopper", name="p", public=["my password is grace.hopper"])
    assert registry.redact("my password is grace.hopper") == f"my password is {MASK}"
    assert not registry.unmasked


def test_eight_characters_are_masked() -> None:
    """The limit itself is masked, and not noted."""
    registry = Registry()
    registry.add("a1b2c3d4", name="p", public=["admin"])
    assert registry.redact("x a1b2c3d4 y") == f"x {MASK} y"
    assert not registry.unmasked


def test_a_cleared_registry_knows_nothing() -> None:
    """After clear nothing is masked or noted."""
    registry = Registry()
    registry.add(VALUE, name="p")
    registry.add("x", name="q")
    registry.clear()
    assert registry.redact(VALUE) == VALUE
    assert (registry.unmasked, registry.longest) == (set(), 0)


def private_keys() -> dict[str, str]:
    """Private keys in the forms in which programs write them."""
    made = {
        "PKCS#8": ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "RSA": rsa_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        "EC": ec_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        "encrypted": ec_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "OpenSSH": ec_key().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
    }
    return {name: pem.decode() for name, pem in made.items()}


PRIVATE = private_keys()


@pytest.mark.parametrize("pem", PRIVATE.values(), ids=PRIVATE)
@pytest.mark.parametrize("form", [str, json.dumps, repr, lambda text: text.replace("\n", "\r\n"), lambda text: text[: len(text) // 2]])  # fmt: skip
def test_no_private_key_is_let_through(pem: str, form: Callable[[str], str]) -> None:
    """Whole, inside JSON, with other line ends or cut off: nothing of its body is left, and no secret need be registered."""
    said = Registry().redact(f"before\n{form(pem)}\n")
    assert MASK in said
    assert said.startswith("before\n")
    assert "PRIVATE KEY" not in said
    assert not any(line in said for line in pem.splitlines()[1:-1])


def test_what_stands_between_private_keys_stays() -> None:
    """Two keys are masked each for itself; certificates, public keys and talk of private keys are no secrets."""
    ended = subprocess.run(
        ["openssl", "pkey", "-pubout"], input=PRIVATE["EC"], text=True, capture_output=True, check=True
    )
    said = Registry().redact(f"{PRIVATE['EC']}between{PRIVATE['RSA']}the PRIVATE KEY is safe\n{ended.stdout}")
    assert said == f"{MASK}\nbetween{MASK}\nthe PRIVATE KEY is safe\n{ended.stdout}"
