"""Order keys: alerts, devices and local programs never share a key, whatever names devices and programs choose.

An alert's key is its id. A device's key is its id too, unless that is a ULID or begins with ``#``. All other keys begin
with ``#``, which an MQTT topic name cannot contain.
"""

from process_cosmos_gateway.contract.identifiers import is_ulid

GAP_KEY = "#gap"
"""The key of events about the MQTT session with the broker."""


def device_key(device: str) -> str:
    """Return the order key of a device's events."""
    return f"#device/{device}" if is_ulid(device) or device.startswith("#") else device


def program_key(subject: str) -> str:
    """Return the order key of events that local programs publish with this ``subject``."""
    return f"#program/{subject}"
