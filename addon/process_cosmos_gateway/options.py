"""The gateway's options, read once at start; every error is reported with its key."""

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import orjson

from .broker_address import split_broker_address
from .contract.codec import parse
from .contract.errors import ContractError
from .errors import GatewayError, StartError

PREFIX = "PROCESS_COSMOS_"
"""The prefix of each key, in upper case, in the environment; ``PROCESS_COSMOS_OPTIONS`` names the TOML file."""

SUPERVISOR_OPTIONS = Path("/data/options.json")
PORT = 8735
MEGABYTE = 1_000_000
DESCRIPTION_TOPICS = ("+", "wot/+/td")
"""Topics of Thing Descriptions: node-wot's and this project's."""

_MOST_MEGABYTES = 10_000
_LONGEST_TOPIC = 65535
_HOST_NAME = re.compile(r"[\w.-]+")
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)
_LONGEST_SECONDS = 7 * 86_400.0
_KUBERNETES = re.compile(r"(^|_)SERVICE_(HOST|PORT(_\w+)?)$|(^|_)PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")
_BROKER = "mqtt_"
"""The prefix of the options of ``BrokerOptions``."""

type Reader = Callable[[Any], Any]
"""Convert a given value; raise ``ValueError``, ``ContractError`` or ``OptionsError`` if it is invalid."""


class OptionsError(GatewayError):
    """The options are invalid; ``mistakes`` has one line for each mistake, starting with its key."""

    def __init__(self, mistakes: tuple[str, ...]) -> None:
        """Store all mistakes, so that a person can correct them at once."""
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


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


def _whole(most: int) -> Reader:
    """Return a reader of whole numbers from 1."""

    def read(value: object) -> int:
        number = int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value
        if type(number) is not int or not 1 <= number <= most:
            raise ValueError(f"must be a whole number from 1 to {most}")
        return number

    return read


def _number(least: float, most: float) -> Reader:
    """Return a reader of finite numbers between two bounds."""

    def read(value: object) -> float:
        number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
            raise ValueError(f"must be a number from {least:g} to {most:g}")
        return float(number)

    return read


def _boolean(value: object) -> bool:
    return parse(bool, value == "true" if value in ("true", "false") else value)


_port, _megabytes = _whole(65535), _whole(_MOST_MEGABYTES)


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


