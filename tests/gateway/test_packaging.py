"""The app's folder: version, options and their texts match the code, and meet the Supervisor's requirements."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from process_cosmos_gateway.components import VERSION
from process_cosmos_gateway.options import DESCRIPTION_TOPICS, PORT, parse_options

TOP = Path(__file__).parents[2]
ADDON = TOP / "addon"
PROFILE = (ADDON / "apparmor.txt").read_text()

type Rating = Callable[[dict[str, Any], str | None], tuple[int, dict[str, int]]]


@pytest.fixture
def app() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ADDON / "config.yaml").read_text())
    return document


@pytest.fixture
def rating() -> Rating:
    spec = importlib.util.spec_from_file_location("app_rating", TOP / "scripts/tools/app_rating.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Rating = module.rating
    return found


def test_package_app_and_code_have_one_version(app: dict[str, Any]) -> None:
    package = tomllib.loads((ADDON / "pyproject.toml").read_text())
    assert package["project"]["version"] == app["version"] == VERSION


def test_the_apps_default_options_are_accepted_as_they_are(app: dict[str, Any]) -> None:
    options = parse_options({"data": "/data", **app["options"]}, supervisor_token="made up")
    assert options.topics == DESCRIPTION_TOPICS
    assert options.broker is None


def test_every_option_of_the_app_exists_in_the_gateway_and_has_texts(app: dict[str, Any]) -> None:
    words = yaml.safe_load((ADDON / "translations/en.yaml").read_text())["configuration"]
    assert app["schema"].keys() == words.keys() >= app["options"].keys()
    assert app["schema"]["volume"][0].keys() == words["volume"]["fields"].keys()
    fields = [*words.values(), *words["volume"]["fields"].values()]
    assert all(field["name"] and field["description"] for field in fields)
    own = {
        "log_level": "debug",
        "reserve_mb": 32,
        "outbox_urgent_mb": 64,
        "outbox_change_mb": 100,
        "outbox_reading_mb": 200,
        "reading_linger": 0.5,
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
    defaults = {
        "boot": "auto",
        "init": True,
        "stage": "stable",
        "backup": "hot",
        "startup": "application",
        "ingress": False,
        "ingress_port": 8099,
        "panel_icon": "mdi:puzzle",
        "panel_admin": True,
        "apparmor": True,
        "hassio_api": False,
    }
    assert not [key for key, value in defaults.items() if app.get(key) == value]
    assert "image" not in app
    assert app["arch"] == ["amd64", "aarch64"]


def test_the_image_starts_the_gateway_and_checks_its_health() -> None:
    lines = (ADDON / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["process-cosmos-gateway"]' in lines
    assert 'CMD ["process-cosmos-gateway", "health"]' in lines
    assert "apk " not in lines


def test_the_marketplace_and_the_app_name_the_same_home_assistant(app: dict[str, Any]) -> None:
    marketplace = yaml.safe_load((TOP / "hacs.json").read_text())
    assert marketplace["homeassistant"] == app["homeassistant"] == "2026.11.0"


def test_the_project_documents_exist() -> None:
    of_the_app = ("addon/DOCS.md", "addon/CHANGELOG.md")
    for name in ("LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "repository.yaml", *of_the_app):
        assert (TOP / name).stat().st_size > 100, name


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## (.+)$", (ADDON / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == VERSION


def test_icon_and_logo_have_the_sizes_the_supervisors_store_shows() -> None:
    def size(name: str) -> tuple[int, int]:
        """Read the header of a PNG file (ISO/IEC 15948)."""
        head = (ADDON / name).read_bytes()[:24]
        assert head.startswith(b"\x89PNG\r\n\x1a\n")
        return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])

    assert size("icon.png") == (128, 128)
    assert size("logo.png") == (250, 100)


def test_the_page_is_where_the_gateway_listens(app: dict[str, Any]) -> None:
    assert app["ingress"] is True
    assert app["ingress_port"] == PORT


def test_the_supervisor_rates_the_app_best(app: dict[str, Any], rating: Rating) -> None:
    assert rating(app, PROFILE)[0] == 8


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"ingress": False}, 6),
        ({"ingress": False, "auth_api": True}, 7),
        ({"apparmor": False}, 6),
        ({"privileged": ["NET_ADMIN"]}, 7),
        ({"privileged": ["SYS_TIME"]}, 8),
        ({"kernel_modules": True}, 7),
        ({"hassio_role": "manager"}, 7),
        ({"hassio_role": "admin"}, 6),
        ({"host_network": True}, 7),
        ({"host_pid": True}, 6),
        ({"host_uts": True}, 8),
        ({"host_uts": True, "privileged": ["SYS_ADMIN"]}, 6),
        ({"docker_api": True}, 1),
        ({"full_access": True}, 1),
        ({"ingress": False, "apparmor": False, "hassio_role": "admin", "host_network": True, "host_pid": True}, 1),
    ],
)
def test_requested_privileges_lower_the_rating(
    app: dict[str, Any], rating: Rating, more: dict[str, Any], found: int
) -> None:
    assert rating({**app, **more}, PROFILE)[0] == found


@pytest.mark.parametrize("profile", [None, "", "  profile indented {}", "profile one {}\nprofile two {}"])
def test_without_one_profile_of_its_own_the_app_is_rated_lower(
    app: dict[str, Any], rating: Rating, profile: str | None
) -> None:
    assert rating(app, profile)[0] == 7


def test_the_profile_allows_nothing_wholesale() -> None:
    rules = [line.strip() for line in PROFILE.splitlines() if line.strip().endswith(",")]
    assert "/data/** rwkl," in rules
    assert not {"file,", "network,", "capability,", "mount,", "ptrace,", "/** rwk,"} & set(rules)
    writable = {rule.split()[0] for rule in rules if rule.startswith("/") and "w" in rule.split()[1]}
    assert writable == {"/data/**", "/{,var/}tmp/**", "/memfd:certificate"}
    assert not [rule for rule in rules if rule.startswith("capability")]


def test_the_wheel_carries_the_gateway_and_nothing_of_the_testbed(tmp_path: Path) -> None:
    source, built = tmp_path / "addon", tmp_path / "built"
    shutil.copytree(ADDON, source, ignore=shutil.ignore_patterns("__pycache__", "build"))
    built.mkdir()
    command = [sys.executable, "-c", "import sys, uv_build; uv_build.build_wheel(sys.argv[1])", str(built)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [wheel] = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "process_cosmos_gateway/app.py" in names
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"process_cosmos_gateway", f"process_cosmos_gateway-{VERSION}.dist-info"}
    assert not [name for name in names if "testbed" in name or "/lab/" in name or "fault" in name]


def test_the_image_is_built_from_the_apps_folder_alone() -> None:
    compose = yaml.safe_load((TOP / "compose.yaml").read_text())
    assert compose["services"]["gateway"]["build"] == "addon"
    assert "COPY . /usr/src/gateway" in (ADDON / "Dockerfile").read_text()
    assert not [path for path in ADDON.rglob("*.py") if "process_cosmos_testbed" in path.read_text()]
