"""The readers at the other end: each is a function that names what it would obey in what it was given, nothing where it is text."""

import base64
import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import nbformat
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from runbook_lib.audit import Audit, unreached
from runbook_lib.cli import main
from runbook_lib.tables import Table

WIDE = 10_000_000  # columns of a terminal that breaks no line, so that what is looked for stands in one piece
_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_CONTROLS = re.compile(
    rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}\u200b\u200c\u200d\u2028\u2029\u2060\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_FORMULA = re.compile(r"[\s\0]*[=+\-@＝＋－＠]|[\t\r\n]")  # noqa: RUF001 - spreadsheets take the wide ones, too
_NUMBER = re.compile(r"-?[0-9]+")
_SAMPLE = re.compile(r'apstra_[a-z_]+\{[a-z]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z]+="(?:[^"\\\n]|\\["\\n])*")*\} -?[0-9]+')
_TYPE = re.compile(r"# TYPE [a-z_]+ gauge")
_TABLE = frozenset({"style", "table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img"})
_PAGE = frozenset({
    "html", "head", "meta", "title", "body", "header", "main", "footer", "nav", "section", "h1", "h2", "h3", "h4", "p", "span", "code", "pre",
    "a", "ul", "ol", "li", "dl", "dt", "dd", "div", "details", "summary",
})  # fmt: skip
_ATTRIBUTES = frozenset({
    "id", "class", "type", "colspan", "rowspan", "scope", "role", "href", "lang", "charset", "http-equiv", "content", "name",
    "data-label", "aria-label", "tabindex", "open", "alt", "width",
})  # fmt: skip
_EMPTY = frozenset({"meta", "link", "base", "img", "input", "br", "hr"})
_NO_MATH = {"mathjax_ignore", "tex2jax_ignore"}


class Page(HTMLParser):
    """HTML as a browser reads it: what is an element, what is an attribute, and what is no more than text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = self.styles = self.set_as_math = ""
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.declared: list[str] = []
        self._within: list[tuple[str, bool]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.elements.append((tag, given))
        self.text += "".join(f" {value} " for value in given.values())
        if tag not in _EMPTY:
            plain = set(given.get("class", "").split()) >= _NO_MATH or any(each for _, each in self._within)
            self._within.append((tag, plain))

    def handle_endtag(self, tag: str) -> None:
        while any(each == tag for each, _ in self._within) and self._within.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if any(tag == "style" for tag, _ in self._within):
            self.styles += data
            return
        self.text += data
        if not any(plain for _, plain in self._within):
            self.set_as_math += data

    def handle_comment(self, data: str) -> None:
        self.declared.append(data)

    def handle_pi(self, data: str) -> None:
        self.declared.append(data)

    def unknown_decl(self, data: str) -> None:
        self.declared.append(data)


def browser(html: str, *, whole: bool) -> Iterator[str]:
    """What a browser would do for a stranger.

    Args:
        html: A page of ours, or an output of a notebook.
        whole: Whether it is a page.
    """
    page = Page(html)
    for tag, attributes in page.elements:
        if tag not in _TABLE | (_PAGE if whole else frozenset()):
            yield f"element {tag}"
        for name, value in attributes.items():
            if tag == "img" and name in {"src", "style"}:
                yield from _picture(value) if name == "src" else _looks(value)
            elif name not in _ATTRIBUTES or (name == "http-equiv" and value != "Content-Security-Policy"):
                yield f"attribute {name}={value!r}"
            if name == "href" and not re.match(r"#|(files|notebooks|seals)/|journal\.jsonl$", value):
                yield f"link {value!r}"
    yield from (f"declaration {each!r}" for each in page.declared)
    # a text of letters, digits and escapes (CSS Syntax, 4.3.7) cannot leave its quotes, whatever it spells
    styles = re.sub(r'"[A-Za-z0-9\\ ]*"', '""', page.styles)
    yield from (f"style {each}" for each in re.findall(r"@import|url\(|expression\(|canary|alert|</", styles))


def _picture(source: str) -> Iterator[str]:
    """What would act or load in a picture that stands in the page itself."""
    kind, _, data = source.partition(";base64,")
    if kind == "data:image/svg+xml":
        root = ET.fromstring(base64.b64decode(data, validate=True))  # noqa: S314 - what it holds is looked at, and no entity is resolved twice
        for each in root.iter():
            if each.tag.rpartition("}")[2] not in {"svg", "title", "desc", "rect", "line", "text"}:
                yield f"element {each.tag} in a picture"
            yield from (
                f"attribute {name} in a picture" for name in each.attrib if name.startswith("on") or "href" in name
            )
    elif kind != "data:image/png":
        yield f"picture {source[:40]!r}"


def _looks(style: str) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9 :;%-]*", style):
        yield f"style {style!r}"


def mathjax(html: str) -> Iterator[str]:
    """What JupyterLab would set as a formula in an output of a notebook."""
    yield from re.findall(r"\$|\\\(|\\\[|\\begin", Page(html).set_as_math)


def terminal(text: str) -> Iterator[str]:
    """What a terminal would obey, or not show; line feeds and tabs are its own."""
    yield from (f"U+{ord(each):04X}" for each in _CONTROLS.findall(text))


def spreadsheet(text: str) -> Iterator[str]:
    """The cells of CSV that a spreadsheet would compute, and rows that have another number of cells than the first."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        yield str(error)
        return
    yield from (f"a row of {len(row)} cells" for row in rows if len(row) != len(rows[0]))
    cells = (cell for row in rows for cell in row)
    yield from (cell for cell in cells if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell))


