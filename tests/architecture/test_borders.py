"""Who may import what: the borders of docs/architecture.md."""

import ast
import subprocess
import sys

import pytest

from .tree import TOP, matching, modules, reached, tops

GATEWAY = "process_cosmos_gateway"
CLOUD = "process_cosmos_cloud"
INTEGRATION = "custom_components.process_cosmos"

# Each outside system is touched by one module of each service.
ONLY_HERE = {
    "apsw": (f"{GATEWAY}.store.*", f"{CLOUD}.database"),
    "paho": (f"{GATEWAY}.devices.mqtt.connection", f"{GATEWAY}.devices.mqtt.paho_client"),
    "prometheus_client": (f"{GATEWAY}.api.metrics",),
    "cryptography": (
        f"{GATEWAY}.destinations.enrolment_process",
        f"{GATEWAY}.api.certificate",
        f"{CLOUD}.authority",
        f"{CLOUD}.ca",
    ),
    "aiohttp": (
        f"{GATEWAY}.api.*",
        f"{GATEWAY}.destinations.*",
        f"{GATEWAY}.listener",
        f"{GATEWAY}.supervisor",
        f"{CLOUD}.*",
        f"{INTEGRATION}.gateway.client",
        f"{INTEGRATION}.alerts.push",
    ),
}

# Modules, and the first words they may not reach, not even by way of others.
NEVER = (
    (f"{GATEWAY}.*", {"custom_components", "homeassistant", CLOUD}),
    (f"{CLOUD}.*", {"custom_components", "homeassistant"}),
    (f"{INTEGRATION}.*", {GATEWAY, CLOUD, "apsw", "paho", "sqlite3"}),
    (f"{INTEGRATION}.gateway.client", {"homeassistant", "probatio", "voluptuous"}),
)

# Functions of values: no I/O, no clock, no randomness of their own.
PURE = (
    f"{GATEWAY}.contract.*",
    f"{GATEWAY}.destinations.backoff",
    f"{GATEWAY}.destinations.http_statuses",
    f"{INTEGRATION}.gateway.backoff",
    f"{INTEGRATION}.alerts.model",
    f"{INTEGRATION}.alerts.policy",
    f"{INTEGRATION}.alerts.timetable",
)
IMPURE_MODULES = {
    *("aiohttp", "apsw", "homeassistant", "logging", "paho", "sqlite3"),
    *("asyncio", "os", "pathlib", "socket", "ssl", "subprocess", "tempfile", "threading", "urllib"),
    *("random", "secrets", "time"),
}
IMPURE_CALLS = {"now", "open", "print", "today", "utcnow"}


@pytest.mark.parametrize("library", ONLY_HERE)
def test_each_outside_system_is_touched_by_one_module(library: str) -> None:
    users = [module.name for module in modules().values() if library in tops(module.imports)]
    product = {name for name in users if name.startswith((GATEWAY, CLOUD, INTEGRATION))}
    assert product
    assert product - {module.name for module in matching(*ONLY_HERE[library])} == set()


@pytest.mark.parametrize(("pattern", "forbidden"), NEVER, ids=[f"{pattern}" for pattern, _ in NEVER])
def test_nobody_reaches_across_a_border(pattern: str, forbidden: set[str]) -> None:
    found = matching(pattern)
    assert found
    assert {module.name: reach for module in found if (reach := tops(reached(module)) & forbidden)} == {}


@pytest.mark.parametrize("pattern", PURE)
def test_what_decides_does_no_io_and_knows_no_clock(pattern: str) -> None:
    found = matching(pattern)
    assert found
    assert {module.name: reach for module in found if (reach := tops(reached(module)) & IMPURE_MODULES)} == {}
    calls = (node.func for module in found for node in ast.walk(module.tree) if isinstance(node, ast.Call))
    names = {func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "") for func in calls}
    assert names & IMPURE_CALLS == set()


def test_the_contract_imports_the_standard_library_orjson_and_itself() -> None:
    found = matching(f"{GATEWAY}.contract.*")
    assert len(found) > 5
    for module in found:
        assert tops(module.imports) <= sys.stdlib_module_names | {"orjson", GATEWAY}, module.name
        assert {name for name in module.imports if name.startswith(GATEWAY)} <= {
            name for name in module.imports if name.startswith(f"{GATEWAY}.contract")
        }, module.name


def test_the_cloud_knows_nothing_of_the_gateway_but_the_contract_and_what_any_service_needs() -> None:
    ours = {name for module in matching(f"{CLOUD}.*") for name in module.imports if name.startswith(GATEWAY)}
    assert ours
    shared = tuple(f"{GATEWAY}.{name}" for name in ("contract", "listener", "logs", "private_files"))
    assert {name for name in ours if not name.startswith(shared)} == set()


def test_the_judges_know_nothing_of_the_gateway_but_the_contract() -> None:
    demo = "process_cosmos_testbed.scenarios.leak_demo"
    watches = [f"{demo}.{name}" for name in ("judge", "evidence", "observer", "cellar", "home_assistant_watch")]
    found = matching("process_cosmos_testbed.judge", "process_cosmos_testbed.ledger", *watches)
    assert len(found) == 7
    imported = {name for module in found for name in module.imports if name.startswith(GATEWAY)}
    assert imported
    assert {name for name in imported if not name.startswith(f"{GATEWAY}.contract")} == set()


def test_nothing_imports_tests_testbed_or_benchmarks() -> None:
    found = matching(f"{GATEWAY}.*", f"{CLOUD}.*", f"{INTEGRATION}.*")
    assert found
    forbidden = {"tests", "process_cosmos_testbed", "benchmarks", "pytest"}
    assert [module.name for module in found if tops(module.imports) & forbidden] == []


def test_the_running_gateway_never_loads_cryptography() -> None:
    look = f"import sys, {GATEWAY}.app; print(int('aiohttp' in sys.modules), int('cryptography' in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", look], cwd=TOP, text=True).split() == ["1", "0"]


def test_schemas_are_written_with_the_library_home_assistant_uses() -> None:
    """Since 2026.11 that is probatio; voluptuous is another name for it, with types that do not fit."""
    users = {module.path for module in modules().values() if "probatio" in module.imports}
    assert users
    assert {module.path for module in modules().values() if "voluptuous" in module.imports} == set()
