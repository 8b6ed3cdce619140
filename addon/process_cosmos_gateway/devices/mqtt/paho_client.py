"""paho's client for one connection: on a socket that is open already, within what the broker allows."""

from typing import Any, override

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from .packets import MAX_PACKET, PacketSocket

RECEIVE_MAXIMUM = 1000
"""How many unacknowledged messages the broker may send."""

SESSION_SECONDS = 7 * 24 * 3600
"""For how long the broker keeps messages for us while we are away."""

KEEPALIVE = 15
"""Seconds without a packet after which either side is properties whether it is there."""


class PahoClient(Client):
    """paho's own way to connect would block the event loop, and what a CONNACK asks for it does not read."""

    def __init__(self, sock: PacketSocket, version: MQTTProtocolVersion, client_id: str, *, keep_session: bool) -> None:
        """Speak ``version`` on ``sock``; ``keep_session``: the broker keeps messages while we are away."""
        self.packets = sock
        self._keep_session = keep_session
        self.disconnect_reason = 0
        settings: dict[str, Any] = {} if version is MQTTProtocolVersion.MQTTv5 else {"clean_session": not keep_session}
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            manual_ack=True,
            reconnect_on_failure=False,
            **settings,
        )

    @property
    def speaks_mqtt_5(self) -> bool:
        """Whether it is MQTT 5, not 3.1.1."""
        return self.protocol is MQTTProtocolVersion.MQTTv5

    def begin(self, host: str, port: int) -> None:
        """Connect, and announce the limits and the session that MQTT 5 lets a client ask for."""
        if not self.speaks_mqtt_5:
            self.connect(host, port, KEEPALIVE)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no types here
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.MaximumPacketSize = MAX_PACKET
        properties.SessionExpiryInterval = SESSION_SECONDS if self._keep_session else 0
        self.connect(host, port, KEEPALIVE, clean_start=not self._keep_session, properties=properties)

    def apply_connack_limits(self, properties: Properties) -> int:
        """Do what a CONNACK asks for: keep-alive, messages in flight; return the highest QoS the broker takes."""
        # paho offers no way to change either on an open connection, and without it the broker ends the connection.
        self._keepalive = min(KEEPALIVE, getattr(properties, "ServerKeepAlive", KEEPALIVE) or KEEPALIVE)
        in_flight = self._max_inflight_messages
        self._max_inflight_messages = min(in_flight, getattr(properties, "ReceiveMaximum", in_flight))
        return int(getattr(properties, "MaximumQoS", 1))

    @override
    def _create_socket(self) -> PacketSocket:
        return self.packets

    @override
    def _handle_disconnect(self) -> None:
        # paho reads the reason only when properties follow it.
        self.disconnect_reason = int(self._in_packet["packet"][0]) if self._in_packet["packet"] else 0
        super()._handle_disconnect()