def prometheus(text: str) -> Iterator[str]:
    """The lines that are no sample of one of our metrics, by our own reading and by the official parser's."""
    yield from (line for line in text.split("\n")[:-1] if not (_SAMPLE.fullmatch(line) or _TYPE.fullmatch(line)))
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        yield str(error)
    else:
        yield from (each.name for each in families if not each.name.startswith("apstra_"))


def json_reader(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """What a strict reader of JSON in ASCII makes of it.

    Raises:
        ValueError: It is none.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    return json.loads(data.decode("ascii"), parse_constant=refuse)


def table(shown: Table) -> Iterator[str]:
    """What a terminal, a browser or JupyterLab would obey in a table of ours."""
    yield from terminal(repr(shown))
    html = shown._repr_html_()
    yield from (*terminal(html), *browser(html, whole=False), *mathjax(html))


def audit(found: Audit) -> Iterator[str]:
    """What any reader of an audit would obey, whatever form it is given in."""
    for each in (found.served(), found.expiry(), found.judged(), found.found()):
        yield from table(each)
    page, text = found.html(), found.csv()
    yield from (*browser(page, whole=True), *terminal(page))
    yield from (*spreadsheet(text), *terminal(text))
    for metrics in (found.prometheus(), unreached(found.facts.host)):
        yield from (*prometheus(metrics), *terminal(metrics))
    json_reader(found.json().encode())


def cells_of(file: Path) -> list[Any]:
    """The cells of an executed notebook, which is a valid one."""
    read = nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(read)
    return list(read.cells)


def notebook(file: Path) -> Iterator[str]:
    """What JupyterLab, a browser or a terminal would obey in an executed notebook; it has no outputs but text and HTML."""
    for cell in (each for each in cells_of(file) if each.cell_type == "code"):
        yield from terminal(cell.source)
        for output in cell.outputs:
            shown = output.get("data", {})
            yield from (f"an output of {kind}" for kind in shown.keys() - {"text/plain", "text/html"})
            said = [output.get("text", ""), output.get("evalue", ""), *output.get("traceback", ()), *shown.values()]
            yield from (fault for each in said for fault in terminal(each))
            html = shown.get("text/html", "")
            yield from (*browser(html, whole=False), *mathjax(html))


def text_of(file: Path) -> str:
    """What a person reads in the outputs of an executed notebook."""
    outputs = [output for cell in cells_of(file) for output in cell.get("outputs", ())]
    pages = [Page(each.get("data", {}).get("text/html", "")).text for each in outputs]
    return "\n".join([*pages, *("\n".join(each.get("traceback", ())) for each in outputs)])


def typed(*arguments: object) -> Result:
    """What is typed at a very wide terminal in colour, in this process."""
    with patch("runbook_lib.tables.WIDEST", WIDE):
        return CliRunner(env={"COLUMNS": str(WIDE)}).invoke(main, list(map(str, arguments)), color=True)


def tree(*folders: Path) -> dict[Path, bytes]:
    """Every file below some folders, by its path, with its content."""
    files = (each for folder in folders for each in folder.rglob("*") if each.is_symlink() or not each.is_dir())
    return {
        each: b"a link" if each.is_symlink() else each.read_bytes()
        for each in files
        if each.is_symlink() or each.is_file()
    }
