"""Every code and every word for what went wrong stands in docs/errors.md, and nothing else does."""

import ast
import json
import re
from collections.abc import Iterator

from process_cosmos_gateway.contract.destinations import LinkState
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.outbox import DropReason

from .tree import INTEGRATION, TOP, Module, matching

_STATUS = re.compile(r"http_\w*")
_STORED = re.compile(r"(?:memory|store)_[a-z_]+")
_START = re.compile(r"(?:start|supervisor|options|command)_[a-z_]+")
_OF_DEVICES = re.compile(r"([a-z]+(?:_[a-z]+)*): ")
_LOGGED = re.compile(r"((?:memory|alerts)_[a-z_]+): ")


def documented() -> set[str]:
    """The words in the first column of the tables."""
    rows = [line for line in (TOP / "docs/errors.md").read_text().splitlines() if line.startswith("| `")]
    return {_STATUS.sub("http_", word) for row in rows for word in re.findall(r"`([^`]+)`", row.split("|")[1])}


def texts(tree: ast.AST) -> Iterator[str]:
    """All strings below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def names(modules: list[Module]) -> dict[str, str]:
    """The strings modules give names to."""
    return {
        target.id: node.value.value
        for module in modules
        for node in module.tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def reasons_of_links() -> set[str]:
    """What destinations say of their links: given to ``Down`` and ``Refused``, or by a function that finds the word."""
    modules = matching("process_cosmos_gateway.destinations.*")
    named, found = names(modules), set[str]()
    for module in modules:
        for node in ast.walk(module.tree):
            match node:
                case ast.Call(func=ast.Name(id="Down" | "Refused"), keywords=keywords):
                    given = [keyword.value for keyword in keywords if keyword.arg == "reason"]
                    found |= {text for value in given for text in texts(value)}
                    found |= {named[value.id] for value in given if isinstance(value, ast.Name)}
                case ast.FunctionDef(name="_tls_reason"):
                    returned = [each for each in ast.walk(node) if isinstance(each, ast.Return)]
                    found |= {text for value in returned for text in texts(value)} - {"EXPIRED"}
    return found


def codes_of_stores() -> set[str]:
    """What both stores are said to be, in errors, issues and logs."""
    integration = {text for module in matching("custom_components.process_cosmos.*") for text in texts(module.tree)}
    store = {text for module in matching("process_cosmos_gateway.store.errors") for text in texts(module.tree)}
    logged = {found[1] for text in integration if (found := _LOGGED.match(text))}
    said = {text for text in integration | store if _STORED.fullmatch(text)}
    return logged | said - {"store_recovered", "store_lost"}  # issues, which have their own words


def codes_of_the_start() -> set[str]:
    """What the app says when it cannot start, and of the Supervisor."""
    starting = ("__main__", "api.server", "app", "errors", "options", "supervisor")
    modules = matching(*(f"process_cosmos_gateway.{name}" for name in starting))
    said = (text.partition(":")[0] for module in modules for text in texts(module.tree))
    return {code for code in said if _START.fullmatch(code)}


def sentences_of_actions() -> set[str]:
    """The translation keys of what actions raise."""
    return set(_translations()["exceptions"])


def problems_of_calls() -> set[str]:
    """What can be wrong with a call of ``alert``: read as text, because Home Assistant is not there."""
    [module] = matching("custom_components.process_cosmos.actions.alert_call")
    [codes] = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef) and node.name == "ProblemCode"]
    return {text for each in codes.body if isinstance(each, ast.Assign) for text in texts(each)}


def reasons_of_the_broker() -> set[str]:
    """Why the link to the MQTT broker is away."""
    return set(names(matching("process_cosmos_gateway.devices.mqtt.errors")).values()) - {"closed"}


def words_of_devices() -> set[str]:
    """What stands in front of a sentence in the log where something a device sent is passed over."""
    modules = matching("process_cosmos_gateway.devices.*")
    said = (found[1] for module in modules for text in texts(module.tree) if (found := _OF_DEVICES.match(text)))
    return {*said, names(modules)["RATE_LIMITED"]} - {"devices"}  # begins the names of tasks


def errors_of_the_set_up() -> set[str]:
    """What a form of the set-up says beside its fields."""
    return set(_translations()["config"]["error"])


def _translations() -> dict[str, dict[str, dict[str, object]]]:
    texts: dict[str, dict[str, dict[str, object]]] = json.loads(
        (INTEGRATION / "translations/en.json").read_text(encoding="utf-8")
    )
    return texts


def test_every_code_is_documented_and_nothing_else_is() -> None:
    links, stores, actions = reasons_of_links(), codes_of_stores(), sentences_of_actions()
    start, set_up = codes_of_the_start(), errors_of_the_set_up()
    assert {"untried", "http_", "not_a_receiver", "redirect", "tls", "certificate_refused", "store_failed"} <= links
    assert {"store_damaged", "memory_torn", "memory_too_new"} <= stores
    assert {"options_invalid", "start_port_taken", "supervisor_away"} <= start
    assert {"gateway_away", "no_app"} <= actions
    assert {"invalid_field", "unknown_site"} <= problems_of_calls()
    assert {"line_cut", "app_not_installed"} <= set_up
    broker = reasons_of_the_broker()
    assert {"login_refused", "broker_silent"} <= broker
    devices = words_of_devices()
    assert {"forms_unusable", "oversized", "garbage", "rate_limited"} <= devices
    found = {*Code, *DropReason, *problems_of_calls()} | links | stores | actions | start | set_up | broker | devices
    assert documented() == found


def test_every_reason_of_a_link_has_a_sentence_that_says_what_to_do() -> None:
    selectors = json.loads((INTEGRATION / "translations/en.json").read_text(encoding="utf-8"))["selector"]
    sentences = selectors["link_reason"]["options"]
    assert {"http_4xx", "http_5xx"} <= sentences.keys()
    assert {reason for reason in reasons_of_links() if reason not in {"http_", *sentences}} == set()
    assert {*selectors["link_state"]["options"]} == {*LinkState}
