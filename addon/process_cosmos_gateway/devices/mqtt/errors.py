"""Reasons why there is no connection to the broker: codes for programs, sentences for the log."""

import socket
import ssl

from process_cosmos_gateway.errors import GatewayError

STARTING = "starting"
UNREACHABLE = "unreachable"
NAME_UNKNOWN = "name_unknown"
TIMEOUT = "timeout"
CERTIFICATE = "certificate"
TLS = "tls"
CONNECTION_LOST = "connection_lost"
HUNG_UP = "broker_hung_up"
SILENT = "broker_silent"
LOGIN_REFUSED = "login_refused"
REFUSED = "broker_refused"
BUSY = "broker_busy"
UNANSWERED = "subscription_unanswered"
DENIED = "broker_denied"
PROTOCOL_ERROR = "protocol_error"
TAKEN_OVER = "session_taken_over"
IDENTITY_CONFLICT = "identity_conflict"
STORE_FAILED = "store_failed"
CLOSED = "closed"

NEEDS_USER_ACTION = frozenset({CERTIFICATE, TLS, LOGIN_REFUSED, REFUSED})
"""Reasons that do not resolve by waiting."""

_LOGIN = frozenset({134, 135, 138, 140})
"""CONNACK: bad user name or password, not authorized, banned, bad authentication method.

paho maps the codes of MQTT 3.1.1 to these as well.
"""

_BUSY = frozenset({136, 137, 151, 159})
"""CONNACK: server unavailable or busy, quota or connection rate exceeded."""


class MqttError(GatewayError):
    """The broker cannot be reached, or refused a request; retry later. The message contains no secret."""

    def __init__(self, code: str, message: str = "") -> None:
        """Join the stable code and, if there is one, ``message``."""
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


class UnreachableError(MqttError):
    """No packet was sent to the broker."""


class NoAnswerError(MqttError):
    """The broker accepted the TCP connection, but did not answer CONNECT as its MQTT version requires."""


class DeniedError(MqttError):
    """The broker refused a published message."""


def unreachable(error: OSError) -> UnreachableError:
    """Return the error for a TCP or TLS connection that failed."""
    match error:
        # It is a subclass of SSLError, as all of these are of OSError: the most specific one comes first.
        case ssl.SSLCertVerificationError():
            code = CERTIFICATE
        # asyncio's own error, without a number of the system: the broker closed the connection in the TLS handshake.
        case ssl.SSLError() | ConnectionResetError(errno=None):
            code = TLS
        case socket.gaierror():
            code = NAME_UNKNOWN
        case TimeoutError():
            code = TIMEOUT
        case _:
            code = UNREACHABLE
    return UnreachableError(code, error.strerror or str(error) or type(error).__name__)


def refused(value: int, words: str) -> MqttError:
    """Return the error for a CONNACK with the reason code ``value``."""
    if value in _LOGIN:
        return MqttError(LOGIN_REFUSED, words)
    return MqttError(BUSY if value in _BUSY else REFUSED, words)
