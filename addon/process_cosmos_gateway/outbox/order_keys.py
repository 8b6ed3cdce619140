"""Order keys: what of one kind never shares its order with another kind, whatever devices and programs call things.

An alert's key is its id. A device's is its id too, unless that looks like an alert's; others begin with ``#``, which no
MQTT topic contains, so no device's id.
"""

from process_cosmos_gateway.contract.identifiers import is_ulid

GAP_KEY = "#gap"
"""The key of events about the broker's session."""


def device_key(device: str) -> str:
    """Return the order key of a device's events."""
    return f"#device/{device}" if is_ulid(device) or device.startswith("#") else device


def program_key(subject: str) -> str:
    """Return the order key of the events local programs publish about ``subject``."""
    return f"#program/{subject}"
