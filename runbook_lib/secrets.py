"""Secret references, the registry of secret values, and redaction.

A parameter never holds a secret, only a reference to one: `env:NAME`, `file:PATH`, `keyring:SERVICE/USER` or `prompt`.
Every value that was resolved is registered, and whatever leaves the kernel passes `redact` first.
"""

import base64
import html
import json
import os
import re
import stat
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path

MASK = "[secret]"
SHORTEST_MASKED = 8
LARGEST_FILE = 64 * 1024
REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\x00-\x1f]+|keyring:[^/\x00-\x1f]+/[^\x00-\x1f]+|prompt")
HOW_TO_WRITE = "`env:NAME`, `file:PATH`, `keyring:SERVICE/USER` or `prompt`, never the secret itself"
_BETWEEN = r"[\s,:%-]{0,2}(?:\\?0?x)?"
_HEX_MARKS = re.compile(r"[\s,:%-]|\\?0?x")
_LONGEST_BYTE = len(", \\0xff")
_COMMON = frozenset({"password", "changeme", "administrator", "juniper123", "certificate"})
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)


class SecretUnavailable(Exception):
    """A secret reference leads nowhere usable; the text says why and what to do, never the value."""


class Registry:
    """The secret values of this process, in every form in which one could be written."""

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._values: dict[str, str] = {}
        self._forms: dict[str, set[str]] = {}
        self.unmasked: set[str] = set()
        self.longest = 0

    def add(self, value: str, *, name: str, public: Iterable[str] = ()) -> None:
        """Masks a value from now on, in all its forms.

        Args:
            value: The secret.
            name: The parameter it came from.
            public: Values of other parameters: a secret that equals one cannot be masked by its text.
        """
        if len(value) < SHORTEST_MASKED or value.lower() in _COMMON or value in set(public):
            self.unmasked.add(name)
            return
        self._values.setdefault(value, name)
        self._forms[value] = _forms(value)
        forms = sorted(set().union(*self._forms.values()), key=len, reverse=True)
        self.longest = max(len(forms[0]), *(len(each.encode()) * _LONGEST_BYTE for each in self._values))
        self._pattern = re.compile("|".join([*map(re.escape, forms), *map(_byte_by_byte, self._values)]), re.IGNORECASE)

    def redact(self, text: str) -> str:
        """The text with every registered value and every private key replaced by a mask of fixed length."""
        text = _PRIVATE_KEY.sub(MASK, text) if "PRIVATE KEY" in text else text
        return self._pattern.sub(MASK, text) if self._pattern else text

    def found_in(self, text: str) -> tuple[str, ...]:
        """The parameters whose secret stands in a text in any form, also where a line was broken within it."""
        text = text.lower()
        unbroken, hexadecimal = _unbroken(text), _HEX_MARKS.sub("", text)
        return tuple(
            sorted(
                {
                    name
                    for value, name in self._values.items()
                    if value.encode().hex() in hexadecimal
                    or any(_unbroken(each.lower()) in unbroken for each in self._forms[value])
                }
            )
        )

    def clear(self) -> None:
        """Forgets every value."""
        self._values.clear()
        self._forms.clear()
        self.unmasked.clear()
        self._pattern, self.longest = None, 0


def _unbroken(text: str) -> str:
    return "".join(text.split())


def _forms(value: str) -> set[str]:
    raw = value.encode()
    quoted = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    forms = {value, *quoted, repr(value)[1:-1], *(json.dumps(each, ensure_ascii=False)[1:-1] for each in quoted)}
    forms |= {urllib.parse.quote(value), urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value)}
    forms |= {html.escape(value), html.escape(value, quote=False), _styled(value)}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        stable = encoded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
        forms |= {stable, stable.translate(str.maketrans("+/", "-_"))}
    return forms


def _byte_by_byte(value: str) -> str:
    """A pattern for the bytes in hex, however they are set apart: `68:75`, `68 75`, `%68%75`, `0x68, 0x75`, and as Python writes them."""
    return _BETWEEN.join(f"{each:02x}" for each in value.encode())


def _styled(value: str) -> str:
    return html.escape(value).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")  # as pandas and jinja write quotes


REGISTRY = Registry()
redact = REGISTRY.redact


def resolve(reference: str, *, name: str, base: Path, ask: Callable[[str], str] | None = None) -> str:
    """The value behind a secret reference.

    Args:
        reference: `env:NAME`, `file:PATH`, `keyring:SERVICE/USER` or `prompt`.
        name: The parameter that holds the reference, for the prompt and for errors.
        base: The folder against which a relative `file:` path is resolved.
        ask: Asks a person for `prompt`; None when nobody is there.

    Raises:
        SecretUnavailable: The reference leads nowhere usable.
    """
    kind, _, rest = reference.partition(":")
    match kind:
        case "env":
            value = os.environ.get(rest, "")
        case "file":
            value = _from_file(base / os.path.expanduser(rest))  # noqa: PTH111 - leaves `~nobody` as it is, Path's raises
        case "keyring":
            value = _from_keyring(rest)
        case _:
            if ask is None:
                msg = f"{name}: `prompt` needs a person, and this run has none; use env:, file: or keyring:"
                raise SecretUnavailable(msg)
            value = ask(name)
    if not value:
        msg = f"{name}: {reference} is empty or not set; put the secret there, or point the reference elsewhere"
        raise SecretUnavailable(msg)
    return value


def _from_file(path: Path) -> str:
    """Reads a secret file that is regular, our own, closed to others and small."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; name an existing regular file"
        raise SecretUnavailable(msg) from None
    facts = os.fstat(descriptor)
    wrong = ""
    if not stat.S_ISREG(facts.st_mode):
        wrong = "is no regular file"
    elif facts.st_uid != os.geteuid():
        wrong = f"belongs to another user; chown it to {os.geteuid()}"
    elif stat.S_IMODE(facts.st_mode) & 0o077:
        wrong = f"is open to others (mode {stat.S_IMODE(facts.st_mode):04o}); run chmod 600 on it"
    elif facts.st_size > LARGEST_FILE:
        wrong = f"is larger than {LARGEST_FILE} bytes"
    if wrong:
        os.close(descriptor)
        msg = f"{path} {wrong}"
        raise SecretUnavailable(msg)
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            msg = f"{path} is no UTF-8 text"
            raise SecretUnavailable(msg) from None


def _from_keyring(entry: str) -> str:
    import keyring  # noqa: PLC0415 - slow to import and seldom used
    import keyring.errors  # noqa: PLC0415

    service, _, user = entry.partition("/")
    try:
        return keyring.get_password(service, user) or ""
    except keyring.errors.KeyringError as error:
        msg = f"the keyring did not answer for {service}/{user}: {type(error).__name__}; unlock it or use file:"
        raise SecretUnavailable(msg) from None
