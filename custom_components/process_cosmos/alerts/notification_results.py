"""Results of notifying one recipient."""

from dataclasses import dataclass
from enum import StrEnum

from homeassistant.helpers.translation import async_get_exception_message

from custom_components.process_cosmos.const import DOMAIN


class FailureCode(StrEnum):
    """Reason why a notification was not handed over, described in docs/errors.md; also its translation key."""

    PHONE_GONE = "phone_gone"
    PHONE_NOT_CONNECTED = "phone_not_connected"
    PUSH_UNREACHABLE = "push_unreachable"
    PUSH_REFUSED = "push_refused"
    PUSH_LIMITED = "push_limited"
    ENTITY_GONE = "entity_gone"
    ENTITY_UNAVAILABLE = "entity_unavailable"
    NOTIFY_FAILED = "notify_failed"


GONE = frozenset({FailureCode.PHONE_GONE, FailureCode.ENTITY_GONE})


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationResult:
    """Outcome of one notification: handed over to the push service or notify action (``code`` None), or failed.

    *Handed over* does not mean received: only an answer proves that a person saw it.
    """

    code: FailureCode | None = None
    sentence: str = ""

    @property
    def handed_over(self) -> bool:
        """Whether the recipient counts as reached."""
        return self.code is None


HANDED_OVER = NotificationResult()


def failed(code: FailureCode, reason: str = "") -> NotificationResult:
    """Return a failure with ``code`` and its translated sentence, which may contain ``reason``."""
    return NotificationResult(code=code, sentence=async_get_exception_message(DOMAIN, code, {"reason": reason}))
