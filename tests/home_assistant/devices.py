"""Devices of the gateway in the tests."""

from custom_components.process_cosmos.contract.devices import (
    Device,
    DeviceEventDescription,
    Hint,
    Property,
    PropertyKind,
)

LEAK = Device(
    id="leak-1",
    title="Kitchen leak",
    manufacturer="Acme",
    model="L1",
    firmware="2.1",
    online=True,
    properties=(
        Property(name="wet", title="Wet", kind=PropertyKind.BOOLEAN, hint=Hint.MOISTURE, value=False),
        Property(name="tamper", title="Tamper", kind=PropertyKind.BOOLEAN),
        Property(name="battery", title="Battery", kind=PropertyKind.NUMBER, hint=Hint.BATTERY, unit="%", value=81),
    ),
    events=(DeviceEventDescription(name="button", title="Button"),),
)
VALVE = Device(
    id="valve-1",
    title="Main valve",
    online=True,
    properties=(
        Property(name="open", title="Water", kind=PropertyKind.BOOLEAN, hint=Hint.VALVE, writable=True, value=True),
        Property(name="siren", title="Siren", kind=PropertyKind.BOOLEAN, writable=True, value=False),
    ),
)
ROOM = Device(
    id="room-1",
    title="Cellar",
    properties=(
        Property(
            name="temperature",
            title="Temperature",
            kind=PropertyKind.NUMBER,
            hint=Hint.TEMPERATURE,
            unit="°C",
            value=12.5,
        ),
        Property(name="humidity", title="Humidity", kind=PropertyKind.NUMBER, hint=Hint.HUMIDITY, unit="%", value=60),
        Property(name="odd", title="Odd", kind=PropertyKind.NUMBER, hint=Hint.TEMPERATURE, unit="furlong", value=3),
        Property(name="state", title="State", kind=PropertyKind.TEXT, value="x" * 300),
        Property(
            name="target",
            title="Target",
            kind=PropertyKind.NUMBER,
            writable=True,
            unit="°C",
            minimum=5,
            maximum=30,
            value=20,
        ),
        Property(name="free", title="Free", kind=PropertyKind.NUMBER, writable=True),
    ),
)
HOUSE = (LEAK, VALVE, ROOM)
