"""The repository as its files and its Python modules, read but never run."""

import ast
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

TOP = Path(__file__).parents[2]
ROOTS = ("addon/", "cloud/", "testbed/", "")  # what stands before a package's name in a path
INTEGRATION = TOP / "custom_components/process_cosmos"
PRODUCT = ("addon", "cloud", "custom_components", "testbed")


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name, its syntax tree, and the dotted names it imports."""

    name: str
    path: str
    lines: int
    tree: ast.Module
    imports: frozenset[str]


@cache
def files(*patterns: str) -> tuple[str, ...]:
    """The repository's files, new ones too, that match a pattern."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=TOP, text=True
    )
    names = sorted(set(listed.split("\0")) - {""})
    return tuple(
        name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns) and (TOP / name).is_file()
    )


@cache
def modules() -> Mapping[str, Module]:
    """Every Python file by its dotted name, but for the contract's mirror."""
    found = (_read(path) for path in files("*.py") if not path.startswith("custom_components/process_cosmos/contract/"))
    return {module.name: module for module in found}


def matching(*patterns: str) -> list[Module]:
    """The modules whose dotted names match; ``a.b.*`` means the package ``a.b`` too."""
    return [module for name, module in modules().items() if any(fnmatchcase(f"{name}.", _dotted(p)) for p in patterns)]


def names_only(module: Module) -> bool:
    """Whether a module gives names to values, and does nothing."""
    kinds = ast.Import | ast.ImportFrom | ast.Expr | ast.Assign | ast.AnnAssign | ast.TypeAlias
    return module.name.endswith(".const") and all(isinstance(node, kinds) for node in module.tree.body)


def reached(module: Module) -> frozenset[str]:
    """Everything ``module`` imports, itself or by way of modules that do more than give names."""
    seen: set[str] = set()
    waiting = set(module.imports)
    while waiting:
        name = waiting.pop()
        seen.add(name)
        if name in modules() and not names_only(modules()[name]):
            waiting |= modules()[name].imports - seen
    return frozenset(seen)


def tops(names: frozenset[str]) -> frozenset[str]:
    """The first words of dotted names."""
    return frozenset(name.partition(".")[0] for name in names)


def functions(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a module."""
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _dotted(pattern: str) -> str:
    return pattern.removesuffix("*") + "*" if pattern.endswith(".*") else f"{pattern}."


def _read(path: str) -> Module:
    text = (TOP / path).read_text(encoding="utf-8")
    root = next(root for root in ROOTS if path.startswith(root))
    parts = path.removeprefix(root).removesuffix(".py").split("/")
    package = parts[:-1]
    if parts[-1] == "__init__":
        parts = package
    tree = ast.parse(text, path)
    return Module(".".join(parts), path, text.count("\n"), tree, frozenset(_imports(tree, package)))


def _imports(tree: ast.Module, package: list[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
