"""Parser of calls of the action ``alert``; mistakes are recorded and never prevent the alert."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import probatio as vol
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.json import json_dumps, json_encoder_default
from homeassistant.util import dt as dt_util

from custom_components.process_cosmos.alerts.model import MAX_ENTITIES, MAX_MESSAGE
from custom_components.process_cosmos.alerts.plain_text import escape_templates
from custom_components.process_cosmos.alerts.policy import DEFAULT_POLICY, GIVE_UP_AFTER
from custom_components.process_cosmos.alerts.records import Answer, Content, IfInterrupted
from custom_components.process_cosmos.contract.alerts import Attached, Severity
from custom_components.process_cosmos.contract.bounds import MAX_DATA_DEPTH, bounded, is_deeper
from custom_components.process_cosmos.contract.codec import MAX_TEXT
from custom_components.process_cosmos.contract.durations import LONGEST_ACKNOWLEDGEMENT
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.texts import shortened

MAX_NAME = 64
"""Maximum number of characters of an answer's name."""
MAX_ANSWERS = 10

_LONGEST = timedelta(seconds=LONGEST_ACKNOWLEDGEMENT)
POSITIVE_DURATION = vol.All(cv.positive_time_period, vol.Range(min=timedelta(seconds=1), max=_LONGEST))
"""A duration of 1 second to 366 days."""


class ProblemCode(StrEnum):
    """Codes of mistakes in a call that the contract has no codes for."""

    INVALID_FIELD = "invalid_field"
    UNKNOWN_FIELD = "unknown_field"
    UNKNOWN_POLICY = "unknown_policy"
    UNKNOWN_SITE = "unknown_site"
    DUPLICATE_ANSWER = "duplicate_answer"
    TOO_MANY_ANSWERS = "too_many_answers"
    INVALID_ACTIONS = "invalid_actions"


_FIELDS = frozenset(
    {
        *("message", "severity", "entities", "policy", "answers", "if_unanswered"),
        *("give_up_after", "group", "data", "attach", "site"),
    }
)
_ANSWER_FIELDS = frozenset({"name", "actions", "if_interrupted"})
_LONGEST_REASON = 200

_NOT_STORED = json_dumps([{"stop": "its actions could not be stored", "error": True}])
"""Replaces actions that cannot be stored as a whole, because running a part of them might do harm."""

