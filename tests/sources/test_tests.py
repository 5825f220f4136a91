"""Where tests lie and what they may touch: a folder per package, and of Lockstep's modules their public names."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest

import lockstep
from support import LONGEST, TESTS

SOURCES = Path(lockstep.__file__).parent
# What no package stands for: helpers; the pages; what may stand in sources; the product as a whole; hours of faults.
OTHERS = {"support", "documentation", "sources", "product", "torture"}


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))


def misplaced(tests: Iterable[str], sources: Iterable[str]) -> list[str]:
    """Every file of tests that a newcomer would look for elsewhere, and every package that has no folder of tests."""
    paths = [PurePosixPath(path) for path in tests]
    packages = {str(folder) for path in sources for folder in PurePosixPath(path).parents} - {"."}
    modules = {PurePosixPath(path).stem for path in sources if "/" not in path}
    names = {path.stem for path in paths if path.parts[0] != "support"}
    found = []
    for path in paths:
        folder = str(path.parent)
        if path.parts[0] == "cases":  # two models each, and what compares them
            continue
        if path.parts[0] == "support":
            if f"test_{path.stem}" in names:
                found.append(f"{path} is called like test_{path.stem}.py: a helper has a name of its own")
            if path.stem.startswith("test_"):
                found.append(f"{path} lies among the helpers, which are not collected")
        elif path.stem == "conftest" and folder == ".":
            continue
        elif not path.stem.startswith("test_"):
            found.append(f"{path} is no test: helpers lie in tests/support")
        elif folder == "." and path.stem.removeprefix("test_") not in modules:
            found.append(f"{path} lies at the top, and lockstep/{path.stem.removeprefix('test_')}.py is not there")
        elif folder not in packages | OTHERS | {"."}:
            found.append(f"{path}: lockstep/{folder} is no package")
    tested = {path.parts[0] for path in paths}
    return found + [
        f"no test lies in tests/{name}" for name in sorted(packages) if "/" not in name and name not in tested
    ]


def test_the_tree_of_tests_mirrors_the_packages():
    assert misplaced(files_of(TESTS), files_of(SOURCES)) == []


@pytest.mark.parametrize(
    ("stray", "what"),
    [
        ("proof/helpers.py", "proof/helpers.py is no test"),
        ("prove/test_proof.py", "lockstep/prove is no package"),
        ("proof/pears/test_diff.py", "lockstep/proof/pears is no package"),
        ("test_proof.py", "test_proof.py lies at the top, and lockstep/proof.py is not there"),
        ("support/proof.py", "support/proof.py is called like test_proof.py"),
        ("support/test_forks.py", "lies among the helpers"),
        ("proof/conftest.py", "proof/conftest.py is no test"),
    ],
)
def test_a_stray_file_is_named(stray, what):
    (found,) = misplaced([*files_of(TESTS), stray], files_of(SOURCES))
    assert what in found


def test_the_files_that_are_begun_first_are_there():
    assert {f"test_{name}" for name in LONGEST} <= {Path(path).stem for path in files_of(TESTS)}


def test_a_package_without_tests_is_named():
    assert misplaced(files_of(TESTS), [*files_of(SOURCES), "games/server.py"]) == ["no test lies in tests/games"]


# -------------------------------------------------------------------------------------------------------- private names


def is_private(name: str) -> bool:
    """`_name`; not `_`, `__name__` or `_repr_html_`, which are agreed upon with others."""
    return name.startswith("_") and not name.endswith("_") and not name.startswith("__")


def privates_of(text: str) -> set[str]:
    """Every private name that a source binds: of functions, classes, variables and attributes."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return {name for name in found if is_private(name)}


def reached_into(text: str, private: set[str]) -> list[tuple[int, str]]:
    """(line, name) of every private name of others that a test imports, reads, calls, overrides or replaces.

    Of whose class an object is cannot be read off a test: `private` are the names that ours bind somewhere, without
    those of the test itself.
    """
    tree, found = ast.parse(text), []
    others = private - privates_of(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("lockstep", "support"):
            found += [(node.lineno, name.name) for name in node.names if is_private(name.name)]
        elif isinstance(node, ast.Attribute):
            is_above = node.attr in private and ast.unparse(node.value) == "super()"
            found += [(node.lineno, node.attr)] if is_above or node.attr in others else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attr"):  # setattr, getattr, delattr
            words = (word.value for word in node.args if isinstance(word, ast.Constant) and isinstance(word.value, str))
            found += [(node.lineno, part) for word in words for part in word.split(".") if part in private]
    return sorted(found)


def test_tests_touch_public_names_alone():
    texts = {path: (TESTS / path).read_text("utf-8") for path in files_of(TESTS)}
    helpers = [text for path, text in texts.items() if path.startswith(("support/", "cases/"))]
    private = set().union(
        *map(privates_of, [(SOURCES / path).read_text("utf-8") for path in files_of(SOURCES)] + helpers)
    )
    assert len(private) > 500
    found = {path: reached_into(text, private) for path, text in texts.items()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "text",
    [
        "from lockstep.proof.verdicts import _told",
        "from support.damage import _sealed",
        "from lockstep.proof import verdicts\nverdicts._told(None)",
        "def test(court):\n    assert court._told",
        "def test(monkeypatch):\n    monkeypatch.setattr(verdicts, '_told', None)",
        "def test(monkeypatch):\n    monkeypatch.setattr('lockstep.proof.verdicts._told', None)",
        "class Planted(Model):\n    def _told(self):\n        return super()._told()",
    ],
)
def test_a_private_name_is_seen(text):
    (found,) = reached_into(text, {"_told", "_sealed"})
    assert found[1] in ("_told", "_sealed")


@pytest.mark.parametrize(
    "text",
    [
        "def _told():\n    return 1\nassert _told()",
        "class Own:\n    def __init__(self):\n        self._told = 1\n    def get(self):\n        return self._told",
        "from lockstep.language import _\nassert table._repr_html_()",
        "os._exit(0)",
    ],
)
def test_names_of_a_tests_own_and_of_others_are_free(text):
    assert reached_into(text, {"_told"}) == []
