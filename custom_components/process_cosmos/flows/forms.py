"""Form schemas of the flows, and the mapping of refusals to errors on their fields."""

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
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
from yarl import URL

from custom_components.process_cosmos.const import (
    CONF_AT_ONCE,
    CONF_BUDGET,
    CONF_NOTIFY_ENTITIES,
    CONF_PERSISTENT,
    CONF_PHONES,
    CONF_STEADY,
    DEFAULT_BUDGET,
    DOMAIN,
)
from custom_components.process_cosmos.contract.destinations import (
    ChangeDestination,
    DestinationKind,
    EventKind,
    SetCloud,
    SetWebhook,
)
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.urls import encode_url
from custom_components.process_cosmos.gateway.client import CANNOT_CONNECT, GATEWAY_AWAY, GatewayError
from custom_components.process_cosmos.texts import shortened

from .app_installation import NOT_INSTALLED, NOT_STARTED, SILENT
from .pairing_line import LineProblem, PastedLineError, read_code

CONF_LINE: Final = "line"
CONF_CODE: Final = "code"
CONF_HEADER: Final = "header"
CONF_HEADER_VALUE: Final = "header_value"
CONF_KINDS: Final = "kinds"
CONF_LABEL: Final = "label"
CONF_NAME: Final = "name"
CONF_NO_HEADER: Final = "no_header"
CONF_TEST_NOTIFICATION: Final = "test_notification"
CONF_CRITICAL: Final = "critical"
CONF_INSTALL_BLUEPRINTS: Final = "install_blueprints"
CONF_WITHOUT_APP: Final = "without_app"

LABEL_TAKEN: Final = "label_taken"
URL_ENCODED: Final = "url_encoded"
_LONGEST_LABEL = 64

_SECRET = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD, autocomplete="off"))
_KINDS: Mapping[vol.Marker, SelectSelector] = {
    vol.Required(CONF_KINDS, default=[EventKind.ALERT]): SelectSelector(
        SelectSelectorConfig(options=[*EventKind], multiple=True, translation_key="kinds")
    )
}

PAIRING = vol.Schema({vol.Required(CONF_LINE): TextSelector(TextSelectorConfig(autocomplete="off"))})

APP_FAILED = vol.Schema({vol.Required(CONF_WITHOUT_APP, default=False): BooleanSelector()})

_URL = TextSelector(TextSelectorConfig(type=TextSelectorType.URL))
_HEADER: Mapping[vol.Marker, TextSelector] = {
    vol.Optional(CONF_HEADER): TextSelector(),
    vol.Optional(CONF_HEADER_VALUE): _SECRET,
}
_LABEL: Mapping[vol.Marker, TextSelector] = {vol.Optional(CONF_LABEL): TextSelector()}

DESTINATIONS: Mapping[str, vol.Schema] = {
    DestinationKind.WEBHOOK: vol.Schema({vol.Required(CONF_URL): _URL, **_LABEL, **_HEADER, **_KINDS}),
    DestinationKind.CLOUD: vol.Schema({vol.Required(CONF_CODE): TextSelector(), **_LABEL, **_KINDS}),
}

CHANGES: Mapping[str, vol.Schema] = {
    DestinationKind.WEBHOOK: vol.Schema(
        {
            **_LABEL,
            vol.Optional(CONF_URL): _URL,
            **_HEADER,
            vol.Required(CONF_NO_HEADER, default=False): BooleanSelector(),
            **_KINDS,
        }
    ),
    DestinationKind.CLOUD: vol.Schema({**_LABEL, vol.Optional(CONF_CODE): TextSelector(), **_KINDS}),
}
"""Forms that change a destination. An empty field changes nothing, because the app does not reveal secrets."""

REACHED_BY: Final = (CONF_URL, CONF_HEADER, CONF_HEADER_VALUE, CONF_NO_HEADER)
"""Fields that change how a destination is reached, so that it has to be tested again."""

TEST_NOTIFICATION = vol.Schema({vol.Required(CONF_CRITICAL, default=False): BooleanSelector()})

REACTIONS = vol.Schema(
    {
        vol.Optional(CONF_AT_ONCE, default=[]): EntitySelector(
            EntitySelectorConfig(multiple=True, filter={"integration": DOMAIN, "domain": ["sensor", "number"]})
        ),
        vol.Required(CONF_BUDGET, default=DEFAULT_BUDGET): vol.All(
            NumberSelector(
                NumberSelectorConfig(min=1, max=10_000, unit_of_measurement="ms", mode=NumberSelectorMode.BOX)
            ),
            vol.Coerce(int),
        ),
        vol.Required(CONF_STEADY, default=False): BooleanSelector(),
    }
)

