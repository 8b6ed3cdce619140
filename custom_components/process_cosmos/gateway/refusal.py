"""Conversion of refusals by the gateway into errors of actions."""

from homeassistant.exceptions import HomeAssistantError, ServiceValidationError

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.errors import Code

from .client import GATEWAY_AWAY, GatewayError

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
