"""The forms of the flows, and how a refusal becomes an error on the right field."""

import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final

import probatio as vol
from homeassistant.components.notify import DOMAIN as NOTIFY_DOMAIN
from homeassistant.const import CONF_URL
from homeassistant.helpers.selector import (
    BooleanSelector,
    DeviceSelector,
    DeviceSelectorConfig,
    EntitySelector,
    EntitySelectorConfig,
    SelectSelector,
    SelectSelectorConfig,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)

from .client import CANNOT_CONNECT, GATEWAY_AWAY, GatewayError
from .const import CONF_NOTIFY_ENTITIES, CONF_PHONES
from .contract.destinations import DestinationKind, EventKind, SetCloud, SetWebhook
from .contract.errors import Code
from .flow_app import NOT_INSTALLED, NOT_STARTED, SILENT
from .flow_line import LineProblem, PastedLineError, read_code

CONF_LINE: Final = "line"
CONF_CODE: Final = "code"
CONF_HEADER: Final = "header"
CONF_HEADER_VALUE: Final = "header_value"
CONF_KINDS: Final = "kinds"
CONF_NAME: Final = "name"
CONF_TEST_RING: Final = "test_ring"
CONF_CRITICAL: Final = "critical"
CONF_INSTALL_BLUEPRINTS: Final = "install_blueprints"
CONF_WITHOUT_APP: Final = "without_app"

_SECRET = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="off"))
_KINDS: Mapping[vol.Marker, SelectSelector] = {
    vol.Required(CONF_KINDS, default=[EventKind.ESCALATION]): SelectSelector(
        SelectSelectorConfig(options=[*EventKind], multiple=True, translation_key="kinds")
    )
}

PAIRING = vol.Schema({vol.Required(CONF_LINE): TextSelector(TextSelectorConfig(autocomplete="off"))})

APP_FAILED = vol.Schema({vol.Required(CONF_WITHOUT_APP, default=False): BooleanSelector()})

WHO = vol.Schema(
    {
        vol.Optional(CONF_PHONES, default=[]): DeviceSelector(
            DeviceSelectorConfig(multiple=True, filter={"integration": "mobile_app"})
        ),
        vol.Optional(CONF_NOTIFY_ENTITIES, default=[]): EntitySelector(
            EntitySelectorConfig(multiple=True, filter={"domain": NOTIFY_DOMAIN})
        ),
    }
)

DESTINATIONS: Mapping[str, vol.Schema] = {
    DestinationKind.WEBHOOK: vol.Schema(
        {
            vol.Required(CONF_URL): TextSelector(TextSelectorConfig(type=TextSelectorType.URL)),
            vol.Optional(CONF_HEADER): TextSelector(),
            vol.Optional(CONF_HEADER_VALUE): _SECRET,
            **_KINDS,
        }
    ),
    DestinationKind.CLOUD: vol.Schema({vol.Required(CONF_CODE): TextSelector(), **_KINDS}),
}

TEST_RING = vol.Schema({vol.Required(CONF_CRITICAL, default=False): BooleanSelector()})

FINISH = vol.Schema(
    {
        vol.Required(CONF_TEST_RING, default=True): BooleanSelector(),
        vol.Required(CONF_INSTALL_BLUEPRINTS, default=True): BooleanSelector(),
    }
)

_SHOWN = frozenset(
    {
        CANNOT_CONNECT,
        GATEWAY_AWAY,
        Code.CODE_MALFORMED,
        Code.DESTINATION_AWAY,
        Code.ENROLMENT_REFUSED,
        Code.IDENTITY_MISMATCH,
        Code.OTHER_HOME_ASSISTANT,
        Code.PAIRING_REFUSED,
        Code.SCHEMA_TOO_NEW,
        Code.SCHEMA_TOO_OLD,
        Code.STORE_FAILED,
        Code.UNAUTHORIZED,
        Code.URL_INVALID,
        NOT_INSTALLED,
        NOT_STARTED,
        SILENT,
        *LineProblem,
    }
)
_FIELDS: Mapping[str, Mapping[str, Collection[str]]] = {
    CONF_LINE: {CONF_LINE: _SHOWN},
    DestinationKind.WEBHOOK: {CONF_URL: {Code.URL_INVALID, Code.DESTINATION_AWAY, Code.IDENTITY_MISMATCH}},
    DestinationKind.CLOUD: {
        CONF_CODE: {
            Code.CODE_MALFORMED,
            Code.ENROLMENT_REFUSED,
            Code.IDENTITY_MISMATCH,
            Code.DESTINATION_AWAY,
            Code.URL_INVALID,
            *LineProblem,
        }
    },
}


def removal(names: Collection[str]) -> vol.Schema:
    """Return the form that asks which destination to remove."""
    return vol.Schema({vol.Required(CONF_NAME): SelectSelector(SelectSelectorConfig(options=[*names]))})


def somebody(answer: Mapping[str, Any]) -> bool:
    """Whether anybody at the site would be told."""
    return bool(answer[CONF_PHONES] or answer[CONF_NOTIFY_ENTITIES])


def free_name(kind: str, taken: Collection[str]) -> str:
    """Return the name of a new destination: its kind, and a number from the second on."""
    names = (kind, *(f"{kind}_{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def destination(kind: str, answer: Mapping[str, Any], taken: Collection[str]) -> SetWebhook | SetCloud:
    """Return the request a filled form stands for; raise ``PastedLineError`` if the one-time code is none."""
    name, request_id = free_name(kind, taken), uuid.uuid4().hex
    kinds = tuple(EventKind(kind) for kind in answer[CONF_KINDS]) or (EventKind.ESCALATION,)
    if kind == DestinationKind.CLOUD:
        return SetCloud(id=request_id, name=name, code=str(read_code(answer[CONF_CODE])), kinds=kinds)
    return SetWebhook(
        id=request_id,
        name=name,
        url=answer[CONF_URL],
        header=answer.get(CONF_HEADER),
        header_value=answer.get(CONF_HEADER_VALUE),
        kinds=kinds,
    )


async def attempt[T](form: str, action: Callable[[], Awaitable[T]]) -> tuple[T | None, dict[str, str]]:
    """Return what ``action`` gave, or the errors to show in ``form``: a stable code on the field it is about."""
    try:
        return await action(), {}
    except (GatewayError, PastedLineError) as error:
        return None, errors_of(form, error.code)


def errors_of(form: str, code: str) -> dict[str, str]:
    """Return the errors that show ``code`` in ``form``; one without a sentence of its own is ``unknown``."""
    field = next((field for field, codes in _FIELDS.get(form, {}).items() if code in codes), "base")
    return {field: code if code in _SHOWN else "unknown"}
