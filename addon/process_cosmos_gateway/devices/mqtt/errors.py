"""Why the broker cannot be spoken to: codes for programs, sentences for the log."""

import socket
import ssl

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
"""Waiting does not help."""

_LOGIN = frozenset({134, 135, 138, 140})
"""Bad user name or password, not authorized, banned, bad authentication method: also what paho makes of 3.1.1's."""

_BUSY = frozenset({136, 137, 151, 159})
"""Server unavailable or busy, quota or connection rate exceeded."""


class MqttError(Exception):
    """The broker is away or said no; the caller tries again later. The message holds no secret."""

    def __init__(self, code: str, message: str = "") -> None:
        """Take the stable code, and what else is known."""
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code


class UnreachableError(MqttError):
    """Nothing was sent to the broker."""


class NoAnswerError(MqttError):
    """The broker took a CONNECT and did not answer it as a broker of this version does."""


class DeniedError(MqttError):
    """The broker did not take a message."""


def unreachable(error: OSError) -> UnreachableError:
    """Return why no connection came about."""
    match error:
        case ssl.SSLCertVerificationError():
            code = CERTIFICATE
        case ssl.SSLError():
            code = TLS
        case socket.gaierror():
            code = NAME_UNKNOWN
        case TimeoutError():
            code = TIMEOUT
        case _:
            code = UNREACHABLE
    return UnreachableError(code, error.strerror or str(error) or type(error).__name__)


def refused(value: int, words: str) -> MqttError:
    """Return what a CONNACK with the reason code ``value`` means."""
    if value in _LOGIN:
        return MqttError(LOGIN_REFUSED, words)
    return MqttError(BUSY if value in _BUSY else REFUSED, words)
