"""Parsing of MQTT broker addresses as typed: a host, ``host:port``, ``[::1]:1883``, ``mqtts://host``."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

_TLS = {"mqtt": False, "tcp": False, "mqtts": True, "ssl": True, "tls": True}
"""Schemes accepted by other MQTT programs, and whether each means TLS."""

_WITH_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]+)(:(?P<port>\d{1,5}))?", re.ASCII)


def split_broker_address(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with ``mqtt_host`` as a bare host; other parts of its text become options of their own.

    An option that is also given separately must have the same value. Raises ``ValueError`` about ``mqtt_host``.
    """
    written = given.get("mqtt_host")
    if not isinstance(written, str):
        return dict(given)
    text = written.strip().strip("'\"").strip()
    found = _from_url(text) if "://" in text else _from_host(text)
    for key, value in found.items():
        if key != "mqtt_host" and key in given and str(given[key]).lower() != str(value).lower():
            raise ValueError(
                f"contains a {key.removeprefix('mqtt_')} that differs from {key}; set it in one place only"
            )
    return {**found, **given, "mqtt_host": found["mqtt_host"]}


def _from_host(text: str) -> dict[str, Any]:
    match = _WITH_PORT.fullmatch(text)
    if match is None:  # a bare IPv6 address, or invalid: the parser of hosts decides
        return {"mqtt_host": text}
    port = {"mqtt_port": int(match["port"])} if match["port"] else {}
    return {"mqtt_host": match["host"].strip("[]"), **port}


def _from_url(text: str) -> dict[str, Any]:
    parts = urlsplit(text)
    if parts.scheme not in _TLS:
        raise ValueError(f"must be a host, or begin with {', '.join(f'{name}://' for name in _TLS)}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must end after host and port")
    found = {"mqtt_host": parts.hostname or "", "mqtt_tls": _TLS[parts.scheme]}
    if parts.port is not None:
        found["mqtt_port"] = parts.port
    for key, value in (("mqtt_username", parts.username), ("mqtt_password", parts.password)):
        if value:
            found[key] = unquote(value)
    return found
