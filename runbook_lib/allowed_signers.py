"""Whose key may sign what: the text of an allowed-signers file (ssh-keygen(1), ALLOWED SIGNERS), never read more kindly than OpenSSH reads it.

A line that is not of the plain form makes the whole text unusable: whoever wrote it meant something by it, perhaps to keep somebody out.
"""

import base64
import binascii
import calendar
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

KINDS: Mapping[str, frozenset[bytes]] = {
    "ssh-ed25519": frozenset({b"ssh-ed25519"}),
    "ecdsa-sha2-nistp256": frozenset({b"ecdsa-sha2-nistp256"}),
    "ecdsa-sha2-nistp384": frozenset({b"ecdsa-sha2-nistp384"}),
    "ecdsa-sha2-nistp521": frozenset({b"ecdsa-sha2-nistp521"}),
    "ssh-rsa": frozenset({b"rsa-sha2-256", b"rsa-sha2-512"}),
    "sk-ssh-ed25519@openssh.com": frozenset({b"sk-ssh-ed25519@openssh.com"}),
    "sk-ecdsa-sha2-nistp256@openssh.com": frozenset({b"sk-ecdsa-sha2-nistp256@openssh.com"}),
}
"""The kinds of keys that OpenSSH signs files with, and the algorithms that it takes of each (PROTOCOL.sshsig: no SHA-1)."""

_WHO = re.compile(r"[!#-~]+")
_VALUED = re.compile(r'(namespaces|valid-after|valid-before)="([!#-\[\]-~]+)"(?:,|$)')
_TIME = re.compile(r"\d{8}(?:\d{4}(?:\d\d)?)?(Z?)")
_FORMATS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LONGEST = 1000  # characters of a list of patterns; OpenSSH reads no pattern of 1,024


@dataclass(frozen=True, slots=True)
class Allowed:
    """One line.

    Attributes:
        number: Of the line, from 1.
        who: The names it is for, patterns with commas between.
        public: The key as OpenSSH writes it, kind and base64.
        key: The key as it stands in a signature.
        namespaces: The purposes it is for, patterns with commas between.
        after: From when it is good, seconds since 1970.
        before: Until when.
    """

    number: int
    who: str
    public: str
    key: bytes
    namespaces: str = "*"
    after: float = float("-inf")
    before: float = float("inf")

    def permits(self, key: bytes, *, principal: str, namespace: str, now: float) -> bool:
        """Whether somebody may sign for a purpose by a key at a time."""
        named = _matches(self.who, principal) and _matches(self.namespaces, namespace)
        return key == self.key and named and self.after <= now < self.before


def read_allowed(text: str) -> tuple[Allowed, ...]:
    """The lines of a text.

    Raises:
        ValueError: It names no signer, or a line cannot be taken as OpenSSH would take it; the text says which and why.
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.strip(" \t")
        if words and not words.startswith("#"):
            try:
                found.append(_read(number, words))
            except ValueError as error:
                msg = f"cannot be used, line {number}: {error}"
                raise ValueError(msg) from None
    if not found:
        msg = "names no signer"
        raise ValueError(msg)
    return tuple(found)


def _read(number: int, line: str) -> Allowed:
    if odd := _CONTROL.search(line):
        raise ValueError(f"holds the control character {odd[0]!r}")
    who, *words = re.split(r"[ \t]+", line)
    if not _WHO.fullmatch(who) or len(who) > _LONGEST:
        raise ValueError("the name is not plain ASCII without quotes")
    options = _options(words.pop(0)) if words and words[0] not in KINDS else {}
    if len(words) < 2 or words[0] not in KINDS:  # noqa: PLR2004 - kind and key
        raise ValueError("there is no key of a kind that is known here")
    kind, key = words[0], _key(words[0], words[1])
    after, before = (_time(options[each]) if each in options else None for each in ("valid-after", "valid-before"))
    if after is not None and before is not None and before <= after:
        raise ValueError("valid-before is not after valid-after")
    return Allowed(
        number, who, f"{kind} {words[1]}", key, options.get("namespaces", "*"),
        float("-inf") if after is None else after, float("inf") if before is None else before,
    )  # fmt: skip


def _options(text: str) -> dict[str, str]:
    """The options of a line by name."""
    if "cert-authority" in text:
        raise ValueError("cert-authority: certificates are not understood here; list the keys themselves")
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        option = _VALUED.match(text, at)
        if option is None or option[1] in found or len(option[2]) > _LONGEST:
            raise ValueError("what follows the name is no key of a kind that is known here, nor options, each once, in small letters "
                             'and quoted: namespaces="…",valid-after="…",valid-before="…"')  # fmt: skip
        found[option[1]], at = option[2], option.end()
    if text.endswith(","):
        raise ValueError("a comma ends the options")
    return found


def _key(kind: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    name = kind.encode()
    if base64.b64encode(key).decode() != text or not key.startswith(len(name).to_bytes(4, "big") + name):
        raise ValueError("the key is spoilt")
    return key


def _time(text: str) -> float:
    """A time as OpenSSH reads it: of this host's zone, or of UTC where a Z ends it."""
    form = _TIME.fullmatch(text)
    try:
        parts = time.strptime(text.removesuffix("Z"), _FORMATS[len(text.removesuffix("Z"))]) if form else None
        seconds = 0.0 if form is None or parts is None else calendar.timegm(parts) if form[1] else time.mktime(parts)
    except (KeyError, ValueError, OverflowError):
        seconds = 0.0
    if seconds <= 0:
        raise ValueError(f"{text} is no time since 1970 such as 20261231 or 202612312359Z")
    return seconds


def _matches(patterns: str, name: str) -> bool:
    """Whether a list of patterns names a name: `*` and `?` stand for anything, and one that begins with `!` keeps out (ssh_config(5), PATTERNS)."""
    taken = [each for each in patterns.split(",") if _regex(each.removeprefix("!")).fullmatch(name)]
    return bool(taken) and not any(each.startswith("!") for each in taken)


def _regex(pattern: str) -> re.Pattern[str]:
    escaped = re.escape(re.sub(r"\*+", "*", pattern))
    return re.compile(escaped.replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
