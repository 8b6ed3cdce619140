"""The actions about escalations: escalate, acknowledge, answer, resolve."""

import copy
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Final

import voluptuous as vol
from homeassistant.auth.permissions.const import POLICY_CONTROL
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import Context, HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse, callback
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.json import json_dumps
from homeassistant.util import dt as dt_util

from .buttons import listen_to_buttons
from .callers import CALLERS, Callers
from .const import DOMAIN
from .contract.codec import MAX_TEXT
from .contract.errors import Code
from .contract.escalations import Attached, Severity
from .contract.identifiers import Ulid
from .escalations.decisions import Attempt
from .escalations.engine import EscalateCall, Escalations
from .escalations.errors import NO_GROUP, EscalationRefusedError
from .escalations.model import MAX_ENTITIES, Escalation
from .escalations.policy import DEFAULT_POLICY, GIVE_UP_AFTER
from .escalations.records import Answer, Content, IfInterrupted
from .rejected import async_setup_rejected
from .sites import async_site_called, async_sites
from .texts import shortened
from .transfer import async_setup_transfer

ESCALATE: Final = "escalate"
ACKNOWLEDGE: Final = "acknowledge"
ANSWER: Final = "answer"
RESOLVE: Final = "resolve"

MAX_MESSAGE = 4096
MAX_NAME = 64
MAX_ANSWERS = 10

_POSITIVE = vol.All(cv.positive_time_period, vol.Range(min=timedelta(seconds=1), max=timedelta(days=366)))
_TEXT = vol.All(cv.string, vol.Length(min=1, max=MAX_MESSAGE))
_MESSAGE = vol.All(cv.string, vol.Length(min=1), lambda text: shortened(text, MAX_MESSAGE))
_NAME = vol.All(cv.string, vol.Length(min=1, max=MAX_NAME))


def _unchanged_actions(value: object) -> object:
    """Check a script sequence but keep it as it came: it goes to disk, and is checked again when it runs.

    Its templates were rendered before, when the automation or script called; those of a direct call when it runs.
    """
    cv.SCRIPT_SCHEMA(copy.deepcopy(value))
    return cv.ensure_list(value)


