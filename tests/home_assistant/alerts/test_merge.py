"""Merge of a restored record log with the gateway's alert summaries, case by case."""

from datetime import UTC, datetime

import pytest

from custom_components.process_cosmos.alerts.merge import merge
from custom_components.process_cosmos.alerts.model import Alert, State
from custom_components.process_cosmos.alerts.records import Content
from custom_components.process_cosmos.contract.alerts import AlertState, AlertSummary, Severity
from custom_components.process_cosmos.contract.identifiers import Position, Ulid

OPEN, ANSWERED, RESOLVED = AlertState.OPEN, AlertState.ANSWERED, AlertState.RESOLVED
ONE = Ulid("01K8J5Z0000000000000000001")
RUN = Ulid("01K8J5Z0000000000000000002")
EVENT = Ulid("01K8J5Z0000000000000000003")
NOW = datetime(2026, 11, 23, tzinfo=UTC)


def here(state: AlertState, revision: int) -> State:
    """Return a state with one alert."""
    content = Content(message="Water", severity=Severity.CRITICAL, give_up_after=60.0)
    known = Alert(
        id=ONE,
        group="sink",
        content=content,
        opened_at=NOW,
        count=1,
        state=state,
        revision=revision,
        answers_from=1,
        notify_at=NOW,
        cycle_started_at=NOW,
        cycle_revision=revision,
        until=NOW,
    )
    return State(alerts={ONE: known}, alive={"sink": ONE} if state.alive else {})


def there(state: AlertState, revision: int) -> AlertSummary:
    """Return the gateway's summary of the alert."""
    return AlertSummary(
        alert=ONE,
        revision=revision,
        answers_from=1,
        state=state,
        position=Position(run=RUN, n=1),
        group="sink",
        severity=Severity.CRITICAL,
        message="Water",
    )


@pytest.mark.parametrize(
    ("mine", "theirs", "after"),
    [
        pytest.param((OPEN, 1), (OPEN, 3), (OPEN, 4), id="alive on both: the next revision"),
        pytest.param((OPEN, 1), (ANSWERED, 3), (ANSWERED, 3), id="closed there: closed"),
        pytest.param((RESOLVED, 1), (OPEN, 3), (RESOLVED, 3), id="closed here: closed"),
        pytest.param((RESOLVED, 1), (ANSWERED, 3), (ANSWERED, 3), id="closed on both in different ways: as there"),
        pytest.param((RESOLVED, 1), (RESOLVED, 3), (RESOLVED, 3), id="closed in another revision: as there"),
        pytest.param((RESOLVED, 3), (RESOLVED, 3), None, id="closed alike: no change"),
    ],
)
def test_both_sides_agree_after_a_backup_was_restored(
    mine: tuple[AlertState, int], theirs: tuple[AlertState, int], after: tuple[AlertState, int] | None
) -> None:
    restored, reconciled = merge(here(*mine), [there(*theirs)], lambda: EVENT)
    assert restored == ()
    assert [(one.state, one.revision) for one in reconciled] == ([after] if after else [])


def test_an_alert_unknown_to_the_gateway_gets_a_new_revision() -> None:
    _, [one] = merge(here(OPEN, 2), [], lambda: EVENT)
    assert (one.state, one.revision) == (OPEN, 3)


@pytest.mark.parametrize("resolved", [False, True])
def test_an_alert_only_the_gateway_knows_is_restored_unless_its_group_has_an_alive_one(resolved: bool) -> None:  # noqa: FBT001 - a parameter
    state = State(alive={"sink": RUN} if resolved else {})
    [one], reconciled = merge(state, [there(OPEN, 3)], lambda: EVENT)
    assert reconciled == ()
    assert (one.resolved, one.revision) == (resolved, 3 if resolved else 4)
