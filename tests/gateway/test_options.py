"""The options: accepted values, and the messages for wrong ones."""

from pathlib import Path

import pytest

from process_cosmos_gateway.errors import StartError
from process_cosmos_gateway.options import (
    SUPERVISOR_OPTIONS,
    Aggregate,
    BrokerOptions,
    Options,
    OptionsError,
    ReadingOptions,
    VolumeRule,
    parse_options,
    read_options,
)


def mistakes_of(**given: object) -> tuple[str, ...]:
    with pytest.raises(OptionsError) as wrong:
        parse_options({"data": "/somewhere", **given})
    return wrong.value.mistakes


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "any.pem"
    path.touch()
    return path


def test_a_data_folder_is_enough() -> None:
    assert parse_options({"data": "/somewhere"}) == Options(data=Path("/somewhere"), port=8735, broker=None)


def test_a_data_folder_is_required() -> None:
    with pytest.raises(OptionsError, match="data: is missing"):
        parse_options({})


def test_every_mistake_is_reported_with_its_key() -> None:
    mistakes = mistakes_of(port=0, log_level="loud", mqtt_host="", mqtt_tls="maybe", colour="red", mqtt_ca="/nowhere")
    assert mistakes == (
        "colour: unknown option",
        "port: must be a whole number from 1 to 65535",
        "log_level: must be one of debug, info, warning, error",
        "mqtt_host: must be a non-empty text",
        "mqtt_tls: must be true or false",
        "mqtt_ca: must be an existing file",
    )


@pytest.mark.parametrize("port", [True, 1.5, "1e3", "-1", 65536, None, "٣"])
def test_an_invalid_port_is_refused(port: object) -> None:
    assert mistakes_of(port=port) == ("port: must be a whole number from 1 to 65535",)


NO_HOSTS = ["h:", "h:abc", "h/p", "user@h", "user:secret@h", "[::1", "h:1883/", "h:1:2", "http:h", "h:18830000", ":1"]


@pytest.mark.parametrize("key", ["host", "mqtt_host"])
@pytest.mark.parametrize("host", ["mqtt..local", ".", "a b", "broker\0", "x" * 64, "\udcff", *NO_HOSTS])
def test_an_invalid_host_is_refused(key: str, host: str) -> None:
    assert mistakes_of(**{key: host}) == (f"{key}: must be a host name or an IP address",)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%eth0", "broker.local.", "bücher.example", "my_broker-2"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert parse_options({"data": "/somewhere", "host": host}).host == host


@pytest.mark.parametrize("reserve", [0, 10_001, "", "-1", "1.5", 1.5, True, None])
def test_an_invalid_reserve_is_refused(reserve: object) -> None:
    assert mistakes_of(reserve_mb=reserve) == ("reserve_mb: must be a whole number from 1 to 10000",)


def test_a_reserve_is_megabytes_from_file_and_environment_alike() -> None:
    assert [parse_options({"data": "/data", "reserve_mb": given}).reserve_mb for given in (64, "64")] == [64, 64]


def test_outbox_quotas_are_megabytes_and_optional() -> None:
    options = parse_options({"data": "/data", "outbox_urgent_mb": 70, "outbox_reading_mb": "500"})
    assert (options.outbox_urgent_mb, options.outbox_change_mb, options.outbox_reading_mb) == (70, None, 500)
    assert mistakes_of(outbox_change_mb=0) == ("outbox_change_mb: must be a whole number from 1 to 10000",)


def test_reading_options_are_parsed_with_their_rules_in_order() -> None:
    rules = [
        {"match": "wot/tank/*", "deadband": 0.5, "every": 60},
        {"match": "*", "aggregate": "mean", "window": 300, "every": None},
    ]
    given = {"reading_linger": 0, "readings_mb": "200", "volume": rules, "daily_mb": "2.5"}
    assert parse_options({"data": "/data", **given}).readings == ReadingOptions(
        reading_linger=0.0,
        readings_mb=200,
        volume=(
            VolumeRule(match="wot/tank/*", deadband=0.5, every=60.0),
            VolumeRule(match="*", aggregate=Aggregate.MEAN, window=300.0),
        ),
        daily_mb=2.5,
    )


