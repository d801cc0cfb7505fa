"""Rules of layout that no linter checks. Each failure names file, line and rule.

A rule is a function from one parsed module to what breaks it; :func:`test_each_rule_bites` shows
that each finds the fault it is there for.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tendril_rt"

MAX_LINES = 300
#: Modules that may be longer, up to MAX_LINES_WITH_REASON, and why they are still one.
LONGER = {
    "agent/run.py": "the steps of a run in their order, to be read as one story",
    "control/listener.py": "one state machine, to be read as one story",
    "settings.py": "a table: every variable with its default and its sentence",
}
MAX_LINES_WITH_REASON = 450
#: Statements that stay where they are: how they begin, and why.
INLINE_SQL = {
    "local/plane.py": "alter role authenticator",  # takes no parameters, so it is composed
}

_SQL = re.compile(
    r"""\s*(?:
      select\b.+\bfrom | insert\s+into | update\b.+\bset | delete\s+from | with\s+\w+\s+as\s*\(
      | (?:create|alter|drop)\s+(?:or\s+replace\s+)?
        (?:table|function|index|type|view|trigger|schema|extension|publication|role)\b
    )""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_NAMELESS_MODULES = {
    *("base", "common", "core", "helper", "helpers", "manager", "managers", "misc", "util", "utils")
}
_NAMELESS_CLASS = re.compile(r"(?:Manager|Helper|Util|Utils|Impl)$")
_CANCELLATION = re.compile(r"Cancelled|BaseException|cancelled_exc")
_UNTYPED = re.compile(r"\b(?:dict|Mapping|MutableMapping)\[str, Any\]")


@dataclass(frozen=True)
class Module:
    """One module.

    :ivar path: relative to the package, with slashes
    """

    path: str
    text: str

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2].removesuffix(".py")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def is_program(self) -> bool:
        """True in ``cli``, and in a module that is run by ``python -m``."""
        return self.path.startswith("cli/") or '__name__ == "__main__"' in self.text

    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(self.tree)


Fault = tuple[int, str]
Rule = Callable[[Module], Iterator[Fault]]


def named_after_something(module: Module) -> Iterator[Fault]:
    if module.name in _NAMELESS_MODULES:
        yield 1, "a module named after nothing"
    for node in module.nodes():
        if isinstance(node, ast.ClassDef) and _NAMELESS_CLASS.search(node.name):
            yield node.lineno, f"class {node.name} is named after nothing"


def has_a_docstring(module: Module) -> Iterator[Fault]:
    if not ast.get_docstring(module.tree):
        yield 1, "no docstring: what does it own, what must it never do?"


def is_short_enough(module: Module) -> Iterator[Fault]:
    limit = MAX_LINES_WITH_REASON if module.path in LONGER else MAX_LINES
    length = len(module.text.splitlines())
    if length > limit:
        yield length, f"{length} lines, more than {limit}"


def init_has_no_logic(module: Module) -> Iterator[Fault]:
    if module.name != "__init__":
        return
    for node in module.tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign):
            yield node.lineno, "logic in __init__.py"


def holds_no_sql(module: Module) -> Iterator[Fault]:
    docstrings = {id(node.value) for node in module.nodes() if isinstance(node, ast.Expr)}
    for node in module.nodes():
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
            and _SQL.match(node.value)
            and not node.value.startswith(INLINE_SQL.get(module.path, "\0"))
        ):
            yield node.lineno, "SQL in a Python string: it belongs into sql/"


def suppresses_no_cancellation(module: Module) -> Iterator[Fault]:
    for node in module.nodes():
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("suppress")
            and _CANCELLATION.search(ast.unparse(node))
        ):
            yield node.lineno, "suppress() of cancellation"


def has_typed_parameters(module: Module) -> Iterator[Fault]:
    if module.path == "control/wire.py":
        return
    for node in module.nodes():
        if isinstance(node, ast.arg) and node.annotation:
            annotation = ast.unparse(node.annotation)
            if _UNTYPED.search(annotation):
                yield node.lineno, f"untyped parameter {annotation} outside control/wire.py"


def prints_only_in_cli(module: Module) -> Iterator[Fault]:
    if module.path.startswith("cli/"):
        return
    for node in module.nodes():
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield node.lineno, "print() outside cli"


def reads_the_process_only_in_programs(module: Module) -> Iterator[Fault]:
    if module.is_program:
        return
    for node in module.nodes():
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.argv", "os.environ"}:
            yield node.lineno, f"{ast.unparse(node)} is for cli to read"