def _unique_names(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = [answer["name"] for answer in answers]
    if len(names) != len(set(names)):
        raise vol.Invalid("two answers have the same name")
    return answers


_ANSWER_SCHEMA = vol.Schema(
    {
        vol.Required("name"): _NAME,
        vol.Optional("actions", default=list): _unchanged_actions,
        vol.Optional("if_interrupted", default=IfInterrupted.SKIP.value): vol.Coerce(IfInterrupted),
    }
)

_ESCALATE_SCHEMA = vol.Schema(
    {
        vol.Required("message"): _MESSAGE,
        vol.Optional("severity", default=Severity.WARNING.value): vol.Coerce(Severity),
        vol.Optional("entities", default=list): vol.All(cv.entity_ids, vol.Length(max=MAX_ENTITIES)),
        vol.Optional("policy", default=DEFAULT_POLICY): cv.string,
        vol.Optional("answers", default=list): vol.All(
            cv.ensure_list, [_ANSWER_SCHEMA], vol.Length(max=MAX_ANSWERS), _unique_names
        ),
        vol.Optional("if_unanswered"): cv.string,
        vol.Optional("give_up_after", default=GIVE_UP_AFTER): _POSITIVE,
        vol.Optional("group"): _TEXT,
        vol.Optional("data"): dict,
        vol.Optional("attach", default=list): vol.All(cv.entity_ids, vol.Length(max=MAX_ENTITIES)),
        vol.Optional("site"): cv.string,
    }
)

_ESCALATION: dict[Any, Any] = {
    vol.Exclusive("escalation", "which"): cv.string,
    vol.Exclusive("group", "which"): cv.string,
}

_ACKNOWLEDGE_SCHEMA = vol.Schema(
    {
        **_ESCALATION,
        vol.Optional("ring"): cv.positive_int,
        vol.Optional("for"): _POSITIVE,
    }
)

_ANSWER_ACTION_SCHEMA = vol.Schema(
    {
        vol.Required("escalation"): cv.string,
        vol.Required("answer"): cv.string,
        vol.Optional("ring"): cv.positive_int,
        vol.Optional("note"): _TEXT,
    }
)

_RESOLVE_SCHEMA = vol.Schema({**_ESCALATION, vol.Optional("note"): _TEXT})


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions, for all sites at once."""
    hass.data[CALLERS] = Callers(hass)
    listen_to_buttons(hass, lambda context: _async_allowed(hass, context))
    register: Callable[..., None] = hass.services.async_register  # typed for probatio, which is voluptuous here
    register(DOMAIN, ESCALATE, _async_escalate, _ESCALATE_SCHEMA, supports_response=SupportsResponse.OPTIONAL)
    register(DOMAIN, ACKNOWLEDGE, _async_acknowledge, _ACKNOWLEDGE_SCHEMA)
    register(DOMAIN, ANSWER, _async_answer, _ANSWER_ACTION_SCHEMA)
    register(DOMAIN, RESOLVE, _async_resolve, _RESOLVE_SCHEMA)
    async_setup_rejected(hass)
    async_setup_transfer(hass)


async def _async_escalate(call: ServiceCall) -> ServiceResponse:
    await call.hass.data[CALLERS].async_announced(call.context)
    content = _content(call)
    await _async_check_author(call, content)
    group = call.data.get("group") or call.hass.data[CALLERS].caller(call.context)
    site = await async_site_called(call.hass, call.data.get("site"))
    escalated = await site.async_escalate(EscalateCall(content=content, group=group, policy=call.data["policy"]))
    return asdict(escalated) if call.return_response else None


async def _async_acknowledge(call: ServiceCall) -> None:
    await call.hass.data[CALLERS].async_announced(call.context)
    found = await _async_meant(call)
    if not found:
        raise EscalationRefusedError(Code.UNKNOWN_ESCALATION, escalation=_group(call))
    for site, escalation in found:
        attempt = Attempt(
            escalation=escalation,
            answer=None,
            by=await _async_name(call),
            ring=call.data.get("ring"),
            acknowledge_for=call.data.get("for"),
            allowed=await _async_allowed(call.hass, call.context),
        )
        await site.async_attempt(attempt)


async def _async_answer(call: ServiceCall) -> None:
    await call.hass.data[CALLERS].async_announced(call.context)
    site, escalation = await _async_find(call.hass, call.data["escalation"])
    attempt = Attempt(
        escalation=escalation,
        answer=call.data["answer"],
        by=await _async_name(call),
        ring=call.data.get("ring"),
        note=call.data.get("note"),
        allowed=await _async_allowed(call.hass, call.context),
    )
    await site.async_attempt(attempt)


async def _async_resolve(call: ServiceCall) -> None:
    await call.hass.data[CALLERS].async_announced(call.context)
    for site, escalation in await _async_meant(call):  # none of the group is alive: dry again without an alarm
        await site.async_resolve(
            escalation,
            by=await _async_name(call),
            note=call.data.get("note"),
            allowed=await _async_allowed(call.hass, call.context),
        )


def _content(call: ServiceCall) -> Content:
    data = call.data
    answers = tuple(
        Answer(name=answer["name"], actions=_json(answer["actions"]), if_interrupted=answer["if_interrupted"])
        for answer in data["answers"]
    )
    if_unanswered = data.get("if_unanswered")
    names = [answer.name for answer in answers]
    if if_unanswered is not None and if_unanswered not in names:
        raise EscalationRefusedError(Code.NOT_OFFERED, answer=if_unanswered, offered=", ".join(names) or "-")
    return Content(
        message=data["message"],
        severity=data["severity"],
        entities=tuple(data["entities"]),
        answers=answers,
        if_unanswered=if_unanswered,
        give_up_after=data["give_up_after"].total_seconds(),
        data=_json(data["data"]) if "data" in data else None,
        attached=tuple(_attached(call.hass, entity) for entity in data["attach"]),
        user=call.context.user_id,
    )


def _attached(hass: HomeAssistant, entity: str) -> Attached:
    state = hass.states.get(entity)
    if state is None:
        return Attached(entity=entity, state=STATE_UNAVAILABLE, since=dt_util.utcnow())
    return Attached(entity=entity, state=state.state, since=state.last_changed)


async def _async_check_author(call: ServiceCall, content: Content) -> None:
    """Raise where a user who may not write automations brings actions of his own; an automation's are its author's."""
    if call.context.user_id is None or call.hass.data[CALLERS].caller(call.context):
        return
    user = await call.hass.auth.async_get_user(call.context.user_id)
    if any(answer.has_actions for answer in content.answers) and not (user and user.is_admin):
        raise EscalationRefusedError(Code.NOT_ALLOWED, needed="an administrator: the answers bring actions")


def _json(value: object) -> str:
    text = json_dumps(_writable(value))
    if len(text) > MAX_TEXT:
        raise EscalationRefusedError(Code.TOO_LARGE, limit=str(MAX_TEXT))
    return text


def _writable(value: object) -> object:
    """Return ``value`` with integers JSON's writer does not take (beyond 64 bits) as texts."""
    if isinstance(value, dict):
        return {key: _writable(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(one) for one in value]
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**64 else value


async def _async_find(hass: HomeAssistant, escalation: str) -> tuple[Escalations, Ulid]:
    for site in await async_sites(hass):
        if site.get(escalation):
            return site, Ulid(escalation)
    raise EscalationRefusedError(Code.UNKNOWN_ESCALATION, escalation=escalation)


async def _async_meant(call: ServiceCall) -> list[tuple[Escalations, Ulid]]:
    """Return the escalation the call names, or the alive ones of its group, at most one at each site."""
    if "escalation" in call.data:
        return [await _async_find(call.hass, call.data["escalation"])]
    group = _group(call)
    return [(site, alive.id) for site in await async_sites(call.hass) if (alive := site.alive_of(group))]


def _group(call: ServiceCall) -> str:
    group: str | None = call.data.get("group") or call.hass.data[CALLERS].caller(call.context)
    if group is None:
        raise EscalationRefusedError(NO_GROUP)
    return group


async def _async_name(call: ServiceCall) -> str:
    """Return who calls, for people to read."""
    if call.context.user_id and (user := await call.hass.auth.async_get_user(call.context.user_id)):
        return user.name or user.id
    caller = call.hass.data[CALLERS].caller(call.context)
    state = call.hass.states.get(caller) if caller else None
    return state.name if state else caller or "Home Assistant"


async def _async_allowed(hass: HomeAssistant, context: Context) -> Callable[[Escalation], bool]:
    """Return who may decide on an escalation: automations, and users who may control all its entities."""
    if context.user_id is None:
        return lambda _: True
    user = await hass.auth.async_get_user(context.user_id)
    if user is None:
        return lambda _: False
    check = user.permissions.check_entity
    return lambda escalation: all(check(entity, POLICY_CONTROL) for entity in escalation.content.entities)
