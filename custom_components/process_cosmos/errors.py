"""Errors that an action raises when the gateway refuses a request."""

from homeassistant.exceptions import HomeAssistantError, ServiceValidationError

from .const import DOMAIN
from .contract.errors import Code
from .gateway.client import GATEWAY_AWAY, GatewayError

CALLERS_MISTAKE = frozenset(
    {Code.INVALID_VALUE, Code.READ_ONLY, Code.UNKNOWN_DEVICE, Code.UNKNOWN_PROPERTY, Code.UNKNOWN_REJECTED}
)
TRANSLATED = CALLERS_MISTAKE | {GATEWAY_AWAY, Code.BROKER_AWAY, Code.WRITE_DENIED}
"""Codes with a translation; for other codes the gateway's message is shown."""


def refusal(error: GatewayError) -> HomeAssistantError:
    """Convert a gateway error into a Home Assistant error whose translation key is the stable code."""
    # Home Assistant logs this class without a stack trace: the caller is to blame, not the integration.
    kind = ServiceValidationError if error.code in CALLERS_MISTAKE else HomeAssistantError
    return kind(
        translation_domain=DOMAIN,
        translation_key=error.code if error.code in TRANSLATED else "request_refused",
        translation_placeholders={"code": error.code, "message": str(error)},
    )
