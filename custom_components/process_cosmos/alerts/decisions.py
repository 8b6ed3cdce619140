"""Whether an answer or an acknowledgement counts: the checks in their order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Ulid

from .model import Escalation, State

ACKNOWLEDGED_FOR = timedelta(hours=1)
"""How long an acknowledgement lasts if nobody says."""
TOO_OLD = timedelta(hours=24)
"""Age from which an answer is no longer run or taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An answer, or with ``answer`` None an acknowledgement.

    ``ring`` None: the current one counts. ``acknowledge_for`` None: nobody said for how long.
    """

    escalation: Ulid
    answer: str | None
    by: str
    ring: int | None = None
    note: str | None = None
    proposal: str | None = None
    age: timedelta = timedelta()
    acknowledge_for: timedelta | None = None
    allowed: Callable[[Escalation], bool] = field(default=lambda _: True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why it does not count: a stable code, and what its sentence names."""

    code: Code
    placeholders: Mapping[str, str]


def refusal(state: State, attempt: Attempt) -> Refusal | None:
    """Return why ``attempt`` is refused, None if it is to be recorded. The caller knows proposals settled before."""
    escalation = state.escalations.get(attempt.escalation)
    if escalation is None:
        return Refusal(code=Code.UNKNOWN_ESCALATION, placeholders={"escalation": attempt.escalation})
    if attempt.answer is not None and not escalation.offered(attempt.answer):
        offered = ", ".join(answer.name for answer in escalation.answers)
        return Refusal(code=Code.NOT_OFFERED, placeholders={"answer": attempt.answer, "offered": offered})
    if not attempt.allowed(escalation):
        return Refusal(code=Code.NOT_ALLOWED, placeholders={"needed": right_to(escalation)})
    message = {"message": escalation.content.message}
    if not escalation.alive and escalation.answer and escalation.by:
        winner = {"by": escalation.by, "answer": escalation.answer}
        return Refusal(code=Code.ALREADY_ANSWERED, placeholders=message | winner)
    outdated = attempt.ring is not None and attempt.ring < escalation.answers_from
    if not escalation.alive or outdated or _is_too_old(attempt):
        return Refusal(code=Code.ANSWER_TOO_LATE, placeholders=message)
    return None


def right_to(escalation: Escalation) -> str:
    """Say which right deciding about ``escalation`` takes."""
    return f"the right to control {', '.join(escalation.content.entities) or 'entities'}"


def _is_too_old(attempt: Attempt) -> bool:
    lasts = TOO_OLD if attempt.answer is not None else attempt.acknowledge_for or ACKNOWLEDGED_FOR
    return attempt.age >= min(TOO_OLD, lasts)
