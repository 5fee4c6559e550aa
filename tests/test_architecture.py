"""The house rules: imports point one way, pure rooms do no IO, and each foreign library has its one room."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "runbook_lib"
NAME = PACKAGE.name
# Lowest first; a room imports from lower levels, and from its own level where no circle comes of it.
LEVELS = (
    {"text", "files", "chromium", "allowed_signers", "pictures"},
    {"models", "errors"},
    {"state", "pki", "parameters", "secrets", "age", "sshsig"},
    {"policy", "tables"},
    {"steps", "server", "signers", "probe", "record"},
    {"session"},
    {"change", "audit"},
    {"jupyter"},
    {"fleet"},
    {"terminal"},
    {"cli"},
)
APART = {"lab"}
PURE = ("pki", "state", "steps", "models", "errors", "text", "pictures")
PURE_TOO = {f"{NAME}.jupyter.notebook"}  # the pure part of a room that does IO
# All that a pure room may import besides our own; a name after the dot is the one thing taken from that module.
WITHOUT_IO = frozenset({
    "base64", "binascii", "collections.abc", "contextlib", "cryptography", "dataclasses", "datetime", "enum", "functools", "hashlib", "ipaddress",
    "itertools", "json", "math", "pathlib.PurePosixPath", "re", "shlex", "typing", "unicodedata", "warnings", "xml.sax.saxutils",
})  # fmt: skip
# The one room, or the few, for a library with a price: side effects, seconds of import, or a protocol of its own.
ROOMS = {
    "IPython": {"jupyter"}, "ipywidgets": {"jupyter"}, "ipykernel": {"jupyter"}, "jupyter_client": {"jupyter"}, "nbformat": {"jupyter"},
    "papermill": {"jupyter"}, "zmq": {"jupyter"}, "asyncssh": {"server", "lab", "sshsig"}, "click": {"cli", "terminal"}, "pandas": {"tables", "jupyter"},
    "yaml": {"parameters"}, "keyring": {"secrets"}, "pyrage": {"age"}, "playwright": {"probe"}, "subprocess": {"lab", "jupyter", "signers", "sshsig", "record"},
}  # fmt: skip
CLOCK = {"now", "utcnow", "today"}
DOES_IO = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}


@dataclass(frozen=True)
class Import:
    """One imported module, absolute, with the name that is taken from it; `typing_only` where it is not imported at run time."""

    module: str
    name: str
    line: int
    typing_only: bool
    late: bool


def modules() -> dict[str, Path]:
    """Our modules by their dotted names, packages by the package's name; the shims are programs of the practice server."""
    files = (each for each in sorted(PACKAGE.rglob("*.py")) if "shims" not in each.parts)
    return {
        ".".join((NAME, *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): file
        for file in files
    }


MODULES = modules()


@cache
def tree(module: str) -> ast.Module:
    """The module's syntax."""
    return ast.parse(MODULES[module].read_text(), filename=str(MODULES[module]))


def imports(module: str) -> Iterator[Import]:
    """Everything that a module imports, at its top or inside a function."""
    yield from _imports(tree(module), typing_only=False, late=False)


def _imports(node: ast.AST, *, typing_only: bool, late: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(each.name, "", child.lineno, typing_only, late) for each in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import at line {child.lineno}"
            yield from (Import(child.module or "", each.name, child.lineno, typing_only, late) for each in child.names)
        else:
            guarded = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(child, typing_only=typing_only or guarded, late=late or function)


def room(module: str) -> str:
    """The first part of a name below the package; empty for the package itself and for what is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == NAME and len(parts) > 1 else ""


def target(found: Import) -> str:
    """The module of ours that an import leads to, or the foreign one."""
    whole = f"{found.module}.{found.name}"
    return whole if whole in MODULES else found.module


def level(name: str) -> int:
    """How high a room stands."""
    return next(index for index, rooms in enumerate(LEVELS) if name in rooms)


def within(name: str) -> list[str]:
    """The modules of a room."""
    return [module for module in MODULES if room(module) == name]


def test_every_room_has_its_level() -> None:
    """A new room is given its place before it can be used."""
    assert {room(module) for module in MODULES} - {""} <= set.union(*LEVELS) | APART


def test_the_reader_of_imports_sees_every_kind() -> None:
    """The rules below are only as good as what they see: top, late and typing imports are all found in this tree."""
    found = [each for module in MODULES for each in imports(module)]
    assert {(each.typing_only, each.late) for each in found} >= {(False, False), (True, False), (False, True)}
    assert any(target(each) == f"{NAME}.server.facts" for each in found)
    assert len(MODULES) > 30


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    """cli → fleet → jupyter → change, audit → session → steps, server, signers, probe, record → tables → state, pki, … → models."""
    if room(module) in APART | {""}:
        return
    wrong = [
        f"line {each.line}: {target(each)}"
        for each in imports(module)
        if room(target(each)) and (room(target(each)) in APART or level(room(target(each))) > level(room(module)))
    ]
    assert not wrong, f"{module} imports from above or from apart: {wrong}"


def edges() -> dict[str, set[str]]:
    """Which of our modules imports which at run time, late imports too."""
    return {
        module: {target(each) for each in imports(module) if not each.typing_only and target(each) in MODULES}
        - {module}
        for module in MODULES
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle, or nothing."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        found = next((each for following in sorted(graph[module]) if (each := walk(following, [*path, module]))), [])
        done.add(module)
        return found

    return next((each for module in graph if (each := walk(module, []))), [])


def test_no_circles() -> None:
    """Neither between modules nor between rooms: any of them can be read without the ones that use it."""
    graph = edges()
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle(graph) == []
    rooms = {room(module) for module in MODULES} - {""}
    between = {name: {room(each) for module in within(name) for each in graph[module]} - {name, ""} for name in rooms}
    assert circle(between) == []


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) in PURE or module in PURE_TOO])
def test_pure_rooms_do_no_io(module: str) -> None:
    """They import nothing by which a file, a socket, a process, the environment or a clock could be reached, and call no such thing."""
    ours = {"models", "errors", "parameters", *PURE}
    foreign = [each for each in imports(module) if not room(target(each)) and each.module != NAME]
    allowed = {
        each
        for each in foreign
        if not WITHOUT_IO.isdisjoint({each.module, each.module.split(".")[0], f"{each.module}.{each.name}"})
    }
    assert not [f"line {each.line}: {each.module}.{each.name}" for each in foreign if each not in allowed]
    assert {room(target(each)) for each in imports(module)} - {""} <= ours
    calls = [node.func for node in ast.walk(tree(module)) if isinstance(node, ast.Call)]
    assert not {each.id for each in calls if isinstance(each, ast.Name)} & DOES_IO
    assert not {each.attr for each in calls if isinstance(each, ast.Attribute)} & CLOCK


@pytest.mark.parametrize(("library", "rooms"), ROOMS.items())
def test_each_library_has_its_room(library: str, rooms: set[str]) -> None:
    """What it costs and what it can do stays in one place."""
    users = {room(module) for module in MODULES for each in imports(module) if each.module.split(".")[0] == library}
    assert users <= rooms


def test_the_practice_server_stands_apart() -> None:
    """It imports nothing of ours from outside, so that what is tested on it cannot lean on what is tested."""
    outside = {
        f"{module}: {target(each)}"
        for module in within("lab")
        for each in imports(module)
        if each.module.split(".")[0] == NAME and room(target(each)) != "lab"
    }
    assert not outside


def test_models_and_errors_stand_alone() -> None:
    """The values that flow import nothing of ours; the errors import the values, and what makes a text harmless."""
    wanted = {"text": set(), "models": set(), "errors": {f"{NAME}.models", f"{NAME}.text"}}
    assert {
        name: {target(each) for module in within(name) for each in imports(module) if each.module.split(".")[0] == NAME}
        for name in wanted
    } == wanted


SLOW = {
    "papermill",
    "pandas",
    "IPython",
    "ipykernel",
    "jupyter_client",
    "keyring",
    "asyncssh",
    "cryptography",
}


def reached(module: str) -> set[str]:
    """Every module of ours that importing this one brings in, packages on the way included."""
    graph = {
        name: {target(each) for each in imports(name) if not each.typing_only and not each.late} for name in MODULES
    }
    todo, seen = [module], set()
    while todo:
        name = todo.pop()
        if name in seen or name not in MODULES:
            continue
        seen.add(name)
        parts = name.split(".")
        todo += [*graph[name], *(".".join(parts[:end]) for end in range(1, len(parts)))]
    return seen


def test_help_waits_for_no_slow_library() -> None:
    """Importing the command line brings in nothing that takes a noticeable part of a second."""
    at_once = {
        each.module.split(".")[0]
        for module in reached(f"{NAME}.cli")
        for each in imports(module)
        if not each.late and not each.typing_only
    }
    assert not at_once & SLOW


def test_only_installed_or_standard_modules_are_imported() -> None:
    """Every foreign import is of the standard library or of a project that the package depends on."""
    import tomllib  # noqa: PLC0415 - this test alone reads the project file

    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = [each for names in project["optional-dependencies"].values() for each in names]
    declared = {name.split(">")[0].strip().lower().replace("-", "_") for name in (*project["dependencies"], *extras)}
    known = {
        "yaml": "pyyaml",
        "zmq": "pyzmq",
        "IPython": "ipykernel",
        "pydantic_core": "pydantic",
        "jupyter_client": "jupyter_client",
        "traitlets": "jupyter_client",
    }
    foreign = (
        {each.module.split(".")[0] for module in MODULES for each in imports(module)}
        - set(sys.stdlib_module_names)
        - {NAME}
    )
    assert {known.get(each, each.lower()) for each in foreign} <= declared