def _volume_rules(value: object) -> tuple[VolumeRule, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of tables")  # noqa: TRY004 - one type of error for all mistakes
    mistakes: list[str] = []
    rules = []
    for place, table in enumerate(value):
        with _noting(mistakes, f"[{place}]"):
            rules.append(_rule(table))
    if mistakes:
        raise OptionsError(tuple(mistakes))
    return tuple(rules)


def _rule(table: object) -> VolumeRule:
    if not isinstance(table, dict):
        raise ValueError("must be a table")  # noqa: TRY004 - as above
    given = {key: value for key, value in table.items() if value is not None}
    mistakes = [f"{key}: unknown option" for key in given if key not in _readers(VolumeRule)]
    mistakes += _unmet(given, (("aggregate", "window"), ("window", "aggregate")))
    if "match" not in given:
        mistakes.append("match: is missing (a pattern for device/property, with the wildcards * and ?)")
    values = _read(VolumeRule, given, mistakes)
    if mistakes:
        raise OptionsError(tuple(f".{mistake}" for mistake in mistakes))
    return VolumeRule(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """The MQTT broker of the devices. ``ca`` None with ``tls``: the system's certificate authorities are trusted.

    ``certificate`` and ``key`` (PEM files) belong together. ``topics``: topic filters of Thing Descriptions.
    """

    host: Annotated[str, _host]
    port: Annotated[int, _port] = 1883
    username: Annotated[str | None, _text] = None
    password: Annotated[str | None, _text] = field(default=None, repr=False)
    tls: Annotated[bool, _boolean] = False
    ca: Annotated[Path | None, _file] = None
    certificate: Annotated[Path | None, _file] = None
    key: Annotated[Path | None, _file] = None
    topics: Annotated[tuple[str, ...], _topics] = DESCRIPTION_TOPICS


class Aggregate(StrEnum):
    """The aggregate sent in place of many readings."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    LAST = "last"


class Level(StrEnum):
    """The least severe entries that are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRule:
    """A rule that reduces the readings sent to destinations. ``match``: a glob on ``device/property``.

    In the property ``%`` and ``/`` are percent-encoded. ``deadband``: smaller changes are not sent. ``every``: minimum
    seconds between readings. ``aggregate``: one value for all readings in ``window`` seconds; None: no aggregation.
    """

    match: Annotated[str, _text]
    deadband: Annotated[float, _number(0, 1e300)] = 0.0
    every: Annotated[float, _number(0, _LONGEST_SECONDS)] = 0.0
    aggregate: Annotated[Aggregate | None, partial(parse, Aggregate)] = None
    window: Annotated[float, _number(1, _LONGEST_SECONDS)] = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """Options for readings. ``reading_linger``: seconds for which an acknowledged reading may not yet be on disk.

    ``readings_mb``: limit of stored readings, besides the limit in days. ``volume``: the first matching rule applies.
    ``daily_mb``: limit sent in a day, None: unlimited.
    """

    reading_linger: Annotated[float, _number(0, 60)] = 1.0
    readings_mb: Annotated[int, _megabytes] = 500
    volume: Annotated[tuple[VolumeRule, ...], _volume_rules] = ()
    daily_mb: Annotated[float | None, _number(0.001, _MOST_MEGABYTES)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options. ``supervisor_token`` None: not run by a Supervisor.

    ``reserve_mb``: megabytes of disk reserved for urgent events. ``outbox_…_mb``: limit of waiting events, None: by
    free disk space. ``broker`` None: the Supervisor's if it has one, else no devices; ``topics`` apply to both.
    """

    data: Annotated[Path, _path]
    host: Annotated[str, _host] = "0.0.0.0"  # noqa: S104 - a Home Assistant elsewhere must reach it; the listener authenticates
    port: Annotated[int, _port] = PORT
    broker: BrokerOptions | None = None
    topics: tuple[str, ...] = DESCRIPTION_TOPICS
    log_level: Annotated[Level, partial(parse, Level)] = Level.INFO
    reserve_mb: Annotated[int, _megabytes] = 16
    outbox_urgent_mb: Annotated[int | None, _megabytes] = None
    outbox_change_mb: Annotated[int | None, _megabytes] = None
    outbox_reading_mb: Annotated[int | None, _megabytes] = None
    readings: ReadingOptions = field(default_factory=ReadingOptions)
    supervisor_token: str | None = field(default=None, repr=False)


def read_options(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Options:
    """Read the options of this process; raise ``OptionsError`` with every mistake, or ``StartError``.

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
        raise StartError(
            "The Supervisor provided options but no token. Restart the app, then the host.", "start_token_missing"
        )
    named = variables.pop("options", None)
    path = file or (Path(named) if named else None)
    return parse_options({**(_load_document(path, tomllib.loads) if path else {}), **variables})


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Return whether Kubernetes set this variable: a service ``process-cosmos`` gets a dozen with this prefix."""
    return bool(_KUBERNETES.search(name)) or (name.endswith("PORT") and bool(_KUBERNETES_PORT.match(value)))


def parse_options(given: Mapping[str, Any], *, supervisor_token: str | None = None) -> Options:
    """Convert keys and values to ``Options``; raise ``OptionsError`` with every mistake."""
    known = {*_readers(Options), *_readers(ReadingOptions), *(f"{_BROKER}{name}" for name in _readers(BrokerOptions))}
    mistakes = [f"{key}: unknown option" for key in given if key not in known]
    with _noting(mistakes, "mqtt_host"):
        given = split_broker_address(given)
    values, readings = _read(Options, given, mistakes), _read(ReadingOptions, given, mistakes)
    broker = _read(BrokerOptions, given, mistakes, _BROKER)
    if "data" not in given:
        mistakes.append("data: is missing (the folder for the gateway's data)")
    mistakes += _contradictions(given, tls=broker.get("tls"))
    if mistakes:
        raise OptionsError(tuple(mistakes))
    topics = {"topics": broker["topics"]} if "topics" in broker else {}
    return Options(
        broker=_broker(broker),
        readings=ReadingOptions(**readings),
        supervisor_token=supervisor_token,
        **topics,
        **values,
    )


def _readers(shape: type) -> Mapping[str, Reader]:
    hints = get_type_hints(shape, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if get_origin(hint) is Annotated}


def _read(shape: type, given: Mapping[str, Any], mistakes: list[str], prefix: str = "") -> dict[str, Any]:
    """Return the given values of the fields of ``shape``, with keys after ``prefix``; add a line for each mistake."""
    values = {}
    for name, read in _readers(shape).items():
        if (key := prefix + name) in given:
            with _noting(mistakes, key):
                values[name] = read(given[key])
    return values


@contextmanager
def _noting(mistakes: list[str], key: str) -> Iterator[None]:
    try:
        yield
    except OptionsError as error:
        mistakes += (f"{key}{mistake}" for mistake in error.mistakes)
    except (ContractError, ValueError) as error:
        mistakes.append(f"{key}: {error.reason if isinstance(error, ContractError) else error}")


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
    mistakes = _unmet(given, needs)
    if tls is False:
        mistakes += [
            f"{key}: requires mqtt_tls, which is false" for key in ("mqtt_ca", "mqtt_certificate") if key in given
        ]
    return mistakes


def _unmet(given: Mapping[str, Any], needs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{key}: requires {other}" for key, other in needs if key in given and other not in given]


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
