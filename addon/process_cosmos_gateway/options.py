"""The gateway's options, read once at start; every error is reported with its key."""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson

from .broker_address import split_broker_address
from .errors import GatewayError, TokenMissingError

PREFIX = "PROCESS_COSMOS_"
"""The prefix of each key, in upper case, in the environment; ``PROCESS_COSMOS_OPTIONS`` names the TOML file."""

SUPERVISOR_OPTIONS = Path("/data/options.json")
PORT = 8735
MEGABYTE = 1_000_000
DESCRIPTION_TOPICS = ("+", "wot/+/td")
"""Topics of Thing Descriptions: node-wot's and this project's."""

_LAST_PORT = 65535
_MOST_MEGABYTES = 10_000
_LONGEST_TOPIC = 65535
_LONGEST_LINGER = 60.0
_LARGEST = 1e300
_HOST_NAME = re.compile(r"[\w.-]+")
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_LONGEST_SECONDS = 7 * 86_400.0
_KUBERNETES = re.compile(r"(^|_)SERVICE_(HOST|PORT(_\w+)?)$|(^|_)PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")
_LEVELS = ("debug", "info", "warning", "error")


class OptionsError(GatewayError):
    """The options are invalid; ``mistakes`` has one line for each mistake, starting with its key."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        """Store all mistakes, so that a person can correct them at once."""
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """The MQTT broker of the devices. ``ca`` None with ``tls``: the system's certificate authorities are trusted.

    ``certificate`` and ``key`` (PEM files) belong together. ``topics``: topic filters of Thing Descriptions.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    topics: tuple[str, ...] = DESCRIPTION_TOPICS


class Aggregate(StrEnum):
    """The aggregate sent in place of many readings."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    LAST = "last"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRule:
    """A rule that reduces the readings sent to destinations. ``match``: a glob on ``device/property``.

    In the property ``%`` and ``/`` are percent-encoded. ``deadband``: smaller changes are not sent. ``every``: minimum
    seconds between readings. ``aggregate``: one value for all readings in ``window`` seconds; None: no aggregation.
    """

    match: str
    deadband: float = 0.0
    every: float = 0.0
    aggregate: Aggregate | None = None
    window: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """Options for readings. ``linger``: seconds for which an acknowledged reading may not yet be on disk.

    ``megabytes``: limit of stored readings, besides the limit in days. ``volume``: the first matching rule applies.
    ``daily_megabytes``: limit sent in a day, None: unlimited.
    """

    linger: float = 1.0
    megabytes: int = 500
    volume: tuple[VolumeRule, ...] = ()
    daily_megabytes: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options. ``supervisor_token`` None: not run by a Supervisor.

    ``reserve_mb``: megabytes of disk reserved for urgent events. ``outbox_…_mb``: limit of waiting events, None: by
    free disk space. ``broker`` None: the Supervisor's if it has one, else no devices; ``topics`` apply to both.
    """

    data: Path
    host: str = "0.0.0.0"  # noqa: S104 - a Home Assistant elsewhere must reach it; the listener authenticates
    port: int = PORT
    broker: BrokerOptions | None = None
    topics: tuple[str, ...] = DESCRIPTION_TOPICS
    log_level: str = "info"
    reserve_mb: int = 16
    outbox_urgent_mb: int | None = None
    outbox_change_mb: int | None = None
    outbox_reading_mb: int | None = None
    readings: ReadingOptions = field(default_factory=ReadingOptions)
    supervisor_token: str | None = field(default=None, repr=False)


