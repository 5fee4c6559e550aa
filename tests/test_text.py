"""What is left of a text that comes from elsewhere."""

import pytest

from runbook_lib.models import Verdict
from runbook_lib.text import plain

PLAIN = {
    "\x1b[1;31mred\x1b[0m": "red",
    "\x1b]0;title\x07text": "text",
    "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\": "text",
    "a\x1bb": "ab",
    "a\rb": "ab",
    "a\n\tb": "a\n\tb",
    "abc\u202e\u2067def": "abcdef",
    "Käse 日本語 😀": "Käse 日本語 😀",
    "a\u200d\ufeff\u00adb": "ab",
    "a\u2028b\u2029c": "abc",
    "\ue000\U0010ffff": "",
    "✔ ✘": "✔ ✘",
}


@pytest.mark.parametrize(("text", "left"), PLAIN.items())
def test_what_is_left_of_a_text(text: str, left: str) -> None:
    """Letters, marks, line feeds and tabs stay; what would control a terminal goes."""
    assert plain(text) == left


def test_plain_takes_anything() -> None:
    """Numbers and paths become text."""
    assert [plain(each) for each in (1, None, 2.5, Verdict.FAIL)] == ["1", "None", "2.5", "fail"]