_UNUSABLE = (
    vol.Invalid,
    HomeAssistantError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""Exceptions that Home Assistant's validators and JSON writers raise for a value of the wrong kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A mistake in a call: a stable code, and a sentence for the author of the automation."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCall:
    """A call with all mistakes corrected. ``given``: the names of its fields."""

    content: Content
    group: str | None
    site: str | None
    given: frozenset[str]
    problems: tuple[Problem, ...]


def parse_alert_call(
    hass: HomeAssistant, data: Mapping[str, Any], *, caller: str, user: str | None, trusted: bool, rendered: bool
) -> AlertCall:
    """Parse the fields of one call of ``alert``; never raises because of their values.

    Args:
        hass: Home Assistant, for the states of ``attach``.
        data: The fields of the call, of any type and shape.
        caller: Display name of the caller, used as text of an alert without a message.
        user: The user with whose rights the actions of the answers run.
        trusted: Whether the caller is an automation, a script or an administrator; others cannot add actions.
        rendered: Whether templates were rendered before the call, as those of automations are; text is then never
            rendered again when an answer runs.

    """
    reader = _CallParser(data)
    reader.note_unknown(data, _FIELDS)
    answers = reader.answers(rendered=rendered)
    if not trusted and any(answer.has_actions for answer in answers):
        reader.note(Code.NOT_ALLOWED, "answers: only automations, scripts and administrators may add actions.")
        answers = tuple(answer for answer in answers if not answer.has_actions)
    content = Content(
        message=reader.message(caller),
        # An unreadable severity becomes critical: an alert that stays silent on a phone may be missed.
        severity=reader.field("severity", _parse_severity, Severity.WARNING, instead=Severity.CRITICAL),
        entities=reader.entities("entities"),
        answers=answers,
        if_unanswered=reader.if_unanswered(answers),
        give_up_after=reader.field("give_up_after", POSITIVE_DURATION, GIVE_UP_AFTER).total_seconds(),
        data=reader.attached_data(),
        attached=tuple(_attached(hass, entity) for entity in reader.entities("attach")),
        user=user,
        trusted=trusted,
    )
    if reader.field("policy", parse_text, DEFAULT_POLICY) != DEFAULT_POLICY:
        reader.note(
            ProblemCode.UNKNOWN_POLICY, f"policy: unknown policy “{data['policy']}”; the default policy was used."
        )
    return AlertCall(
        content=content,
        group=reader.field("group", parse_text, None),
        site=reader.field("site", parse_text, None),
        given=frozenset(map(str, data)),
        problems=tuple(reader.problems),
    )


def parse_text(value: object) -> str:
    """Return a text without surrounding blanks, cut to ``MAX_MESSAGE`` characters, as it is stored.

    Raises ``vol.Invalid`` if the text is empty.
    """
    text = _without_surrogates(cv.string(value)).strip()
    if not text:
        raise vol.Invalid("it is empty")
    return shortened(text, MAX_MESSAGE)


def parse_answer_name(value: object) -> str:
    """Return the name of an answer, cut to ``MAX_NAME`` characters; raise like ``parse_text``."""
    return shortened(parse_text(value), MAX_NAME)


class _CallParser:
    """Parses the fields of one call and records mistakes."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = data
        self.problems: list[Problem] = []

    def note(self, code: str, message: str) -> None:
        self.problems.append(Problem(code=code, message=shortened(_without_surrogates(message), _LONGEST_REASON)))

    def note_unknown(self, given: Mapping[Any, Any], known: frozenset[str], path: str = "") -> None:
        # Converted before sorting: keys from a template may be numbers, which cannot be sorted among texts.
        for name in sorted(map(str, given.keys() - known)):
            self.note(ProblemCode.UNKNOWN_FIELD, f"{path}{name}: unknown field; it was ignored.")

    def field[T](self, name: str, parse: Callable[[Any], T], default: T, *, instead: T | None = None) -> T:
        """Return a field parsed by ``parse``, ``default`` if it is missing, ``instead`` if it is invalid."""
        value = self._data.get(name)
        if value is None:
            return default
        try:
            return parse(value)
        except _UNUSABLE as error:
            used = default if instead is None else instead
            self.note(ProblemCode.INVALID_FIELD, f"{name}: {error}; {_format_value(used)} was used.")
            return used

    def message(self, caller: str) -> str:
        """Return the message, which is never empty."""
        value = self._data.get("message")
        text = _without_surrogates(str(value)).strip() if value is not None else ""
        if not isinstance(value, str) or not text:
            self.note(ProblemCode.INVALID_FIELD, "message: it is missing, empty or not a text.")
        return shortened(text or f"Alert from {caller}", MAX_MESSAGE)

    def entities(self, name: str) -> tuple[str, ...]:
        """Return the entity ids of a field, given as a list or as one comma-separated text."""
        value = self._data.get(name)
        if value is None:
            return ()
        items = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        found: dict[str, None] = {}
        for item in items:
            try:
                found[cv.entity_id(item.strip() if isinstance(item, str) else item)] = None
            except _UNUSABLE:
                self.note(ProblemCode.INVALID_FIELD, f"{name}: “{item}” is not an entity id; it was ignored.")
        if len(found) > MAX_ENTITIES:
            self.note(Code.TOO_LARGE, f"{name}: {len(found)} entities were given; the first {MAX_ENTITIES} were used.")
        return tuple(found)[:MAX_ENTITIES]

    def answers(self, *, rendered: bool) -> tuple[Answer, ...]:
        """Return the answers, each with a unique name."""
        value = self._data.get("answers")
        items = [] if value is None else value if isinstance(value, list | tuple) else [value]
        found: dict[str, Answer] = {}
        for index, item in enumerate(items):
            if len(found) == MAX_ANSWERS:
                self.note(
                    ProblemCode.TOO_MANY_ANSWERS,
                    f"answers: {len(items)} were given; the first {MAX_ANSWERS} were used.",
                )
                break
            path = f"answers[{index}]"
            fields = item if isinstance(item, Mapping) else {"name": item}
            self.note_unknown(fields, _ANSWER_FIELDS, f"{path}.")
            name = self._answer_name(path, fields, index, found)
            found[name] = Answer(
                name=name,
                actions=self._actions(path, fields.get("actions"), rendered=rendered),
                if_interrupted=self._if_interrupted(path, fields),
            )
        return tuple(found.values())

    def if_unanswered(self, answers: Sequence[Answer]) -> str | None:
        """Return the name of the answer whose actions run if nobody answers; None if it is not offered."""
        name = self.field("if_unanswered", parse_answer_name, None)
        names = [answer.name for answer in answers]
        if name is None or name in names:
            return name
        self.note(
            Code.NOT_OFFERED,
            f"if_unanswered: “{name}” is not one of the answers ({', '.join(names) or 'none'}).",
        )
        return None

    def attached_data(self) -> str | None:
        """Return the field ``data`` as JSON text."""
        value = self._data.get("data")
        if value is None or isinstance(value, Mapping):
            return None if value is None else self._json("data", self._bounded("data", value))
        self.note(ProblemCode.INVALID_FIELD, "data: it must be a mapping; it was ignored.")
        return None

    def _answer_name(self, path: str, fields: Mapping[Any, Any], index: int, taken: Mapping[str, Answer]) -> str:
        try:
            given = parse_text(fields.get("name"))
        except _UNUSABLE:
            given = ""
        name = parse_answer_name(given or f"Answer {index + 1}")
        if name != given:
            self.note(
                ProblemCode.INVALID_FIELD, f"{path}: its name must have 1 to {MAX_NAME} characters; it is now “{name}”."
            )
        number = 2
        first = name
        while name in taken:
            # Room for a blank, the parentheses and the number, which is never above ``MAX_ANSWERS``.
            name = f"{shortened(first, MAX_NAME - 5)} ({number})"
            number += 1
        if name != first:
            self.note(
                ProblemCode.DUPLICATE_ANSWER, f"{path}: another answer is called “{first}” too; it is now “{name}”."
            )
        return name

    def _if_interrupted(self, path: str, fields: Mapping[Any, Any]) -> IfInterrupted:
        value = fields.get("if_interrupted", IfInterrupted.SKIP)
        try:
            return IfInterrupted(value)
        except _UNUSABLE:
            self.note(
                ProblemCode.INVALID_FIELD, f"{path}.if_interrupted: “{value}” is not skip or repeat; skip was used."
            )
            # ``skip`` runs the actions at most once; running them twice has to be asked for.
            return IfInterrupted.SKIP

    def _actions(self, path: str, value: object, *, rendered: bool) -> str:
        """Return a script sequence as JSON text, also an invalid one, whose answer fails when it runs."""
        actions = cv.ensure_list(value)
        if not actions:
            return "[]"
        # Before ``_bounded``, which replaces what is too deep by a text and would leave a part of the actions to run.
        if is_deeper(actions, MAX_DATA_DEPTH):
            self.note(Code.TOO_DEEP, f"{path}.actions: nested deeper than {MAX_DATA_DEPTH} levels. The answer fails.")
            return _NOT_STORED
        kept = self._bounded(f"{path}.actions", actions)
        if rendered:
            kept = escape_templates(kept)
        try:
            # A copy: validators of Home Assistant change their input in place, for example ``service`` to ``action``.
            cv.SCRIPT_SCHEMA(copy.deepcopy(kept))
        except _UNUSABLE as error:  # the error message would quote the value, which may be a secret
            where = "".join(f"[{part}]" for part in getattr(error, "path", ()))
            self.note(
                ProblemCode.INVALID_ACTIONS, f"{path}.actions{where}: not valid. The answer can be given, but fails."
            )
        return self._json(f"{path}.actions", kept) or _NOT_STORED

    def _bounded(self, path: str, value: object) -> Any:  # noqa: ANN401 - JSON
        """Return ``value`` as a structure that every JSON writer accepts."""

        def note(where: str, reason: str) -> None:
            self.note(ProblemCode.INVALID_FIELD, f"{path}{where[1:]} {reason}.")

        return bounded(value, note_fn=note, default_fn=json_encoder_default)

    def _json(self, path: str, value: object) -> str | None:
        """Return ``value`` as JSON text; None if it is too long."""
        text = json_dumps(value)
        if len(text) <= MAX_TEXT:
            return text
        self.note(Code.TOO_LARGE, f"{path}: its JSON is longer than {MAX_TEXT} characters; it was ignored.")
        return None


def _without_surrogates(text: str) -> str:
    """Return ``text`` without lone surrogates, which UTF-8 cannot represent (RFC 3629, section 3)."""
    return str(bounded(text))


def _parse_severity(value: object) -> Severity:
    return Severity(str(value).strip().lower())


def _format_value(value: object) -> str:
    return "nothing" if value is None else str(value)


def _attached(hass: HomeAssistant, entity: str) -> Attached:
    state = hass.states.get(entity)
    if state is None:
        return Attached(entity=entity, state=STATE_UNAVAILABLE, since=dt_util.utcnow())
    return Attached(entity=entity, state=_without_surrogates(state.state), since=state.last_changed)
