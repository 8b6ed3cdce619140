"""Each package has one root of its errors, so that a caller can catch all of them."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from .tree import matching

ROOTS = {
    "process_cosmos_gateway.contract": "ContractError",
    "process_cosmos_gateway": "GatewayError",
    "process_cosmos_cloud": "CloudError",
    "custom_components.process_cosmos": "CosmosError",
}


@dataclass(frozen=True)
class ErrorClass:
    """An exception class: its path and its own bases."""

    path: str
    bases: frozenset[str]


def _package_of(module: str) -> str | None:
    return next((package for package in ROOTS if f"{module}.".startswith(f"{package}.")), None)


def _is_error(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases)


def _errors(package: str) -> Mapping[str, ErrorClass]:
    """The exception classes that a package defines, by name."""
    return {
        node.name: ErrorClass(module.path, frozenset(map(ast.unparse, node.bases)))
        for module in matching(f"{package}.*")
        if _package_of(module.name) == package
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and _is_error(node)
    }


def _outside(root: str, errors: Mapping[str, ErrorClass]) -> dict[str, str]:
    """The path of each error that does not derive from ``root``, by name."""
    inside = {root}
    while grown := {name for name, error in errors.items() if error.bases & inside} - inside:
        inside |= grown
    return {name: error.path for name, error in errors.items() if name not in inside}


@pytest.mark.parametrize("package", ROOTS)
def test_every_error_of_a_package_derives_from_its_root(package: str) -> None:
    errors = _errors(package)
    assert len(errors) > 3
    assert errors[ROOTS[package]].bases == {"Exception"}
    assert _outside(ROOTS[package], errors) == {}
