"""Files and functions that fit a screen, and few catch-alls."""

import ast
import statistics
import tomllib

import pytest

from .tree import PRODUCT, TOP, functions, modules

LONGEST_FILE = 400
LONGEST_MOST = 40  # lines of the longest of 95 in 100 functions
MOST_CATCH_ALLS = 3
MOST_IGNORES = 10


def test_no_file_is_longer_than_400_lines() -> None:
    assert len(modules()) > 50
    assert {module.path: module.lines for module in modules().values() if module.lines > LONGEST_FILE} == {}


@pytest.mark.parametrize("folder", PRODUCT)
def test_functions_fit_a_screen(folder: str) -> None:
    found = {
        f"{module.path}:{function.lineno} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for module in modules().values()
        if module.path.startswith(f"{folder}/")
        for function in functions(module)
    }
    assert len(found) > 10
    longest = sorted(found.items(), key=lambda item: -item[1])[: len(found) // 20 + 1]
    assert statistics.quantiles(found.values(), n=20)[-1] <= LONGEST_MOST, longest


def raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether the handler only clears up."""
    return isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None


def test_catch_alls_are_few_and_give_their_reason() -> None:
    handlers = [
        (module, node)
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
    ]
    assert handlers
    broad = [
        f"{module.path}:{node.lineno}"
        for module, node in handlers
        if (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}) and not raises_again(node)
    ]
    assert len(broad) <= MOST_CATCH_ALLS, broad


def test_the_linter_may_ignore_ten_rules() -> None:
    lint = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert lint["select"] == ["ALL"]
    assert 0 < len(lint["ignore"]) <= MOST_IGNORES