def test_every_mistake_in_a_rule_is_reported_with_its_index() -> None:
    rules = [
        {"match": "", "every": -1, "colour": "red"},
        {"deadband": float("nan"), "aggregate": "median", "window": 0},
        {"match": "*", "window": 60},
        "a text",
        {"match": "*", "aggregate": "last"},
    ]
    assert mistakes_of(volume=rules, daily_mb=0) == (
        "volume[0].colour: unknown option",
        "volume[0].match: must be a non-empty text",
        "volume[0].every: must be a number from 0 to 604800",
        "volume[1].match: is missing (a pattern for device/property, with the wildcards * and ?)",
        "volume[1].deadband: must be a number from 0 to 1e+300",
        "volume[1].aggregate: must be one of mean, min, max, last",
        "volume[1].window: must be a number from 1 to 604800",
        "volume[2].window: requires aggregate",
        "volume[3]: must be a table",
        "volume[4].aggregate: requires window",
        "daily_mb: must be a number from 0.001 to 10000",
    )


@pytest.mark.parametrize("rules", ["*", {"match": "*"}, None, 1])
def test_an_invalid_list_of_rules_is_refused(rules: object) -> None:
    assert mistakes_of(volume=rules) == ("volume: must be a list of tables",)


@pytest.mark.parametrize("linger", [True, -1, 61, "soon", "-1", float("inf"), None, "", "1e1"])
def test_an_invalid_linger_is_refused(linger: object) -> None:
    assert mistakes_of(reading_linger=linger) == ("reading_linger: must be a number from 0 to 60",)


@pytest.mark.parametrize("level", [["info"], {}, 7, "INFO"])
def test_an_invalid_level_is_refused(level: object) -> None:
    assert mistakes_of(log_level=level) == ("log_level: must be one of debug, info, warning, error",)


@pytest.mark.parametrize("switch", [0, 1, "yes", []])
def test_an_invalid_boolean_is_refused(switch: object) -> None:
    assert mistakes_of(mqtt_host="broker", mqtt_tls=switch) == ("mqtt_tls: must be true or false",)


@pytest.mark.parametrize("topics", [[], [""], ["a/#/b"], ["a+/b"], ["a\0"], [7], 7, "a,,b", ["x" * 65536]])
def test_an_invalid_topic_filter_is_refused(topics: object) -> None:
    assert mistakes_of(mqtt_host="broker", mqtt_topics=topics) == ("mqtt_topics: must be a list of MQTT topic filters",)


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({"mqtt_port": 1883}, "mqtt_port: requires mqtt_host"),
        ({"mqtt_host": "broker", "mqtt_password": "made up"}, "mqtt_password: requires mqtt_username"),
    ],
)
def test_an_option_that_requires_another_is_reported(given: dict[str, object], needed: str) -> None:
    assert mistakes_of(**given) == (needed,)


def test_a_client_certificate_needs_its_key(pem: Path) -> None:
    assert mistakes_of(mqtt_host="broker", mqtt_certificate=str(pem)) == ("mqtt_certificate: requires mqtt_key",)


@pytest.mark.parametrize("key", ["mqtt_certificate", "mqtt_key"])
def test_a_client_certificate_needs_a_broker(pem: Path, key: str) -> None:
    assert f"{key}: requires mqtt_host" in mistakes_of(**{key: str(pem)})


@pytest.mark.parametrize("tls", [False, "false"])
def test_certificates_conflict_with_disabled_tls(pem: Path, tls: object) -> None:
    given = {"mqtt_ca": str(pem), "mqtt_certificate": str(pem), "mqtt_key": str(pem)}
    assert mistakes_of(mqtt_host="broker", mqtt_tls=tls, **given) == (
        "mqtt_ca: requires mqtt_tls, which is false",
        "mqtt_certificate: requires mqtt_tls, which is false",
    )


def test_a_certificate_authority_implies_tls_and_its_port(pem: Path) -> None:
    options = parse_options({"data": "/somewhere", "mqtt_host": "broker", "mqtt_ca": str(pem)})
    assert options.broker == BrokerOptions(host="broker", port=8883, tls=True, ca=pem)


def test_a_broker_without_tls_has_the_default_port() -> None:
    options = parse_options({"data": "/somewhere", "mqtt_host": "broker", "mqtt_topics": ["things/#", "+"]})
    assert options.broker == BrokerOptions(host="broker", port=1883, topics=("things/#", "+"))