RULES: tuple[Rule, ...] = (
    named_after_something,
    has_a_docstring,
    is_short_enough,
    init_has_no_logic,
    holds_no_sql,
    suppresses_no_cancellation,
    has_typed_parameters,
    prints_only_in_cli,
    reads_the_process_only_in_programs,
)
MODULES = [
    Module(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)
def test_a_module_keeps_the_rules(module: Module) -> None:
    found = [
        f"src/tendril_rt/{module.path}:{n}: {why}" for rule in RULES for n, why in rule(module)
    ]
    assert found == []


def test_every_exception_to_the_length_is_still_needed() -> None:
    lengths = {module.path: len(module.text.splitlines()) for module in MODULES}
    assert [path for path in LONGER if lengths.get(path, 0) <= MAX_LINES] == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (named_after_something, "agent/utils.py", '"""Doc."""'),
        (named_after_something, "agent/a.py", "class LeaseManager: ..."),
        (has_a_docstring, "agent/a.py", "x = 1"),
        (is_short_enough, "agent/a.py", "x = 1\n" * (MAX_LINES + 1)),
        (is_short_enough, next(iter(LONGER)), "x = 1\n" * (MAX_LINES_WITH_REASON + 1)),
        (init_has_no_logic, "agent/__init__.py", "def f(): ..."),
        (init_has_no_logic, "agent/__init__.py", "if x: y = 1"),
        (holds_no_sql, "agent/a.py", 'x = "select 1 from t"'),
        (holds_no_sql, "agent/a.py", "x = '''\n  Update t\n set a = 1'''"),
        (holds_no_sql, "agent/a.py", 'x = f"delete from {t}"'),
        (holds_no_sql, "local/plane.py", 'x = "alter role anon login"'),
        (suppresses_no_cancellation, "agent/a.py", "with suppress(asyncio.CancelledError): ..."),
        (suppresses_no_cancellation, "a.py", "with contextlib.suppress(BaseException): ..."),
        (has_typed_parameters, "agent/a.py", "def f(x: dict[str, Any]): ..."),
        (has_typed_parameters, "agent/a.py", "def f(*, x: Mapping[str, Any] | None = None): ..."),
        (prints_only_in_cli, "agent/a.py", "print(1)"),
        (reads_the_process_only_in_programs, "agent/a.py", "x = os.environ['A']"),
    ],
)
def test_each_rule_bites(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text)))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (holds_no_sql, "agent/a.py", '"""Select what comes from it."""'),
        (holds_no_sql, "agent/a.py", 'x = "update the agent"'),
        (init_has_no_logic, "__init__.py", '"""Doc."""\n__version__ = "1"'),
        (init_has_no_logic, "agent/a.py", "def f(): ..."),
        (suppresses_no_cancellation, "agent/a.py", "with suppress(OSError): ..."),
        (has_typed_parameters, "control/wire.py", "def f(x: dict[str, Any]): ..."),
        (prints_only_in_cli, "cli/a.py", "print(1)"),
        (prints_only_in_cli, "agent/a.py", "x.print(1)"),
    ],
)
def test_no_rule_is_overzealous(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Module(path, text))) == []


# --- words that stand nowhere in the project ------------------------------------------------------

#: Folders that are not ours: environments, caches, what is built, and code of others.
_NOT_OURS = re.compile(r"(?:\..+|build|dist|vendor|node_modules|__pycache__|.+\.egg-info)")
_PLACES = ("root", "work", "home/[a-z]+")  # of somebody's machine
_WORDS = (("anth", "ropic"), ("cl", "aude"), ("chat", "gpt"), ("open", "ai"), ("co", "pilot"))
FORBIDDEN = re.compile(
    "|".join([rf"(?<![\w.*$}}-])/(?:{'|'.join(_PLACES)})/", *map("".join, _WORDS)]), re.IGNORECASE
)


def project_files(folder: Path) -> Iterator[Path]:
    """Yield every file of the project below *folder*."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if not _NOT_OURS.fullmatch(path.name) or path.name == ".github":
                yield from project_files(path)
        elif path.is_file():
            yield path


def forbidden_words(text: str) -> list[str]:
    return [
        f"{number}: {found[0]}"
        for number, line in enumerate(text.splitlines(), start=1)
        if (found := FORBIDDEN.search(line))
    ]


def test_the_project_names_no_machine_and_no_tool_of_its_makers() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{fault}"
        for path in project_files(ROOT)
        for fault in forbidden_words(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert found == []


@pytest.mark.parametrize("place", ["root", "work", "home/jane"])
def test_paths_of_a_machine_are_found_and_others_are_not(place: str) -> None:
    assert forbidden_words(f"see /{place}/main/x")
    assert not forbidden_words(f"https://example.com/{place}/x and ./{place}/x")


@pytest.mark.parametrize("word", ["".join(parts) for parts in _WORDS])
def test_forbidden_words_are_found_in_any_case(word: str) -> None:
    assert forbidden_words(f"written with {word.title()}") == [f"1: {word.title()}"]
