"""The integration's declarations agree with each other and with its code."""

import ast
import json
import struct
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from .tree import INTEGRATION, Module, matching

HOME_ASSISTANT = find_spec("homeassistant")
assert HOME_ASSISTANT is not None
MODEL = Path(HOME_ASSISTANT.origin or "").parent / "components/fumis/quality_scale.yaml"
RULES = 54
DECLARED = {"services": "services.yaml", "triggers": "triggers.yaml", "conditions": "conditions.yaml"}
BY_HOME_ASSISTANT = {"already_configured", "already_in_progress", "reauth_successful", "reconfigure_successful"}
CODE = matching("custom_components.process_cosmos.*")


def _json(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((INTEGRATION / name).read_text(encoding="utf-8"))
    return found


def _yaml(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}


def _literals() -> set[str]:
    """Every string in the integration's code, the contract's error codes among them."""
    nodes = (
        node
        for module in [*CODE, *matching("process_cosmos_gateway.contract.*")]
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
    )
    return {node.value for node in nodes if isinstance(node.value, str)}


def _translation_keys() -> Iterator[str]:
    """The literal translation keys given to entities, errors and issues."""
    for module in CODE:
        for call in ast.walk(module.tree):
            if isinstance(call, ast.Call):
                # The key of an entity's description is its translation key too (``SiteEntity``).
                names = {"translation_key", "key" if ast.unparse(call.func).endswith("Description") else None}
                for argument in call.keywords:
                    if argument.arg in names and isinstance(argument.value, ast.Constant):
                        yield str(argument.value.value)


def test_the_manifest_is_in_order() -> None:
    manifest = _json("manifest.json")
    assert list(manifest) == ["domain", "name", *sorted(manifest.keys() - {"domain", "name"})]
    assert manifest["domain"] == INTEGRATION.name
    assert manifest["requirements"] == []
    assert {"codeowners", "config_flow", "documentation", "iot_class", "issue_tracker", "version"} <= manifest.keys()


def test_the_quality_scale_answers_every_rule() -> None:
    model, ours = _yaml(MODEL)["rules"], _yaml(INTEGRATION / "quality_scale.yaml")["rules"]
    assert len(model) == RULES
    assert ours.keys() == model.keys()
    for rule, status in ours.items():
        plain = status if isinstance(status, str) else status["status"]
        assert plain in {"done", "exempt", "todo"}, rule
        assert plain != "exempt" or status["comment"], rule


@pytest.mark.parametrize("kind", DECLARED)
def test_what_is_declared_is_translated_and_has_an_icon(kind: str) -> None:
    declared = _yaml(INTEGRATION / DECLARED[kind])
    texts, icons = _json("translations/en.json").get(kind, {}), _json("icons.json").get(kind, {})
    assert declared or kind == "conditions"
    assert declared.keys() == texts.keys() == icons.keys()
    for name, description in declared.items():
        fields = dict((description or {}).get("fields", {}))
        sections = {field: inner["fields"] for field, inner in fields.items() if "fields" in inner}
        flat = {*fields.keys() - sections.keys(), *(name for inner in sections.values() for name in inner)}
        assert texts[name].get("fields", {}).keys() == flat, name
        assert texts[name].get("sections", {}).keys() == sections.keys(), name


def test_the_action_that_alerts_people_is_found_by_the_words_they_use() -> None:
    """Home Assistant's editor searches names and descriptions, and shows the first five: mostly names."""
    texts = _json("translations/en.json")["services"]["alert"]
    assert [word for word in ("alert", "alarm", "notify", "leak", "ask") if word not in texts["name"].lower()] == []
    assert [word for word in ("escalate", "ring") if word not in texts["description"].lower()] == []


def test_every_entity_with_an_icon_has_a_name_and_every_name_its_code() -> None:
    texts, icons = _json("translations/en.json")["entity"], _json("icons.json").get("entity", {})
    named = {(platform, key) for platform, keys in texts.items() for key in keys}
    assert named
    assert {(platform, key) for platform, keys in icons.items() for key in keys} <= named
    assert {key for _, key in named} <= _literals()


def test_every_error_and_issue_has_its_sentence_and_every_sentence_its_code() -> None:
    texts = _json("translations/en.json")
    sentences = {*texts.get("exceptions", {}), *texts.get("issues", {})}
    assert sentences
    known = sentences | {key for keys in texts["entity"].values() for key in keys} | texts.get("selector", {}).keys()
    used = set(_translation_keys())
    assert used - known == set()
    assert {sentence for sentence in sentences if sentence not in _literals()} == set()


@pytest.mark.parametrize("flow", ["config", "options"])
def test_every_step_of_a_flow_has_its_code(flow: str) -> None:
    texts = _json("translations/en.json")[flow]
    methods = {node.name for module in CODE for node in ast.walk(module.tree) if isinstance(node, ast.AsyncFunctionDef)}
    targets = {
        ast.unparse(node.targets[0])
        for module in CODE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assign)
    }
    assert texts["step"]
    assert {step for step in texts["step"] if f"async_step_{step}" not in methods | targets} == set()
    assert {*texts.get("error", {}), *texts.get("abort", {})} - _literals() <= BY_HOME_ASSISTANT


def _reasons(module: Module) -> Iterator[set[str]]:
    """The reasons of each abort in a module: given, or by a name that they are given to."""
    named: dict[str, set[str]] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named.setdefault(node.targets[0].id, set()).update(_texts(node.value))
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "async_abort":
            for reason in (keyword.value for keyword in node.keywords if keyword.arg == "reason"):
                yield named.get(reason.id, set()) if isinstance(reason, ast.Name) else _texts(reason)


def _texts(node: ast.AST) -> set[str]:
    found = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return {text for text in found if isinstance(text, str)}


def test_every_abort_of_a_flow_has_a_sentence() -> None:
    texts = _json("translations/en.json")
    repairs = [issue["fix_flow"] for issue in texts["issues"].values() if "fix_flow" in issue]
    sentences = {reason for flow in (texts["config"], texts["options"], *repairs) for reason in flow.get("abort", {})}
    reasons = [(module.path, found) for module in CODE for found in _reasons(module)]
    assert len(reasons) > 5
    assert [path for path, found in reasons if not found] == [], "a reason this test cannot read"
    assert {reason for _, found in reasons for reason in found} - sentences == set()


def test_texts_are_written_out_in_one_file() -> None:
    assert [path.name for path in (INTEGRATION / "translations").iterdir()] == ["en.json"]
    assert "[%key:" not in (INTEGRATION / "translations/en.json").read_text()
    assert not (INTEGRATION / "strings.json").exists()


def test_the_brand_icon_has_its_size() -> None:
    header = (INTEGRATION / "brand/icon.png").read_bytes()[:24]
    assert header[1:4] == b"PNG"
    assert struct.unpack(">II", header[16:24]) == (256, 256)