def read_options(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Options:
    """Read the options of this process; raise ``OptionsError`` with every mistake, or ``TokenMissingError``.

    Under the Supervisor (``SUPERVISOR_TOKEN`` is set) they come from ``/data/options.json``. Elsewhere they come from
    the TOML ``file`` (or the one named by ``PROCESS_COSMOS_OPTIONS``) and ``PROCESS_COSMOS_<KEY>`` variables, which
    take precedence.
    """
    if token := environment.get("SUPERVISOR_TOKEN"):
        given = _load_document(file or SUPERVISOR_OPTIONS, orjson.loads)
        return parse_options({"data": "/data", **given}, supervisor_token=token)
    variables = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and not _is_of_kubernetes(name.removeprefix(PREFIX), value)
    }
    if not variables and file is None and SUPERVISOR_OPTIONS.exists():
        raise TokenMissingError("The Supervisor provided options but no token. Restart the app, then the host.")
    named = variables.pop("options", None)
    path = file or (Path(named) if named else None)
    return parse_options({**(_load_document(path, tomllib.loads) if path else {}), **variables})


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Return whether Kubernetes set this variable: a service ``process-cosmos`` gets a dozen with this prefix."""
    return bool(_KUBERNETES.search(name)) or (name.endswith("PORT") and bool(_KUBERNETES_PORT.match(value)))


def parse_options(given: Mapping[str, Any], *, supervisor_token: str | None = None) -> Options:
    """Convert keys and values to ``Options``; raise ``OptionsError`` with every mistake."""
    mistakes = [f"{key}: unknown option" for key in given if key not in _READERS]
    try:
        given = split_broker_address(given)
    except ValueError as error:
        mistakes.append(f"mqtt_host: {error}")
    values: dict[str, Any] = {}
    for key, read in _READERS.items():
        if key in given:
            try:
                values[key] = read(given[key])
            except OptionsError as error:
                mistakes += (f"{key}{mistake}" for mistake in error.mistakes)
            except ValueError as error:
                mistakes.append(f"{key}: {error}")
    if "data" not in given:
        mistakes.append("data: is missing (the folder for the gateway's data)")
    mistakes += _contradictions(given, tls=values.get("mqtt_tls"))
    if mistakes:
        raise OptionsError(tuple(mistakes))
    mqtt = {key.removeprefix("mqtt_"): values.pop(key) for key in list(values) if key.startswith("mqtt_")}
    topics = {"topics": mqtt["topics"]} if "topics" in mqtt else {}
    readings = ReadingOptions(**{name: values.pop(key) for key, name in _READING_OPTIONS.items() if key in values})
    return Options(broker=_broker(mqtt), readings=readings, supervisor_token=supervisor_token, **topics, **values)


def _broker(mqtt: Mapping[str, Any]) -> BrokerOptions | None:
    if "host" not in mqtt:
        return None
    tls = mqtt.get("tls", any(key in mqtt for key in ("ca", "certificate")))
    return BrokerOptions(**{"port": 8883 if tls else 1883, **mqtt, "tls": tls})


def _contradictions(given: Mapping[str, Any], *, tls: bool | None) -> list[str]:
    needs = [
        ("mqtt_password", "mqtt_username"),
        ("mqtt_certificate", "mqtt_key"),
        ("mqtt_key", "mqtt_certificate"),
        *((f"mqtt_{name}", "mqtt_host") for name in ("port", "username", "tls", "ca", "certificate", "key")),
    ]
    mistakes = [f"{key}: requires {other}" for key, other in needs if key in given and other not in given]
    if tls is False:
        mistakes += [
            f"{key}: requires mqtt_tls, which is false" for key in ("mqtt_ca", "mqtt_certificate") if key in given
        ]
    return mistakes


def _load_document(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        # Some editors write a byte order mark, which neither TOML nor JSON permits.
        document = parse(path.read_text("utf-8-sig"))
    except OSError as error:
        raise OptionsError((f"{path}: cannot be read ({error.strerror})",)) from error
    except ValueError as error:
        raise OptionsError(
            (f"{path}: is truncated or invalid ({error}): correct it or save the options again",)
        ) from error
    if not isinstance(document, dict):
        raise OptionsError((f"{path}: must contain keys with values",))
    return document


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a non-empty text")
    return value


def _host(value: object) -> str:
    host = _text(value)
    try:
        host.encode("idna")
        if _HOST_NAME.fullmatch(host) is None:
            ip_address(host)
    except ValueError as error:
        raise ValueError("must be a host name or an IP address") from error
    return host


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser()


def _file(value: object) -> Path:
    path = _path(value)
    if not path.is_file():
        raise ValueError("must be an existing file")
    return path


def _port(value: object) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if type(number) is not int or not 1 <= number <= _LAST_PORT:
        raise ValueError(f"must be a whole number from 1 to {_LAST_PORT}")
    return number


def _megabytes(value: object) -> int:
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
    if type(number) is not int or not 1 <= number <= _MOST_MEGABYTES:
        raise ValueError(f"must be a whole number from 1 to {_MOST_MEGABYTES}")
    return number


def _number(least: float, most: float) -> Callable[[object], float]:
    """Return a parser of finite numbers between two bounds."""

    def read(value: object) -> float:
        number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return float(number)

    return read


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise ValueError("must be true or false")


def _level(value: object) -> str:
    if value not in _LEVELS:
        raise ValueError(f"must be one of {', '.join(_LEVELS)}")
    return str(value)


def _aggregate(value: object) -> Aggregate:
    for aggregate in Aggregate:
        if value == aggregate:
            return aggregate
    raise ValueError(f"must be one of {', '.join(Aggregate)}")


def _volume_rules(value: object) -> tuple[VolumeRule, ...]:
    """Parse the rules; raise ``OptionsError`` with every mistake, each starting with its index."""
    if not isinstance(value, list):
        raise ValueError("must be a list of tables")  # noqa: TRY004 - one type of error for all mistakes
    mistakes: list[str] = []
    rules = [_rule(f"[{place}]", table, mistakes) for place, table in enumerate(value)]
    if mistakes:
        raise OptionsError(tuple(mistakes))
    return tuple(VolumeRule(**rule) for rule in rules)


def _rule(place: str, table: object, mistakes: list[str]) -> dict[str, Any]:
    if not isinstance(table, dict):
        mistakes.append(f"{place}: must be a table")
        return {}
    given = {key: value for key, value in table.items() if value is not None}
    mistakes += (f"{place}.{key}: unknown key of a rule" for key in given if key not in _RULE_READERS)
    needs = (("aggregate", "window"), ("window", "aggregate"))
    mistakes += (f"{place}.{key}: requires {other}" for key, other in needs if key in given and other not in given)
    if "match" not in given:
        mistakes.append(f"{place}.match: is missing (a pattern for device/property, with the wildcards * and ?)")
    rule = {}
    for key, read in _RULE_READERS.items():
        if key in given:
            try:
                rule[key] = read(given[key])
            except ValueError as error:
                mistakes.append(f"{place}.{key}: {error}")
    return rule


def _topics(value: object) -> tuple[str, ...]:
    listed = value.split(",") if isinstance(value, str) else value
    topics = [each.strip() if isinstance(each, str) else each for each in listed] if isinstance(listed, list) else []
    if not topics or not all(map(_is_topic_filter, topics)):
        raise ValueError("must be a list of MQTT topic filters")
    return tuple(topics)


def _is_topic_filter(topic: object) -> bool:
    """Return whether ``topic`` is a topic filter (MQTT 5.0, section 4.7.1)."""
    if not isinstance(topic, str) or not 0 < len(topic.encode()) <= _LONGEST_TOPIC or "\0" in topic:
        return False
    levels = topic.split("/")
    return "#" not in topic[:-1] and all(level in ("+", "#") or not {"+", "#"} & set(level) for level in levels)


_RULE_READERS: Mapping[str, Callable[[object], Any]] = {
    "match": _text,
    "deadband": _number(0, _LARGEST),
    "every": _number(0, _LONGEST_SECONDS),
    "aggregate": _aggregate,
    "window": _number(1, _LONGEST_SECONDS),
}

_READING_OPTIONS = {
    "reading_linger": "linger",
    "readings_mb": "megabytes",
    "volume": "volume",
    "daily_mb": "daily_megabytes",
}

_READERS: Mapping[str, Callable[[object], Any]] = {
    "data": _path,
    "host": _host,
    "port": _port,
    "log_level": _level,
    "reserve_mb": _megabytes,
    "outbox_urgent_mb": _megabytes,
    "outbox_change_mb": _megabytes,
    "outbox_reading_mb": _megabytes,
    "reading_linger": _number(0, _LONGEST_LINGER),
    "readings_mb": _megabytes,
    "volume": _volume_rules,
    "daily_mb": _number(0.001, _MOST_MEGABYTES),
    "mqtt_host": _host,
    "mqtt_port": _port,
    "mqtt_username": _text,
    "mqtt_password": _text,
    "mqtt_tls": _boolean,
    "mqtt_ca": _file,
    "mqtt_certificate": _file,
    "mqtt_key": _file,
    "mqtt_topics": _topics,
}
