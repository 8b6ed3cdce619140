"""Actions for alerts: alert, acknowledge, answer, resolve."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import probatio as vol
from homeassistant.auth.permissions.const import POLICY_CONTROL
from homeassistant.core import Context, HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.start import async_at_started

from custom_components.process_cosmos.alerts.calls import AlertRequest
from custom_components.process_cosmos.alerts.decisions import AnswerRequest
from custom_components.process_cosmos.alerts.engine import Alerts
from custom_components.process_cosmos.alerts.errors import NO_GROUP, AlertRefusedError
from custom_components.process_cosmos.alerts.model import Alert
from custom_components.process_cosmos.alerts.notification_actions import listen_to_buttons
from custom_components.process_cosmos.const import DOMAIN, LOGGER
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.issues.call_mistakes import forget_problems_of_removed_callers, show_problems

from .alert_call import (
    POSITIVE_DURATION,
    AlertCall,
    Problem,
    ProblemCode,
    parse_alert_call,
    parse_answer_name,
    parse_text,
)
from .callers import CALLERS, Callers
from .rejected_events import async_setup_rejected
from .settings_transfer import async_setup_transfer
from .site_lookup import async_find_site, async_loaded_sites

ALERT: Final = "alert"
ACKNOWLEDGE: Final = "acknowledge"
ANSWER: Final = "answer"
RESOLVE: Final = "resolve"

# Neither is required: without them the call is about the group of the automation or script that calls.
_ALERT_OR_GROUP: dict[Any, Any] = {
    vol.Exclusive("alert", "which"): parse_text,
    vol.Exclusive("group", "which"): parse_text,
}

_ACKNOWLEDGE_SCHEMA = vol.Schema(
    {
        **_ALERT_OR_GROUP,
        vol.Optional("revision"): cv.positive_int,
        vol.Optional("for"): POSITIVE_DURATION,
    }
)

_ANSWER_ACTION_SCHEMA = vol.Schema(
    {
        vol.Required("alert"): parse_text,
        vol.Required("answer"): parse_answer_name,
        vol.Optional("revision"): cv.positive_int,
        vol.Optional("note"): parse_text,
    }
)

_RESOLVE_SCHEMA = vol.Schema({**_ALERT_OR_GROUP, vol.Optional("note"): parse_text})


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions for all sites."""
    hass.data[CALLERS] = Callers(hass)
    listen_to_buttons(hass, lambda context: _async_may_decide(hass, context))
    # Not earlier: an automation that is not loaded yet has no state, and would count as removed.
    async_at_started(hass, forget_problems_of_removed_callers)
    register = hass.services.async_register
    # Without a schema: a call that Home Assistant refuses because of a mistake would notify nobody.
    register(DOMAIN, ALERT, _async_alert, supports_response=SupportsResponse.OPTIONAL)
    register(DOMAIN, ACKNOWLEDGE, _async_decide, _ACKNOWLEDGE_SCHEMA)
    register(DOMAIN, ANSWER, _async_decide, _ANSWER_ACTION_SCHEMA)
    register(DOMAIN, RESOLVE, _async_resolve, _RESOLVE_SCHEMA)
    async_setup_rejected(hass)
    async_setup_transfer(hass)


async def _async_alert(call: ServiceCall) -> ServiceResponse:
    """Raise the alert first, then report mistakes of the call."""
    callers = call.hass.data[CALLERS]
    await callers.async_wait_until_announced(call.context)
    caller, user = callers.caller(call.context), call.context.user_id
    is_direct = callers.is_direct(call.context)
    trusted = not is_direct or await _async_is_admin(call)
    name = await _async_caller_name(call)
    alert = parse_alert_call(call.hass, call.data, caller=name, user=user, trusted=trusted, rendered=not is_direct)
    site, problems = await _async_select_site(call.hass, alert)
    try:
        raised = await site.async_raise_alert(
            AlertRequest(
                content=alert.content,
                group=alert.group or caller,
                given=alert.given,
                allowed=(lambda _: True) if trusted else await _async_may_decide(call.hass, call.context),
            )
        )
    finally:
        # Also if this raises: an alert that cannot be saved raises although people are notified.
        for code in sorted({problem.code for problem in problems}):
            LOGGER.warning(
                "%s: the alert of %s was raised, but the call has mistakes: see its response or Repairs",
                code,
                name,
            )
        if not is_direct:  # a person sees the response
            show_problems(
                call.hass,
                caller=caller or DOMAIN,
                name=name,
                run=call.context.id,
                group=alert.group or "",
                problems=problems,
            )
    if not call.return_response:
        return None
    return {**asdict(raised), "problems": [asdict(problem) for problem in problems]}


