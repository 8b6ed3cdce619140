"""A paho client for one connection that is already open. The only module with private names of paho; it uses three."""

import time
from typing import Any, override

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .packets import MAX_PACKET, PacketStream

RECEIVE_MAXIMUM = 1000
"""How many messages the broker may send before one of them is acknowledged."""

SESSION_SECONDS = 7 * 24 * 3600
"""Seconds for which the broker keeps the session, and its messages, without a connection."""

KEEPALIVE = 15
"""Seconds without a packet after which a PINGREQ is sent."""


class PahoClient(Client):
    """paho's client, except that it uses an open stream, and applies the limits of a CONNACK."""

    def __init__(self, stream: PacketStream, version: MQTTProtocolVersion, client_id: str, *, keep: bool) -> None:
        """Use ``version`` on ``stream``; ``keep``: the broker keeps the session and its messages."""
        self._stream = stream
        self._keep = keep
        self.speaks_mqtt_5 = version is MQTTProtocolVersion.MQTTv5
        # paho refuses `clean_session` with MQTT 5, where `connect` takes `clean_start` instead.
        settings: dict[str, Any] = {} if self.speaks_mqtt_5 else {"clean_session": not keep}
        # Without `manual_ack` paho acknowledges when `on_message` returns, before the commit. Only up to QoS 1: with
        # QoS 2 it loses messages in paho 2.1.
        settings |= {"protocol": version, "manual_ack": True, "reconnect_on_failure": False}
        super().__init__(CallbackAPIVersion.VERSION2, client_id=client_id, **settings)

    def begin(self, host: str, port: int) -> None:
        """Send CONNECT; with MQTT 5 it announces our limits and the session expiry."""
        if not self.speaks_mqtt_5:
            self.connect(host, port, KEEPALIVE)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no types here
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET
        properties.SessionExpiryInterval = SESSION_SECONDS if self._keep else 0
        self.connect(host, port, KEEPALIVE, clean_start=not self._keep, properties=properties)

    def seconds_until_ping(self) -> float:
        """Return the seconds until ``loop_misc`` sends a PINGREQ, or gives up on the answer to one."""
        return max(0.0, min(self._last_msg_out, self._last_msg_in) + self._keepalive - time.monotonic())

    def apply_connack_limits(self, properties: Properties) -> int:
        """Apply keep-alive and receive maximum of a CONNACK; return the broker's highest QoS."""
        # The public setters refuse an open connection, and a broker ends a connection that ignores its limits.
        self._keepalive = min(KEEPALIVE, getattr(properties, "ServerKeepAlive", KEEPALIVE) or KEEPALIVE)
        in_flight = self._max_inflight_messages
        self._max_inflight_messages = min(in_flight, getattr(properties, "ReceiveMaximum", in_flight))
        return int(getattr(properties, "MaximumQoS", 1))

    @override
    def _create_socket(self) -> Any:  # paho's own one blocks until it is connected, and bounds no packet
        return self._stream