def test_options_come_from_a_toml_file_and_the_environment_wins(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('data = "/somewhere"\nport = 9000\nmqtt_host = "broker"\nmqtt_port = 1884\n')
    environment = {
        "PROCESS_COSMOS_OPTIONS": str(file),
        "PROCESS_COSMOS_PORT": "9001",
        "PROCESS_COSMOS_MQTT_TOPICS": "+,things/+/td",
        "PROCESS_COSMOS_MQTT_TLS": "false",
        "PATH": "/bin",
    }
    options = read_options(environment=environment)
    assert options.port == 9001
    assert options.broker == BrokerOptions(host="broker", port=1884, topics=("+", "things/+/td"))


def test_options_may_come_from_the_environment_alone() -> None:
    options = read_options(
        environment={
            "PROCESS_COSMOS_DATA": "/somewhere",
            "PROCESS_COSMOS_MQTT_TLS": "true",
            "PROCESS_COSMOS_MQTT_HOST": "broker",
        }
    )
    assert options.broker == BrokerOptions(host="broker", port=8883, tls=True)


def test_an_unknown_variable_with_the_prefix_is_refused() -> None:
    with pytest.raises(OptionsError, match="prot: unknown option"):
        read_options(environment={"PROCESS_COSMOS_DATA": "/somewhere", "PROCESS_COSMOS_PROT": "9000"})


def test_an_unknown_key_in_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('data = "/somewhere"\nprot = 9000\n')
    with pytest.raises(OptionsError, match="prot: unknown option"):
        read_options(file, {})


def test_under_the_supervisor_variables_are_ignored(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text('{"log_level": "debug"}')
    options = read_options(file, {"SUPERVISOR_TOKEN": "made up", "PROCESS_COSMOS_PORT": "9000"})
    assert (options.data, options.log_level, options.port) == (Path("/data"), "debug", 8735)
    assert options.supervisor_token == "made up"


def test_an_unknown_key_in_the_supervisors_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text('{"log_level": "info", "loglevel": "debug"}')
    with pytest.raises(OptionsError, match="loglevel: unknown option"):
        read_options(file, {"SUPERVISOR_TOKEN": "made up"})


def test_the_supervisors_file_is_the_one_it_writes() -> None:
    assert Path("/data/options.json") == SUPERVISOR_OPTIONS
    with pytest.raises(OptionsError, match=r"/data/options\.json"):
        read_options(environment={"SUPERVISOR_TOKEN": "made up"})


def test_supervisor_options_without_a_token_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "options.json"
    file.write_text('{"log_level": "debug"}')
    monkeypatch.setattr("process_cosmos_gateway.options.SUPERVISOR_OPTIONS", file)
    with pytest.raises(StartError, match="Restart the app, then the host") as missing:
        read_options(environment={})
    assert missing.value.code == "start_token_missing"
    assert read_options(environment={"PROCESS_COSMOS_DATA": "/data"}).supervisor_token is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("port = ", "is truncated or invalid"),
        ('mqtt_password = "canary\n', "is truncated or invalid"),
        ("\udcff", "is truncated or invalid"),
    ],
)
def test_an_invalid_file_is_reported_without_its_content(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text, "utf-8", "surrogateescape")
    with pytest.raises(OptionsError) as wrong:
        read_options(file, {})
    assert str(file) in str(wrong.value)
    assert complaint in str(wrong.value)
    assert "canary" not in str(wrong.value)


def test_a_truncated_supervisor_file_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    whole = b'{"log_level": "info", "mqtt_topics": ["+"], "volume": []}'
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        with pytest.raises(OptionsError, match=r"is truncated or invalid .* save the options again"):
            read_options(file, {"SUPERVISOR_TOKEN": "made up"})
    file.write_bytes(whole)
    assert read_options(file, {"SUPERVISOR_TOKEN": "made up"}).topics == ("+",)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="No such file"):
        read_options(tmp_path / "nowhere.toml", {})


def test_a_file_that_holds_a_list_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text("[]")
    with pytest.raises(OptionsError, match="must contain keys with values"):
        read_options(file, {"SUPERVISOR_TOKEN": "made up"})