async def _async_select_site(hass: HomeAssistant, alert: AlertCall) -> tuple[Alerts, tuple[Problem, ...]]:
    """Return the site of the call, or the oldest one if that is unknown, and all problems of the call."""
    try:
        return await async_find_site(hass, alert.site), alert.problems
    except ServiceValidationError as error:
        if alert.site is None:
            raise
        problem = Problem(code=ProblemCode.UNKNOWN_SITE, message=f"site: {error}; the oldest site was used.")
        return await async_find_site(hass, None), (*alert.problems, problem)


async def _async_decide(call: ServiceCall) -> None:
    """Acknowledge or answer the alerts of the call."""
    found = await _async_find_alerts(call)
    if not found:
        raise AlertRefusedError(Code.UNKNOWN_ALERT, alert=_group(call))
    for site, alert in found:
        request = AnswerRequest(
            alert=alert,
            answer=call.data.get("answer"),
            by=await _async_caller_name(call),
            revision=call.data.get("revision"),
            note=call.data.get("note"),
            acknowledge_for=call.data.get("for"),
            allowed=await _async_may_decide(call.hass, call.context),
        )
        await site.async_answer(request)


async def _async_resolve(call: ServiceCall) -> None:
    for site, alert in await _async_find_alerts(call):  # the group may have no open alert
        await site.async_resolve(
            alert,
            by=await _async_caller_name(call),
            note=call.data.get("note"),
            allowed=await _async_may_decide(call.hass, call.context),
        )


async def _async_is_admin(call: ServiceCall) -> bool:
    user = await call.hass.auth.async_get_user(call.context.user_id) if call.context.user_id else None
    return user is not None and user.is_admin


async def _async_find_alerts(call: ServiceCall) -> list[tuple[Alerts, Ulid]]:
    """Return the alert that the call names, or the open alerts of its group, at most one per site."""
    await call.hass.data[CALLERS].async_wait_until_announced(call.context)
    sites = await async_loaded_sites(call.hass)
    if "alert" not in call.data:
        group = _group(call)
        return [(site, alive.id) for site in sites if (alive := site.alive_of(group))]
    alert = call.data["alert"]
    if found := [(site, Ulid(alert)) for site in sites if site.get(alert)]:
        return found[:1]
    raise AlertRefusedError(Code.UNKNOWN_ALERT, alert=alert)


def _group(call: ServiceCall) -> str:
    group: str | None = call.data.get("group") or call.hass.data[CALLERS].caller(call.context)
    if group is None:
        raise AlertRefusedError(NO_GROUP)
    return group


async def _async_caller_name(call: ServiceCall) -> str:
    """Return the display name of the caller: a user, an automation or a script."""
    if call.context.user_id and (user := await call.hass.auth.async_get_user(call.context.user_id)):
        return user.name or user.id
    caller = call.hass.data[CALLERS].caller(call.context)
    state = call.hass.states.get(caller) if caller else None
    return state.name if state else caller or "Home Assistant"


async def _async_may_decide(hass: HomeAssistant, context: Context) -> Callable[[Alert], bool]:
    """Return whether the caller may act on an alert: an automation may, a user who may control all its entities."""
    if context.user_id is None:
        return lambda _: True
    user = await hass.auth.async_get_user(context.user_id)
    if user is None:
        return lambda _: False
    check = user.permissions.check_entity
    return lambda alert: all(check(entity, POLICY_CONTROL) for entity in alert.content.entities)
