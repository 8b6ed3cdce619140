"""The app's folder: version, options and their words in step with the code."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from process_cosmos_gateway import VERSION
from process_cosmos_gateway.options import DESCRIPTION_TOPICS, parse_options

TOP = Path(__file__).parents[2]
ADDON = TOP / "addon"


@pytest.fixture
def app() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ADDON / "config.yaml").read_text())
    return document


def test_package_app_and_code_have_one_version(app: dict[str, Any]) -> None:
    package = tomllib.loads((ADDON / "pyproject.toml").read_text())
    assert package["project"]["version"] == app["version"] == VERSION


def test_the_apps_default_options_are_accepted_as_they_are(app: dict[str, Any]) -> None:
    options = parse_options({"data": "/data", **app["options"]}, supervisor_token="made up")
    assert options.topics == DESCRIPTION_TOPICS
    assert options.broker is None


def test_every_option_of_the_app_is_one_of_the_gateways_and_has_words(app: dict[str, Any]) -> None:
    words = yaml.safe_load((ADDON / "translations/en.yaml").read_text())["configuration"]
    assert app["schema"].keys() == words.keys() >= app["options"].keys()
    own = {
        "log_level": "debug",
        "reserve_mb": 32,
        "outbox_alarm_mb": 64,
        "outbox_change_mb": 100,
        "outbox_measurement_mb": 200,
        "measurement_linger": 0.5,
        "readings_mb": 100,
        "volume": [{"match": "*", "deadband": 0.5, "every": 60, "aggregate": "mean", "window": 60}],
        "daily_mb": 2.5,
        "mqtt_topics": ["+"],
        "mqtt_host": "broker",
        "mqtt_port": 1883,
        "mqtt_username": "me",
        "mqtt_password": "made up",
        "mqtt_tls": True,
    }
    assert own.keys() == app["schema"].keys()
    assert parse_options({"data": "/data", **own}).broker


def test_no_key_repeats_the_supervisors_default(app: dict[str, Any]) -> None:
    defaults = {"boot": "auto", "init": True, "stage": "stable", "backup": "hot", "startup": "application"}
    assert not [key for key, value in defaults.items() if app.get(key) == value]
    assert "image" not in app
    assert app["arch"] == ["amd64", "aarch64"]


def test_the_image_starts_the_gateway_and_looks_after_it() -> None:
    lines = (ADDON / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["process-cosmos-gateway"]' in lines
    assert 'CMD ["process-cosmos-gateway", "health"]' in lines
    assert "apk " not in lines


def test_the_marketplace_and_the_app_name_the_same_home_assistant(app: dict[str, Any]) -> None:
    marketplace = yaml.safe_load((TOP / "hacs.json").read_text())
    assert marketplace["homeassistant"] == app["homeassistant"] == "2026.11.0"


def test_the_documents_of_a_project_are_there() -> None:
    for name in ("LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "repository.yaml", "addon/DOCS.md"):
        assert (TOP / name).stat().st_size > 100, name
