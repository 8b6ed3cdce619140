"""Whether an answer or an acknowledgement counts: the checks in their order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import Alert, State

ACKNOWLEDGED_FOR = timedelta(hours=1)
"""How long an acknowledgement lasts if nobody says."""
TOO_OLD = timedelta(hours=24)
"""Age from which an answer is no longer run or taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """An answer, or with ``answer`` None an acknowledgement.

    ``revision`` None: the current one counts. ``acknowledge_for`` None: nobody said for how long.
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
    """Why it does not count: a stable code, and what its sentence names."""

    code: Code
    placeholders: Mapping[str, str]


def refusal(state: State, attempt: AnswerRequest) -> Refusal | None:
    """Return why ``attempt`` is refused, None if it is to be recorded. The caller knows proposals settled before."""
    alert = state.alerts.get(attempt.alert)
    if alert is None:
        return Refusal(code=Code.UNKNOWN_ALERT, placeholders={"alert": attempt.alert})
    if attempt.answer is not None and not alert.offered(attempt.answer):
        offered = ", ".join(answer.name for answer in alert.answers)
        return Refusal(code=Code.NOT_OFFERED, placeholders={"answer": attempt.answer, "offered": offered})
    if not attempt.allowed(alert):
        return Refusal(code=Code.NOT_ALLOWED, placeholders={"needed": right_to(alert)})
    message = {"message": alert.content.message}
    if not alert.alive and alert.answer and alert.by:
        winner = {"by": alert.by, "answer": alert.answer}
        return Refusal(code=Code.ALREADY_ANSWERED, placeholders=message | winner)
    outdated = attempt.revision is not None and attempt.revision < alert.answers_from
    if not alert.alive or outdated or _is_too_old(attempt):
        return Refusal(code=Code.ANSWER_TOO_LATE, placeholders=message)
    return None


def right_to(alert: Alert) -> str:
    """Say which right deciding about ``alert`` takes."""
    return f"the right to control {', '.join(alert.content.entities) or 'entities'}"


def _is_too_old(attempt: AnswerRequest) -> bool:
    lasts = TOO_OLD if attempt.answer is not None else attempt.acknowledge_for or ACKNOWLEDGED_FOR
    return attempt.age >= min(TOO_OLD, lasts)
