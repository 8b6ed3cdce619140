"""What ``paho_client`` uses of paho although it is not public: these tests fail when a newer paho changes it."""

from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

CONNECT, PUBLISH, PINGREQ = 0x10, 0x30, 0xC0
CONNACK = b"\x20\x02\0\0"


class Wire:
    """A socket in memory, which is connected at once."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.unread = CONNACK

    def recv(self, size: int) -> bytes:
        chunk, self.unread = self.unread[:size], self.unread[size:]
        return chunk

    def send(self, data: bytes) -> int:
        self.sent.append(data[0] & 0xF0)
        return len(data)

    def setblocking(self, _: bool) -> None:  # noqa: FBT001 - a socket's own signature
        return

    def close(self) -> None:
        return


class OnWire(Client):
    """paho's client on a ``Wire``."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(CallbackAPIVersion.VERSION2)
        self.wire = wire

    def _create_socket(self) -> Any:  # noqa: ANN401 - paho's own type is private
        return self.wire


@pytest.fixture
def client() -> OnWire:
    """Return a client that the broker has accepted."""
    connected = OnWire(Wire())
    connected.connect("unused", 1883, keepalive=60)
    connected.loop_read()
    assert connected.is_connected()
    return connected


def test_connecting_uses_the_socket_that_create_socket_returns(client: OnWire) -> None:
    assert client.wire.sent == [CONNECT]


def test_the_keep_alive_decides_when_a_ping_is_sent(client: OnWire, monkeypatch: pytest.MonkeyPatch) -> None:
    client._keepalive = 5
    assert client.keepalive == 5
    now = client._last_msg_out + 6
    monkeypatch.setattr("paho.mqtt.client.time_func", lambda: now)
    client.loop_misc()
    assert client.wire.sent[-1] == PINGREQ


def test_messages_beyond_the_most_in_flight_wait_in_the_client(client: OnWire) -> None:
    client._max_inflight_messages = 2
    assert client.max_inflight_messages == 2
    for _ in range(5):
        client.publish("topic", b"", qos=1)
    assert client.wire.sent.count(PUBLISH) == 2


def test_the_public_setters_still_refuse_an_open_connection(client: OnWire) -> None:
    """Once they do not, the private names can go."""
    with pytest.raises(RuntimeError):
        client.keepalive = 5
    with pytest.raises(RuntimeError):
        client.max_inflight_messages = 2
