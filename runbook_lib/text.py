"""Text that comes from elsewhere: a server, a CA or a file may write anything, and a terminal obeys much of it."""

import re
import unicodedata

_KEPT_CONTROLS = {"\n", "\t"}
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# of a string without an end the first letter alone goes: it must not take away what stands after it
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)")


def plain(text: object) -> str:
    """Text without control, ANSI, bidi and unassigned characters; line ends and tabs stay."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        each for each in _ANSI.sub("", text) if each in _KEPT_CONTROLS or unicodedata.category(each) not in _UNSEEN
    )
