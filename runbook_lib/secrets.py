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
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from runbook_lib.text import plain

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
# what many secrets have in common, or what is known of one: comments, armour, headers (RFC 1421)
_SAID_BY_MANY = ("#", "-----", "Proc-Type:", "DEK-Info:")
_PUBLIC_PART = re.compile(r"-----BEGIN (?![A-Z ]*PRIVATE KEY)([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_IN_SCRIPTS = {ord(each): f"\\u{ord(each):04x}" for each in "<>&'"}
_COLOURS = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]")
_PIECES = re.compile(r"(?<=['\"])\s+b(?=['\"])")  # of bytes, as pprint writes them
# blanks, line ends, controls, what has no width; and what quotes
_UNSEEN = (
    (0, 0x20), (0x7F, 0xA0), (0xAD, 0xAD), (0x61C, 0x61C), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200F), (0x2028, 0x202F),
    (0x205F, 0x206F), (0x3000, 0x3000), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xE0000, 0xE01EF),
)  # fmt: skip
_NOTHING = dict.fromkeys([*chain.from_iterable(range(first, last + 1) for first, last in _UNSEEN), *map(ord, "'\"\\")])


class SecretUnavailable(Exception):
    """A secret reference leads nowhere usable; the text says why and what to do, never the value."""


class Registry:
    """The secret values of this process, in every form in which one could be written.

    Masked as they flow are those in which the whole value stands in a row, as a program writes it: the text around it stays as
    it was, so that nothing may be taken for one that is none. Found before a record is sealed is a value, too, that was
    broken up by line ends, quotes, backslashes, colours or letters that nobody sees: there a doubt is worth a look.
    """

    def __init__(self) -> None:
        self._pattern: re.Pattern[str] | None = None
        self._values: dict[str, str] = {}
        self._forms: dict[str, set[str]] = {}
        self._sought: dict[str, set[str]] = {}
        self.unmasked: set[str] = set()
        self.longest = 0

    def add(self, value: str, *, name: str, public: Iterable[str] = ()) -> None:
        """Masks a value from now on, in all its forms.

        Args:
            value: The secret.
            name: The parameter it came from.
            public: Values of other parameters: a secret that equals one, or is part of one that is a single word, such as the
                operator's name, cannot be masked by its text.
        """
        public = list(public)
        if not _can_be_masked(value, public):
            self.unmasked.add(name)
            return
        for each in (value, *(part for part in _parts(value) if _can_be_masked(part, public))):
            self._values.setdefault(each, name)
            self._forms[each] = _forms(each)
            self._sought[each] = {_squeezed(form.lower()) for form in self._forms[each]}
        forms = set().union(*self._forms.values())
        self.longest = max(*map(len, forms), *(len(each.encode()) * _LONGEST_BYTE for each in self._values))
        self._pattern = _pattern(forms, self._values)

    def redact(self, text: str) -> str:
        """The text with every registered value and every private key replaced by a mask of fixed length."""
        text = _PRIVATE_KEY.sub(MASK, text) if "PRIVATE KEY" in text else text
        return self._pattern.sub(MASK, text) if self._pattern else text

    def found_in(self, text: str) -> tuple[str, ...]:
        """The parameters whose secret stands in a text in any form, whatever it was broken up by."""
        text = text.lower()
        searched = [(text, _squeezed(text))]
        if "&" in text and (read := html.unescape(text)) != text:  # what stands in a page may be JSON, and more
            searched.append((read, _squeezed(read)))
        hexadecimal = _HEX_MARKS.sub("", text)
        return tuple(
            sorted(
                {
                    name
                    for value, name in self._values.items()
                    if value.encode().hex() in hexadecimal or any(self._stands_in(value, *each) for each in searched)
                }
            )
        )

    def _stands_in(self, value: str, text: str, squeezed: str) -> bool:
        return any(each in squeezed for each in self._sought[value] if len(each) >= SHORTEST_MASKED) or any(
            form.lower() in text for form in self._forms[value] if len(_squeezed(form)) < SHORTEST_MASKED
        )

    def clear(self) -> None:
        """Forgets every value."""
        self._values.clear()
        self._forms.clear()
        self._sought.clear()
        self.unmasked.clear()
        self._pattern, self.longest = None, 0


def _can_be_masked(value: str, public: Sequence[str]) -> bool:
    """Whether a value can be masked by its text without spoiling other text."""
    low = value.lower()
    if len(value) < SHORTEST_MASKED or low in _COMMON or value in public:
        return False
    return not any(low in each.lower() for each in public if len(each.split()) == 1)


def _parts(value: str) -> Iterator[str]:
    """What else tells a secret: it as a terminal is shown it, and each of its lines, as of a key; not what all keys have, and no public part."""
    if (shown := plain(value)) != value:
        yield shown
    lines = _PUBLIC_PART.sub("", value).splitlines()
    if len(lines) > 1:
        yield from (each.strip() for each in lines if not each.startswith(_SAID_BY_MANY))


def _squeezed(text: str) -> str:
    """Text without all that can stand between the letters of a value without being one."""
    if "\x1b" in text or "\x9b" in text:
        text = _COLOURS.sub("", text)
    return _PIECES.sub("", text).translate(_NOTHING)


def _pattern(forms: Iterable[str], values: Iterable[str]) -> re.Pattern[str]:
    """Any of the forms, the longest first, and any of the values in hex; by their first letters, which are searched for at once."""
    begins: dict[str, list[str]] = {}
    for form in sorted(forms, key=len, reverse=True):
        for first in {form[0], form[0].lower(), form[0].upper()}:
            begins.setdefault(first, []).append(re.escape(form[1:]))
    for value in values:
        first, rest = (pattern := _byte_by_byte(value))[0], pattern[1:]
        for each in {first, first.upper()}:
            begins.setdefault(each, []).append(rest)
    return re.compile("|".join(f"{re.escape(first)}(?i:{'|'.join(rest)})" for first, rest in begins.items()))


def _forms(value: str) -> set[str]:
    raw = value.encode()
    quoted = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    as_bytes = repr(raw + b"'\"")[2:-4].replace("\\'", "'")  # the two make sure of the quotes around
    python = {
        repr(value)[1:-1],
        as_bytes,
        as_bytes.replace("'", "\\'"),
        as_bytes.replace('"', '\\"'),
        as_bytes.replace("'", "\\'").replace('"', '\\"'),
    }
    forms = {value, *quoted, *python, *(json.dumps(each, ensure_ascii=False)[1:-1] for each in quoted)}
    forms |= {each.translate(_IN_SCRIPTS) for each in quoted}
    forms |= {value.replace("'", each) for each in ("'\"'\"'", "'\\''", "''")} | {
        value.replace('"', '""')
    }  # shells, SQL, YAML; CSV
    forms |= {urllib.parse.quote(value), urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value)}
    forms |= {escape(each) for each in (value, *quoted, *python) for escape in (html.escape, _kept_quotes, _styled)}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        stable = encoded[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]
        forms |= {stable, stable.translate(str.maketrans("+/", "-_"))}
    return forms


def _byte_by_byte(value: str) -> str:
    """A pattern for the bytes in hex, however they are set apart: `68:75`, `68 75`, `%68%75`, `0x68, 0x75`, and as Python writes them."""
    return _BETWEEN.join(f"{each:02x}" for each in value.encode())


def _kept_quotes(value: str) -> str:
    return html.escape(value, quote=False)


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
