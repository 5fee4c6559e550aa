"""The corpus of hostile texts and the checks of what becomes of them: each check finds what it is there for, when it is there."""

import html
from collections.abc import Callable, Iterable

import pytest

from tests import sinks
from tests.embedded import EmbeddedHost
from tests.hostile import CANARY, CORPUS, HUGE, Hostile, encodable, file_names, lost, printable
from tests.planting import plant_canary

# what a careless writer would make of a text, for each reader
CARELESS: dict[str, tuple[Callable[[str], str], Callable[[str], Iterable[str]]]] = {
    "browser": (
        lambda text: f"""<table><tr><td class='{text}'>x<td class="{text}">{text}</table>""",
        lambda page: sinks.browser(page, whole=True),
    ),
    "terminal": (lambda text: text, sinks.terminal),
    "spreadsheet": (lambda text: f'a\n"{text}"\n', sinks.spreadsheet),
    "prometheus": (lambda text: f'apstra_x{{a="{text}"}} 1\n', sinks.prometheus),
    "mathjax": (lambda text: f"<td>{html.escape(text)}</td>", sinks.mathjax),
}
ACTIVE = [(reader, each) for each in CORPUS for reader in sorted(each.obeyed_by & CARELESS.keys())]


@pytest.mark.parametrize(("reader", "text"), ACTIVE, ids=[f"{reader}: {each.name}" for reader, each in ACTIVE])
def test_a_check_finds_what_its_reader_would_obey(reader: str, text: Hostile) -> None:
    """Written carelessly, every text is found by the check of each reader that would obey it."""
    write, read = CARELESS[reader]
    assert list(read(write(text.text)))


def test_a_check_finds_nothing_in_plain_text() -> None:
    """The same writers with a text that nobody obeys."""
    for write, read in CARELESS.values():
        assert list(read(write("Käse 1 日本語"))) == []


def test_the_shell_obeys_what_is_said_to_be_for_it(practice: EmbeddedHost) -> None:
    """The canary sings when a text is put into a command carelessly: bare, or between quotes of either kind."""
    sings = plant_canary(practice)
    for each in CORPUS:
        for line in (f"echo {each.text}", f"echo '{each.text}'", f'echo "{each.text}"'):
            if "shell" in each.obeyed_by and "\0" not in line:
                practice.run(line)
        if "shell" in each.obeyed_by:
            assert sings(), each.name


def test_strict_json_is_strict() -> None:
    """No NaN, no letter outside ASCII, no text that ends too soon."""
    for wrong in (b'{"a": NaN}', '{"a": "ä"}'.encode(), b'{"a": "x","outcome":"done","json":{"a":["}', b""):
        with pytest.raises(ValueError, match=r"."):
            sinks.json_reader(wrong)
    assert sinks.json_reader(b'{"a": "\\u00e4"}') == {"a": "ä"}


def test_text_in_a_table_is_no_formula_of_tex() -> None:
    """Where JupyterLab leaves it alone."""
    assert not list(sinks.mathjax('<table class="a mathjax_ignore tex2jax_ignore"><tr><td>$x$</table>'))
    assert list(sinks.mathjax('<table class="mathjax_ignore tex2jax_ignore"><tr><td></table>$x$'))


def test_what_does_not_arrive_is_missed() -> None:
    """In an empty text every one of them is lost, in the text itself none."""
    assert lost("", CORPUS) == [each.name for each in CORPUS]
    assert lost("".join(each.text for each in CORPUS), CORPUS) == []


def test_each_text_can_be_told_from_the_others() -> None:
    """What is looked for of one stands in no other, so that none seems to arrive because another did."""
    for each in (*CORPUS, HUGE):
        assert [one.name for one in (*CORPUS, HUGE) if not lost(one.text, [each])] == [each.name]


def test_the_corpus_reaches_every_kind_of_source() -> None:
    """Parameters, certificates and names of files take a good part of it each."""
    assert len({each.name for each in CORPUS}) == len(CORPUS)
    assert len(printable()) > 30
    assert len(encodable()) > 60
    assert len(file_names()) > 60
    assert {reader for each in printable() for reader in each.obeyed_by} >= {
        "browser",
        "spreadsheet",
        "shell",
        "mathjax",
    }
    assert sum(CANARY in each.text for each in printable()) > 6
