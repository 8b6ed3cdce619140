"""Stable codes of all refusals on the wire."""

from enum import StrEnum


class Code(StrEnum):
    """Reason for a refusal; listed in ``docs/errors.md`` and never renamed."""

    # The session
    UNAUTHORIZED = "unauthorized"
    SCHEMA_TOO_OLD = "schema_too_old"
    SCHEMA_TOO_NEW = "schema_too_new"
    OTHER_HOME_ASSISTANT = "other_home_assistant"
    MALFORMED = "malformed"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    UNSUPPORTED = "unsupported"
    PAIRING_REFUSED = "pairing_refused"
    STORE_FAILED = "store_failed"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    # Answers and acknowledgements (the order in which they are checked)
    UNKNOWN_ALERT = "unknown_alert"
    NOT_OFFERED = "not_offered"
    NOT_ALLOWED = "not_allowed"
    ALREADY_ANSWERED = "already_answered"
    ANSWER_TOO_LATE = "answer_too_late"
    # Devices
    UNKNOWN_DEVICE = "unknown_device"
    UNKNOWN_PROPERTY = "unknown_property"
    READ_ONLY = "read_only"
    INVALID_VALUE = "invalid_value"
    BROKER_AWAY = "broker_away"
    DESCRIPTION_INVALID = "description_invalid"
    TOPIC_TAKEN = "topic_taken"
    TOO_MANY_DEVICES = "too_many_devices"
    WRITE_DENIED = "write_denied"
    # Destinations
    UNKNOWN_DESTINATION = "unknown_destination"
    URL_INVALID = "url_invalid"
    CODE_MALFORMED = "code_malformed"
    ENROLMENT_REFUSED = "enrolment_refused"
    IDENTITY_MISMATCH = "identity_mismatch"
    DESTINATION_AWAY = "destination_away"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_REVOKED = "certificate_revoked"
    CERTIFICATE_SUPERSEDED = "certificate_superseded"
    IDENTITY_CONFLICT = "identity_conflict"
    # The outbox
    ID_CONFLICT = "id_conflict"
    OUTBOX_FULL = "outbox_full"
    REFUSED_BY_DESTINATION = "refused_by_destination"
    POISON = "poison"
    UNKNOWN_REJECTED = "unknown_rejected"


class ContractError(Exception):
    """Error for data that violates the contract, with the ``path`` of the first mistake and the ``reason``."""

    def __init__(self, path: str, reason: str, code: Code = Code.MALFORMED) -> None:
        """Create the error from path and reason, so that a log line can omit the offending value."""
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.code = code


class UnknownTypeError(ContractError):
    """Error for a message of a type that this side does not know."""

    def __init__(self, tag: str) -> None:
        """Create the error for the type ``tag``."""
        super().__init__("$.type", f"is the unknown message type {tag[:64]!r}", Code.UNSUPPORTED)