def test_secrets_are_not_in_the_representation() -> None:
    given = {"data": "/somewhere", "mqtt_host": "broker", "mqtt_username": "me", "mqtt_password": "canary"}
    assert "canary" not in repr(parse_options(given, supervisor_token="canary"))
    assert "canary" not in str(mistakes_of(mqtt_host="b", mqtt_username="me", mqtt_password=["canary"]))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("mqtt://broker:1884", ("broker", 1884, False, None)),
        ("mqtts://broker", ("broker", 8883, True, None)),
        ("ssl://me:a%40b@broker:8884/", ("broker", 8884, True, "a@b")),
        ("broker:1884", ("broker", 1884, False, None)),
        (' "broker" ', ("broker", 1883, False, None)),
        ("'mqtt://broker'", ("broker", 1883, False, None)),
        ("[::1]", ("::1", 1883, False, None)),
        ("[::1]:1884", ("::1", 1884, False, None)),
        ("mqtt://[::1]:1884", ("::1", 1884, False, None)),
        ("::1", ("::1", 1883, False, None)),
        ("fe80::1%eth0", ("fe80::1%eth0", 1883, False, None)),
    ],
)
def test_a_broker_address_is_accepted_in_common_forms(written: str, read: tuple[str, int, bool, str | None]) -> None:
    broker = parse_options({"data": "/data", "mqtt_host": written}).broker
    assert broker
    assert (broker.host, broker.port, broker.tls, broker.password) == read


@pytest.mark.parametrize(
    ("given", "mistake"),
    [
        ({"mqtt_host": "ws://broker"}, "must be a host, or begin with mqtt://, tcp://, mqtts://, ssl://, tls://"),
        ({"mqtt_host": "mqtt://broker/topic"}, "must end after host and port"),
        ({"mqtt_host": "mqtt://broker:99999"}, "Port out of range 0-65535"),
        (
            {"mqtt_host": "broker:1884", "mqtt_port": 1883},
            "contains a port that differs from mqtt_port; set it in one place only",
        ),
        (
            {"mqtt_host": "mqtts://broker", "mqtt_tls": False},
            "contains a tls that differs from mqtt_tls; set it in one place only",
        ),
        ({"mqtt_host": "mqtt://"}, "must be a non-empty text"),
    ],
)
def test_an_invalid_broker_address_is_refused_with_a_sentence(given: dict[str, object], mistake: str) -> None:
    assert f"mqtt_host: {mistake}" in mistakes_of(**given)


def test_equal_values_given_twice_are_accepted() -> None:
    given = {"data": "/data", "mqtt_host": "mqtts://broker:8884", "mqtt_port": "8884", "mqtt_tls": "true"}
    assert parse_options(given).broker == BrokerOptions(host="broker", port=8884, tls=True)


def test_kubernetes_service_variables_are_ignored() -> None:
    environment = {
        "PROCESS_COSMOS_PORT": "tcp://10.0.0.1:8735",
        "PROCESS_COSMOS_PORT_8735_TCP": "tcp://10.0.0.1:8735",
        "PROCESS_COSMOS_PORT_8735_TCP_PROTO": "tcp",
        "PROCESS_COSMOS_PORT_8735_TCP_PORT": "8735",
        "PROCESS_COSMOS_PORT_8735_TCP_ADDR": "10.0.0.1",
        "PROCESS_COSMOS_SERVICE_HOST": "10.0.0.1",
        "PROCESS_COSMOS_SERVICE_PORT": "8735",
        "PROCESS_COSMOS_SERVICE_PORT_HTTPS": "8735",
        "PROCESS_COSMOS_MQTT_PORT": "tcp://10.0.0.2:1883",
        "PROCESS_COSMOS_MQTT_SERVICE_HOST": "10.0.0.2",
    }
    assert read_options(None, {**environment, "PROCESS_COSMOS_DATA": "/data"}) == parse_options({"data": "/data"})
    with pytest.raises(OptionsError):
        read_options(None, {"PROCESS_COSMOS_DATA": "/data", "PROCESS_COSMOS_PORT": "udp"})


@pytest.mark.parametrize("topics", ['"+ , wot/+/td"', '["+ ", " wot/+/td"]'])
def test_a_file_with_a_byte_order_mark_and_blanks_in_lists_are_read(tmp_path: Path, topics: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'data = "/data"\nmqtt_host = "broker"\nmqtt_topics = {topics}\n', "utf-8-sig")
    assert read_options(path, {}).topics == ("+", "wot/+/td")


def test_whitespace_in_supervisor_lists_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "options.json"
    path.write_text('{"mqtt_host": "broker", "mqtt_topics": ["wot/+/td "]}')
    assert read_options(path, {"SUPERVISOR_TOKEN": "made up"}).topics == ("wot/+/td",)
