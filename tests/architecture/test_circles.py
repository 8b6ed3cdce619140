"""No module imports itself by way of others."""

from .tree import Module, modules


def _imported(module: Module) -> set[str]:
    """Return the names of the project's modules that ``module`` imports, without itself."""
    return {name for name in module.imports if name in modules()} - {module.name}


def _is_package_of(package: str, module: str) -> bool:
    return module.startswith(f"{package}.")


def circles() -> list[list[str]]:
    """Return the import circles, as strongly connected modules (Tarjan, 1972)."""
    found: list[list[str]] = []
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> None:
        numbers[name] = lowest[name] = len(numbers)
        stack.append(name)
        for imported in _imported(modules()[name]):
            if _is_package_of(imported, name):
                continue  # a module that names its own package to reach a sibling
            if imported not in numbers:
                visit(imported)
                lowest[name] = min(lowest[name], lowest[imported])
            elif imported in stack:
                lowest[name] = min(lowest[name], numbers[imported])
        if lowest[name] == numbers[name]:
            position = stack.index(name)
            if len(stack) - position > 1:
                found.append(sorted(stack[position:]))
            del stack[position:]

    for name in modules():
        if name not in numbers:
            visit(name)
    return found


def test_there_is_no_import_circle() -> None:
    assert len(modules()) > 50
    assert circles() == []
