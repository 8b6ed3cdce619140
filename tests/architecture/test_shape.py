"""Limits for files, functions, docstrings, comments and names."""

import ast
import io
import statistics
import tokenize
import tomllib
from collections import Counter, defaultdict

import pytest

from .tree import PRODUCT, TOP, functions, modules

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LONGEST_MOST = 40  # lines of the longest of 95 in 100 functions
FEWEST_WORDS = 3
LEAST_COMMENTS, MOST_COMMENTS = 1.0, 4.0  # per 100 lines of a package
SHORT = 100  # lines of a package in which a rate says nothing
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


def test_no_function_is_longer_than_60_lines() -> None:
    found = {
        f"{module.path}:{function.lineno} {function.name}": lines
        for module in modules().values()
        for function in functions(module)
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > LONGEST_FUNCTION
    }
    assert found == {}


def test_no_docstring_has_fewer_than_three_words() -> None:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = {
        f"{module.path}:{getattr(node, 'lineno', 1)}": text
        for module in modules().values()
        for node in ast.walk(module.tree)
        if isinstance(node, documented) and (text := ast.get_docstring(node)) and len(text.split()) < FEWEST_WORDS
    }
    assert found == {}


def comment_rates() -> dict[str, float]:
    """Return the comments per 100 lines of each package that is longer than ``SHORT``."""
    lines: Counter[str] = Counter()
    comments: Counter[str] = Counter()
    for module in modules().values():
        if module.path.startswith(PRODUCT):
            package, text = module.path.rpartition("/")[0], (TOP / module.path).read_text("utf-8")
            lines[package] += module.lines
            comments[package] += sum(
                token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# type:"))
                for token in tokenize.generate_tokens(io.StringIO(text).readline)
            )
    return {package: round(100 * comments[package] / count, 2) for package, count in lines.items() if count > SHORT}


def test_comments_are_at_most_4_in_100_lines_of_a_package() -> None:
    rates = comment_rates()
    assert len(rates) > 10
    assert {package: rate for package, rate in rates.items() if rate > MOST_COMMENTS} == {}


def test_comments_are_at_least_1_in_100_lines_of_a_package() -> None:
    rates = comment_rates()
    assert len(rates) > 10
    assert {package: rate for package, rate in rates.items() if rate < LEAST_COMMENTS} == {}


def test_no_class_name_is_used_twice_within_a_package() -> None:
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for module in modules().values():
        if module.path.startswith(PRODUCT):
            for node in module.tree.body:
                if isinstance(node, ast.ClassDef):
                    found[module.path.rpartition("/")[0], node.name].append(module.path)
    assert found
    assert {name: paths for (_, name), paths in found.items() if len(paths) > 1} == {}
