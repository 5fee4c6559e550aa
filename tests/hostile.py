"""One corpus of hostile texts: what somebody may write into a name, a certificate, a log or an answer, and a reader would obey."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LARGE = 2_000_000
CANARY = "canary"  # a program that leaves a mark where it is run; a test puts it into PATH
LONGEST_NAME = 200  # bytes of a file's name, with room for what is put before and behind it


@dataclass(frozen=True)
class Hostile:
    """One hostile text.

    Attributes:
        name: What it is.
        text: As it goes into a source.
        kept: What is still to be read of it, in this order, where a person is shown the text: it is taken apart, never taken away.
        obeyed_by: The readers that obey it as it is: `browser`, `terminal`, `spreadsheet`, `prometheus`, `shell`, `mathjax`.
    """

    name: str
    text: str
    kept: tuple[str, ...]
    obeyed_by: frozenset[str]

    @property
    def raw(self) -> bytes:
        """The bytes that a server sends or a file holds; what is no UTF-8 comes from a lone surrogate."""
        return self.text.encode(errors="surrogateescape")


def _texts(obeyed_by: str, texts: Iterable[tuple[str, ...]]) -> Iterator[Hostile]:
    """Name, text, and what is kept of it, pieces divided by `|`; all of it where nothing is said."""
    for name, text, *kept in texts:
        pieces = tuple(kept[0].split("|")) if kept else (text,)
        yield Hostile(name, text, pieces, frozenset(obeyed_by.split()))


BROWSER = [
    ("a script", "<script>alert('a script')</script>"),
    ("an image", """<img src=x onerror="alert('an image')">"""),
    ("a drawing", "<svg/onload=alert('a drawing')>"),
    ("the end of a style", "</style><script>alert('the end of a style')</script>"),
    ("the end of a script", "</script><script>alert('the end of a script')</script>"),
    ("the end of a cell", "</td></tr></table></pre><iframe src=//cell.example></iframe>"),
    ("the end of a title", "</title></textarea><body onload=alert('the-title')>"),
    ("the end of an attribute", """x" onmouseover="alert('attribute')" y="z"""),
    ("the end of a quoted attribute", """x' onmouseover='alert("quoted")' y='z"""),
    ("a link", """<a href="javascript:alert('a link')">a link</a>"""),
    ("a form", "<form action=//form.example><button formaction=javascript:alert(1)>a form</button></form>"),
    ("another page", '<meta http-equiv="refresh" content="0;url=//refresh.example"><base href=//base.example>'),
    ("a style", "<style>@import url(//style.example)</style><link rel=stylesheet href=//link.example>"),
]
AS_TEXT = [
    ("entities", "&lt;script&gt;entities&#60;b&#62;&amp;"),
    ("a comment", "<!-- a comment --><![CDATA[ x ]]>", "<!-- a comment -->"),
    ("a template", "{{7*7}}{% include 'x' %}{# x #}"),
    ("a format", "{0.__class__} %s%n ${7*7} #{7*7} a-format"),
    ("a Markdown image", "![x](https://markdown.example/i.png)"),
    ("a Markdown link", "[x](javascript:alert('markdown'))"),
    ("the end of a JSON text", """x","outcome":"done","json":{"a":["""),
    ("a JSON escape", r"json-escape \u0000 \ud800 \x"),
    ("Python", '"; import os; os.system(\'canary\'); """ \'\\'),
    ("a path upwards", f"../../../../../../tmp/{CANARY}-upwards"),
    ("an absolute path", f"/tmp/{CANARY}-absolute"),  # noqa: S108 - nothing is to be written there
    ("a home folder", "~root/home-folder"),
    ("a verdict of ours", "✔ pass a-verdict"),
    ("letters that look alike", "аpstra.exаmple.com look-alike"),  # noqa: RUF001 - they are what is tried
    ("letters from right to left", "שלום.example"),
    ("letters with many marks", "z̸̢̡̛̖a-lgo", "a-lgo"),
    ("signs from beyond the first plane", "😀 beyond 𝒳"),  # noqa: RUF001 - it is what is tried
]
TERMINAL = [
    ("colours", "\x1b[1;31mcolours\x1b[0m", "colours"),
    ("a cleared screen", "\x1b[2J\x1b[Hcleared\x1b[999D", "cleared"),
    ("a title", "\x1b]0;title\x07titled", "titled"),
    ("a link of a terminal", "\x1b]8;;https://osc8.example\x1b\\osc8\x1b]8;;\x1b\\", "osc8"),
    ("a clipboard", "\x1b]52;c;Y2FuYXJ5Cg==\x07clipboard", "clipboard"),
    ("a clipboard without an end", "\x1b]52;c;Y2FuYXJ5Cg without-an-end", "without-an-end"),
    ("a colour without an end", "no-end-of-colour\x1b[31", "no-end-of-colour"),
    ("a device's string", "\x1bP$qm\x1b\\device", "device"),
    ("a reset", "\x1bcreset\x1b", "reset"),
    ("eight-bit controls", "\x9b31meight-bit\x9d0;c1-title\x9c\x90x\x9c\x84", "eight-bit|c1-title"),
    ("a line over a line", "true-line\rfalse-line", "true-line|false-line"),
    ("line ends of DOS", "dos-one\r\ndos-two", "dos-one|dos-two"),
    ("strokes taken back", "taken\x08\x08\x08\x08\x08back\x7f", "taken|back"),
    ("other line ends", "vt\x0bff\x0cnel\x85ls\u2028ps\u2029end-of-lines", "vt|ff|nel|ls|ps|end-of-lines"),
    ("bells", "\x07\x07bells\x0e\x0f\x05", "bells"),
    ("a zero byte", "before-zero\x00after-zero", "before-zero|after-zero"),
    ("letters turned round", "\u202etxt.exe-turned\u202c", "txt.exe-turned"),
    ("isolated letters", "\u2066isolated\u2069\u2067x\u2069\u2068y", "isolated|x|y"),
    ("marks of direction", "\u200edirection\u200f\u061c", "direction"),
    ("letters without width", "zero\u200bwidth\u200c\u200d\u2060\ufeff\u00ad", "zero|width"),
    ("letters that tag", "tagged\U000e0041\U000e007f", "tagged"),
    ("half a letter", "half\ud83dletter", "half|letter"),
    ("bytes that are no letters", "no-\udcff\udcfeletters", "no-|letters"),
]
SPREADSHEET = [
    ("a formula", "=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
    ("a formula with +", "+1+formula-plus"),
    ("a formula with -", "-1+formula-minus"),
    ("a formula with @", "@SUM(formula_at)"),
    ("a formula behind a blank", "  =1+behind_blank", "=1+behind_blank"),
    ("a formula behind a tab", "\t=1+behind_tab", "=1+behind_tab"),
    ("a formula behind a line end", "\n=1+behind_line", "=1+behind_line"),
    ("a formula in wide letters", "＝1+wide_letters"),  # noqa: RUF001 - they are what is tried
    ("a cell's end", '","=1+cell_end","'),
]
BOTH = [("a formula behind a carriage return", "\r=1+behind_return", "=1+behind_return")]
ONCE_STRIPPED = [  # no formulas before a terminal's controls are taken out
    ("a formula behind a colour", "\x1b[0m=1+behind_colour", "=1+behind_colour"),
    ("a formula behind a mark", "\u202e=1+behind_mark", "=1+behind_mark"),
]
PROMETHEUS = [
    ("a label's end", 'x"} 1\nlabel_end{a="b', 'x"} 1|label_end{a="b'),
    ("a backslash before a label's end", 'x\\"} 1\nbackslash_quote{a="b', 'x\\"} 1|backslash_quote{a="b'),
    ("a backslash at the end", "backslash_end\\"),
]
SHELL = [
    ("a command", f"$({CANARY} 1)"),
    ("an old command", f"`{CANARY} 2`"),
    ("the end of a quote", f"x'; {CANARY} 3; '"),
    ("the end of a double quote", f'x"; {CANARY} 4; "'),
    ("the next command", f"x; {CANARY} 5; #"),
    ("a pipe", f"x| {CANARY} 6 &"),
    ("the next line", f"x\n{CANARY} 7\n", f"x|{CANARY} 7"),
    ("a command in an expression", f"$(( a[$({CANARY} 8)] ))"),
]
MATHJAX = [
    ("a formula of TeX", r"$\href{javascript:alert('tex')}{x}$"),
    ("a formula of TeX on its own", r"$$\unicode{x41}own$$ \(x\) \[y\]"),
]
CORPUS = (
    *_texts("browser", BROWSER), *_texts("", AS_TEXT), *_texts("terminal", TERMINAL), *_texts("spreadsheet", SPREADSHEET),
    *_texts("spreadsheet terminal", BOTH), *_texts("terminal", ONCE_STRIPPED), *_texts("prometheus", PROMETHEUS),
    *_texts("shell", SHELL), *_texts("mathjax", MATHJAX),
)  # fmt: skip
HUGE = Hostile("a huge line", f"huge-begins{'A' * LARGE}huge-ends", ("huge-begins",), frozenset())


def printable() -> tuple[Hostile, ...]:
    """The texts that a parameter of free text takes: one line of letters that can be seen."""
    return tuple(each for each in CORPUS if each.text.isprintable() and each.text == each.text.strip())


def encodable() -> tuple[Hostile, ...]:
    """The texts that a certificate can hold: UTF-8."""
    return tuple(each for each in CORPUS if not any("\ud800" <= letter <= "\udfff" for letter in each.text))


def file_names() -> dict[str, Hostile]:
    """The texts by the names that a file can have: every byte but two."""
    fit = (each for each in CORPUS if not any("\ud800" <= letter < "\udc80" for letter in each.text))
    names = {each.text.replace("/", "\N{DIVISION SLASH}").replace("\0", ""): each for each in fit}
    return {name: each for name, each in names.items() if len(name.encode(errors="surrogateescape")) <= LONGEST_NAME}


def lost(shown: str, texts: Iterable[Hostile], *, slash: str = "/") -> list[str]:
    """The texts that did not arrive, by name.

    Args:
        shown: What a person reads.
        texts: What was put into the source.
        slash: What stands for a slash, in the names of files.
    """
    return [each.name for each in texts if not all(piece.replace("/", slash) in shown for piece in each.kept)]
