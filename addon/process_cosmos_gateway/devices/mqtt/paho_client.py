"""A paho client for one connection, on a socket that is already open and within the broker's limits."""

import time
from typing import Any, override

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .packets import MAX_PACKET, PacketSocket

RECEIVE_MAXIMUM = 1000
"""How many messages the broker may send before one of them is acknowledged."""

SESSION_SECONDS = 7 * 24 * 3600
"""Seconds for which the broker keeps the session, and its messages, without a connection."""

KEEPALIVE = 15
"""Seconds without a packet after which a PINGREQ is sent."""


class PahoClient(Client):
    """paho's client, except that connecting does not block, and that the limits of a CONNACK are applied."""

    def __init__(self, sock: PacketSocket, version: MQTTProtocolVersion, client_id: str, *, keep_session: bool) -> None:
        """Use ``version`` on ``sock``; ``keep_session``: the broker keeps messages between connections."""
        self.packets = sock
        self._keep_session = keep_session
        self.disconnect_reason = 0
        # paho refuses `clean_session` with MQTT 5, where `connect` takes `clean_start` instead.
        settings: dict[str, Any] = {} if version is MQTTProtocolVersion.MQTTv5 else {"clean_session": not keep_session}
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            # Otherwise paho acknowledges when `on_message` returns, before the commit. Only up to QoS 1: with QoS 2
            # `manual_ack` loses messages in paho 2.1.
            manual_ack=True,
            reconnect_on_failure=False,
            **settings,
        )

    @property
    def speaks_mqtt_5(self) -> bool:
        """Whether the version is MQTT 5, not 3.1.1."""
        return self.protocol is MQTTProtocolVersion.MQTTv5

    def begin(self, host: str, port: int) -> None:
        """Send CONNECT; with MQTT 5 it announces our limits and the session expiry."""
        if not self.speaks_mqtt_5:
            self.connect(host, port, KEEPALIVE)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no types here
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET
        properties.SessionExpiryInterval = SESSION_SECONDS if self._keep_session else 0
        self.connect(host, port, KEEPALIVE, clean_start=not self._keep_session, properties=properties)

    def seconds_until_ping(self) -> float:
        """Return the seconds until ``loop_misc`` sends a PINGREQ, or gives up on the answer to one."""
        return max(0.0, min(self._last_msg_out, self._last_msg_in) + self._keepalive - time.monotonic())

    def apply_connack_limits(self, properties: Properties) -> int:
        """Apply keep-alive and receive maximum of a CONNACK; return the broker's highest QoS."""
        # paho has no API to change either on an open connection, and a broker ends a connection that ignores them.
        self._keepalive = min(KEEPALIVE, getattr(properties, "ServerKeepAlive", KEEPALIVE) or KEEPALIVE)
        in_flight = self._max_inflight_messages
        self._max_inflight_messages = min(in_flight, getattr(properties, "ReceiveMaximum", in_flight))
        return int(getattr(properties, "MaximumQoS", 1))

    @override
    def _create_socket(self) -> PacketSocket:
        return self.packets

    @override
    def _handle_disconnect(self) -> None:
        # paho reads the reason code only if properties follow it.
        self.disconnect_reason = int(self._in_packet["packet"][0]) if self._in_packet["packet"] else 0
        super()._handle_disconnect()
