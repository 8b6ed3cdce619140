"""What ``quality_scale.yaml`` claims, as far as reading the integration's files can check it."""

import ast
import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import yaml

from .tree import INTEGRATION, TOP, matching

PLATFORMS = ("binary_sensor", "event", "number", "sensor", "switch", "valve")
ERRORS = {
    "ConfigEntryAuthFailed",
    "ConfigEntryError",
    "ConfigEntryNotReady",
    "HomeAssistantError",
    "ServiceValidationError",
}
"""Errors that Home Assistant shows to people."""


def _modules() -> Mapping[str, ast.Module]:
    """The syntax trees of the integration's modules, by name within the integration."""
    found = matching("custom_components.process_cosmos.*")
    return {module.name.removeprefix("custom_components.process_cosmos").lstrip("."): module.tree for module in found}


def _json(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((INTEGRATION / name).read_text(encoding="utf-8"))
    return found


@cache
def _rules() -> Mapping[str, str]:
    rules = yaml.safe_load((INTEGRATION / "quality_scale.yaml").read_text(encoding="utf-8"))["rules"]
    return {rule: status if isinstance(status, str) else status["status"] for rule, status in rules.items()}


def _functions(module: str) -> Mapping[str, ast.AST]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name: node for node in ast.walk(_modules()[module]) if isinstance(node, kinds)}


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """All calls in the integration, each with its module."""
    for module, tree in _modules().items():
        yield from ((module, node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def _called(node: ast.AST) -> set[str]:
    """The last words of what ``node`` calls."""
    return {ast.unparse(call.func).rpartition(".")[2] for call in ast.walk(node) if isinstance(call, ast.Call)}


def _assigned(node: ast.AST) -> set[str]:
    """What is assigned within ``node``, without annotations."""
    found = {ast.unparse(target) for each in ast.walk(node) if isinstance(each, ast.Assign) for target in each.targets}
    return found | {ast.unparse(each.target) for each in ast.walk(node) if isinstance(each, ast.AnnAssign)}


def _keywords(call: ast.Call) -> set[str]:
    return {keyword.arg for keyword in call.keywords if keyword.arg}


def _missing_functions(module: str, *names: str) -> set[str]:
    return {f"{module}.{name}" for name in names} - {f"{module}.{name}" for name in _functions(module)}


def _entity_bases() -> list[ast.ClassDef]:
    """The classes that derive from Home Assistant's ``Entity`` itself."""
    classes = [node for node in _modules()["entity"].body if isinstance(node, ast.ClassDef)]
    found = [node for node in classes if [ast.unparse(base) for base in node.bases] == ["Entity"]]
    assert len(found) > 1
    return found


def _bases_without(*assigned: str) -> set[str]:
    return {node.name for node in _entity_bases() if not set(assigned) <= _assigned(node)}


def _own_entities() -> set[str]:
    """Entity classes of the platforms that derive from none of ``entity.py``."""
    shared = {node.name for node in _modules()["entity"].body if isinstance(node, ast.ClassDef)}
    classes = [(name, node) for name in PLATFORMS for node in _modules()[name].body if isinstance(node, ast.ClassDef)]
    entities = [(name, {ast.unparse(base) for base in node.bases}) for name, node in classes]
    return {name for name, bases in entities if any(base.endswith("Entity") for base in bases) and not bases & shared}


def _config_flow() -> set[str]:
    """The flow is declared, and each of its fields has a description."""
    steps = {
        f"{flow}.{name}": step
        for flow in ("config", "options")
        for name, step in _json("translations/en.json")[flow]["step"].items()
    }
    undescribed = {
        f"{step}.{field}"
        for step, texts in steps.items()
        for field in texts.get("data", {}).keys() - texts.get("data_description", {}).keys()
    }
    return undescribed | (set() if _json("manifest.json").get("config_flow") else {"manifest.json"})


def _action_setup() -> set[str]:
    functions = _functions("")
    found = "async_setup_services" in _called(functions["async_setup"])
    again = "async_setup_services" in _called(functions["async_setup_entry"])
    return set() if found and not again else {"async_setup"}


def _runtime_data() -> set[str]:
    stored = {} if "entry.runtime_data" in _assigned(_functions("")["async_setup_entry"]) else {"async_setup_entry"}
    names = {
        f"{module}: {node}"
        for module, tree in _modules().items()
        for node in map(ast.unparse, ast.walk(tree))
        if node == "hass.data[DOMAIN]"
    }
    return {*stored, *names}


def _reauthentication() -> set[str]:
    started = any("async_start_reauth" in _called(tree) for tree in _modules().values())
    return _missing_functions("config_flow", "async_step_reauth", "async_step_reauth_confirm") | (
        set() if started else {"async_start_reauth"}
    )


def _discovery_update() -> set[str]:
    calls = [node for node in ast.walk(_functions("config_flow")["async_step_hassio"]) if isinstance(node, ast.Call)]
    updates = [call for call in calls if ast.unparse(call.func) == "self._abort_if_unique_id_configured"]
    return set() if any("updates" in _keywords(call) for call in updates) else {"async_step_hassio"}


def _described(word: str) -> set[str]:
    """Descriptions of entities with the argument ``word``, which belongs into a translation file."""
    return {
        f"{module}: {ast.unparse(call)}"
        for module, call in _calls()
        if ast.unparse(call.func).endswith("Description") and word in _keywords(call)
    }


def _entity_translations() -> set[str]:
    """The site's entities have a translation key; those of devices have the names their devices give them."""
    return _described("name") | {node.name for node in _entity_bases() if not _names_itself(node)}


def _names_itself(node: ast.ClassDef) -> bool:
    return bool({"self._attr_translation_key", "self._attr_name"} & _assigned(node))


def _icon_translations() -> set[str]:
    fixed = {module for module, tree in _modules().items() if {"_attr_icon", "self._attr_icon"} & _assigned(tree)}
    return _described("icon") | fixed | (set() if _json("icons.json").get("entity") else {"icons.json"})


def _exception_translations() -> set[str]:
    needed = {"translation_domain", "translation_key"}
    raised = {
        f"{module}: {ast.unparse(call)}"
        for module, call in _calls()
        if ast.unparse(call.func).rpartition(".")[2] in ERRORS and not needed <= _keywords(call)
    }
    classes = {
        f"{module}.{node.name}"
        for module, tree in _modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and ERRORS & {ast.unparse(base) for base in node.bases}
        if not any(needed <= _keywords(call) for call in ast.walk(node) if isinstance(call, ast.Call))
    }
    return raised | classes


def _strict_typing() -> set[str]:
    strict = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"].get("strict")
    ignored = {path.name for path in INTEGRATION.rglob("*.py") if "type: ignore" in path.read_text(encoding="utf-8")}
    return ignored | (set() if strict else {"pyproject.toml"})


def _sessions() -> set[str]:
    """Modules that create an HTTP session instead of using Home Assistant's."""
    made = {"ClientSession", "async_create_clientsession"}
    return {module for module, tree in _modules().items() if made & _called(tree)}


def _polling() -> set[str]:
    updates = {name for name in (*PLATFORMS, "entity") if "async_update" in _functions(name)}
    return updates | _bases_without("_attr_should_poll")


CHECKS: Mapping[str, Callable[[], set[str]]] = {
    "action-setup": _action_setup,
    "appropriate-polling": _polling,
    "common-modules": lambda: {"coordinator", "entity"} - _modules().keys(),
    "config-entry-unloading": lambda: _missing_functions("", "async_unload_entry"),
    "config-flow": _config_flow,
    "dependency-transparency": lambda: set(_json("manifest.json")["requirements"]),
    "devices": lambda: _bases_without("self._attr_device_info") | _own_entities(),
    "diagnostics": lambda: _missing_functions("diagnostics", "async_get_config_entry_diagnostics"),
    "discovery": lambda: _missing_functions("config_flow", "async_step_hassio"),
    "discovery-update-info": _discovery_update,
    "docs-conditions": lambda: {"condition"} & _modules().keys(),
    "entity-translations": _entity_translations,
    "entity-unique-id": lambda: _bases_without("self._attr_unique_id") | _own_entities(),
    "exception-translations": _exception_translations,
    "has-entity-name": lambda: _bases_without("_attr_has_entity_name") | _own_entities(),
    "icon-translations": _icon_translations,
    "inject-websession": _sessions,
    "integration-owner": lambda: set() if _json("manifest.json")["codeowners"] else {"manifest.json"},
    "parallel-updates": lambda: {name for name in PLATFORMS if "PARALLEL_UPDATES" not in _assigned(_modules()[name])},
    "reauthentication-flow": _reauthentication,
    "reconfiguration-flow": lambda: _missing_functions("config_flow", "async_step_reconfigure"),
    "repair-issues": lambda: _missing_functions("repairs", "async_create_fix_flow"),
    "runtime-data": _runtime_data,
    "stale-devices": lambda: _missing_functions("", "async_remove_config_entry_device"),
    "strict-typing": _strict_typing,
}
"""What contradicts the claim that a rule is followed, or that the integration is exempt from it."""


def test_the_platforms_are_those_of_the_integration() -> None:
    constants = _modules()["const"]
    named = {node.attr.lower() for node in ast.walk(constants) if isinstance(node, ast.Attribute)}
    assert {*PLATFORMS} == named & {path.stem for path in INTEGRATION.glob("*.py")}


@pytest.mark.parametrize("rule", CHECKS)
def test_a_rule_that_is_claimed_is_followed(rule: str) -> None:
    assert _rules()[rule] in {"done", "exempt"}
    assert CHECKS[rule]() == set()