FINISH = vol.Schema(
    {
        vol.Required(CONF_TEST_NOTIFICATION, default=True): BooleanSelector(),
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
        Code.MALFORMED,
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


def recipients_schema(unusable: Collection[str]) -> vol.Schema:
    """Return the form that asks for recipients. ``unusable``: notify entities that are not offered."""
    entities = EntitySelectorConfig(multiple=True, filter={"domain": NOTIFY_DOMAIN}, exclude_entities=[*unusable])
    return vol.Schema(
        {
            vol.Optional(CONF_PHONES, default=[]): DeviceSelector(
                DeviceSelectorConfig(multiple=True, filter={"integration": "mobile_app"})
            ),
            vol.Optional(CONF_NOTIFY_ENTITIES, default=[]): EntitySelector(entities),
            vol.Required(CONF_PERSISTENT, default=False): BooleanSelector(),
        }
    )


def destination_choice_schema(options: Mapping[str, str]) -> vol.Schema:
    """Return the form that asks for a destination. ``options``: label by name."""
    shown = [SelectOptionDict(value=name, label=text) for name, text in options.items()]
    config = SelectSelectorConfig(options=shown, mode=SelectSelectorMode.LIST)
    return vol.Schema({vol.Required(CONF_NAME): SelectSelector(config)})


def has_recipient(answer: Mapping[str, Any]) -> bool:
    """Return whether ``answer`` selects at least one recipient."""
    return bool(answer[CONF_PHONES] or answer[CONF_NOTIFY_ENTITIES] or answer[CONF_PERSISTENT])


def encode_url_field(answer: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Percent-encode the address in ``answer``; if it changed, also return an error that asks to check it."""
    if not answer.get(CONF_URL):
        return answer, {}
    url, count = encode_url(answer[CONF_URL].strip())
    return {**answer, CONF_URL: url}, {CONF_URL: URL_ENCODED} if count else {}


def choose_name(kind: str, taken: Collection[str]) -> str:
    """Return a free name for a destination: its kind, with a number from the second on."""
    return _numbered(kind, "_", taken)


def choose_label(kind: str, answer: Mapping[str, Any], taken: Collection[str]) -> str:
    """Return the label typed into a form, or else the host name, with a number if that is in use."""
    if typed := shortened(answer.get(CONF_LABEL, "").strip(), _LONGEST_LABEL):
        return typed
    address = read_code(answer[CONF_CODE]).url if kind == DestinationKind.CLOUD else answer[CONF_URL]
    try:
        host = URL(address).host
    except ValueError:  # the gateway reports what is wrong
        host = None
    return _numbered(host or kind, " ", taken)


def _numbered(text: str, before: str, taken: Collection[str]) -> str:
    # One name more than are taken, so one of them is free.
    names = (text, *(f"{text}{before}{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def destination_request(kind: str, answer: Mapping[str, Any], name: str, label: str | None) -> SetWebhook | SetCloud:
    """Build the request from a filled form; raise ``PastedLineError`` if the one-time code is malformed."""
    if kind == DestinationKind.CLOUD:
        code = str(read_code(answer[CONF_CODE]))
        return SetCloud(name=name, code=code, kinds=_kinds(answer), label=label)
    return SetWebhook(
        name=name,
        url=answer[CONF_URL],
        header=answer.get(CONF_HEADER),
        header_value=answer.get(CONF_HEADER_VALUE),
        kinds=_kinds(answer),
        label=label,
    )


def change_request(kind: str, answer: Mapping[str, Any], name: str) -> ChangeDestination | SetWebhook | SetCloud:
    """Build the request from a filled form of ``CHANGES``; raise ``PastedLineError`` like ``destination_request``."""
    label = shortened(answer.get(CONF_LABEL, "").strip(), _LONGEST_LABEL)
    if kind == DestinationKind.CLOUD and answer.get(CONF_CODE):
        return destination_request(kind, answer, name, label or None)
    return ChangeDestination(
        name=name,
        label=label,
        url=answer.get(CONF_URL) or None,
        # An empty text removes the header, None leaves it unchanged: the app does not reveal it to the form.
        header="" if answer.get(CONF_NO_HEADER) else answer.get(CONF_HEADER) or None,
        header_value=answer.get(CONF_HEADER_VALUE) or None,
        kinds=_kinds(answer),
    )


def _kinds(answer: Mapping[str, Any]) -> tuple[EventKind, ...]:
    return tuple(EventKind(kind) for kind in answer[CONF_KINDS]) or (EventKind.ALERT,)


async def try_request[T](form: str, action: Callable[[], Awaitable[T]]) -> tuple[T | None, dict[str, str]]:
    """Return the result of ``action``, or None and the errors to show in ``form``, by field."""
    try:
        return await action(), {}
    except (GatewayError, PastedLineError) as error:
        return None, form_errors(form, error.code)


def form_errors(form: str, code: str) -> dict[str, str]:
    """Return ``code`` as an error on its field in ``form``; a code without a translation becomes ``unknown``."""
    field = next((field for field, codes in _FIELDS.get(form, {}).items() if code in codes), "base")
    return {field: code if code in _SHOWN else "unknown"}
