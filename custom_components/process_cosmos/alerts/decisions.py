"""Checks that decide whether an answer or an acknowledgement is accepted, in their order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from custom_components.process_cosmos.contract.durations import DEFAULT_ACKNOWLEDGEMENT, LONGEST_ANSWER_AGE
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import Alert, State

ACKNOWLEDGEMENT = timedelta(seconds=DEFAULT_ACKNOWLEDGEMENT)
MAX_ANSWER_AGE = timedelta(seconds=LONGEST_ANSWER_AGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """A request to answer an alert, or, with ``answer`` None, to acknowledge it.

    ``revision`` None: it applies to the current revision. ``acknowledge_for`` None: no duration was given.
    ``proposal``: id of the destination's proposal it came from. ``age``: time since the person answered.
    """

    alert: Ulid
    answer: str | None
    by: str
    revision: int | None = None
    note: str | None = None
    proposal: str | None = None
    age: timedelta = timedelta()
    acknowledge_for: timedelta | None = None
    allowed: Callable[[Alert], bool] = field(default=lambda _: True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Reason for refusing a request: a stable code and the placeholders of its translated sentence."""

    code: Code
    placeholders: Mapping[str, str]


def check_answer_request(state: State, request: AnswerRequest) -> Refusal | None:
    """Return why ``request`` is refused; None if it is accepted. Repeated proposals are filtered by the caller."""
    # The order is part of the protocol: it determines which code phones and destinations get (docs/alert-protocol.md).
    alert = state.alerts.get(request.alert)
    if alert is None:
        return Refusal(code=Code.UNKNOWN_ALERT, placeholders={"alert": request.alert})
    if request.answer is not None and not alert.find_answer(request.answer):
        offered = ", ".join(answer.name for answer in alert.answers)
        return Refusal(code=Code.NOT_OFFERED, placeholders={"answer": request.answer, "offered": offered})
    if not request.allowed(alert):
        return Refusal(code=Code.NOT_ALLOWED, placeholders={"needed": needed_right(alert)})
    message = {"message": alert.content.message}
    if not alert.alive and alert.answer and alert.by:
        winner = {"by": alert.by, "answer": alert.answer}
        return Refusal(code=Code.ALREADY_ANSWERED, placeholders=message | winner)
    outdated = request.revision is not None and request.revision < alert.answers_from
    if not alert.alive or outdated or _is_too_old(request):
        return Refusal(code=Code.ANSWER_TOO_LATE, placeholders=message)
    return None


def needed_right(alert: Alert) -> str:
    """Return a description of the permission that answering ``alert`` requires."""
    return f"the right to control {', '.join(alert.content.entities) or 'entities'}"


def _is_too_old(request: AnswerRequest) -> bool:
    lasts = MAX_ANSWER_AGE if request.answer is not None else request.acknowledge_for or ACKNOWLEDGEMENT
    return request.age >= min(MAX_ANSWER_AGE, lasts)
