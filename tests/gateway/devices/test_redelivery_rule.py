"""The rule for messages the broker sends again, against a model of all losses between broker and store."""

from hypothesis import given, settings
from hypothesis import strategies as st

from process_cosmos_gateway.devices.mqtt.redelivery import MAX_DOUBTFUL, ReceivedMessages, RedeliveryStatus

from .redelivery_model import Model

STEPS = list(Model(1).steps())
FAULTS = ["reset", "kill gateway", "save broker", "kill broker"]
ONE = ["publish", "connect", "send", "receive"]
PHRASES = st.one_of(
    st.sampled_from(STEPS).map(lambda step: [step]),
    st.sampled_from(
        [ONE, [*ONE, *ONE], [*ONE, "commit"], ["commit one", "commit one"], ["connect", "receive"], ["reset"]]
    ),
)


def run_steps(steps: list[str], numbers: int = 3) -> Model:
    model = Model(numbers)
    for step in steps:
        model.steps()[step]()
    model.settle()
    return model


@settings(max_examples=1500, deadline=None)
@given(phrases=st.lists(PHRASES, max_size=60), numbers=st.integers(1, 5))
def test_no_acknowledged_event_is_lost_and_none_is_stored_twice_without_a_mark(
    phrases: list[list[str]], numbers: int
) -> None:
    steps = [step for phrase in phrases for step in phrase]
    model = run_steps(steps, numbers)
    if not set(FAULTS) & set(steps):
        assert model.marked == 0
        assert len(model.stored) == steps.count("publish") + steps.count("publish another")


@settings(max_examples=300, deadline=None)
@given(before=st.integers(0, 5), newest=st.integers(1, 5))
def test_a_kill_marks_no_more_than_the_newest_commit(before: int, newest: int) -> None:
    round_trip = [*ONE, "commit", "puback"]
    model = run_steps([*before * round_trip, *newest * ONE, "commit", "kill gateway"], numbers=9)
    assert (model.marked, len(model.stored)) == (newest, before + newest)


def test_an_unacknowledged_message_is_a_repeat_on_the_next_connection() -> None:
    model = run_steps([*ONE, "reset"])
    assert (model.marked, model.repeats, len(model.stored)) == (0, 1, 1)


def test_a_puback_that_may_have_been_lost_makes_a_possible_repeat() -> None:
    model = run_steps([*ONE, "commit", "reset"])
    assert (model.marked, model.repeats) == (1, 0)


def test_a_message_is_in_doubt_after_two_ended_connections() -> None:
    model = run_steps([*ONE, "reset", "connect", "reset"])
    assert (model.marked, model.repeats) == (1, 0)


def test_the_mark_of_a_puback_that_could_not_be_sent_is_stored_with_later_commits() -> None:
    model = run_steps([*ONE, *ONE, "reset", "commit one", "commit one", "kill gateway"])
    assert (model.marked, len(model.stored)) == (2, 2)


def test_a_new_session_has_no_marks_of_the_previous_one() -> None:
    received = ReceivedMessages()
    received.receive(b"1-true", redelivered=False)
    received.end_connection()
    received.begin_session()
    assert received.receive(b"1-true", redelivered=True) is RedeliveryStatus.NEW


def test_the_number_of_remembered_marks_is_limited() -> None:
    received = ReceivedMessages()
    for number in range(3 * MAX_DOUBTFUL):
        received.receive(b"%d" % number, redelivered=False)
        received.acknowledged(b"%d" % number)
    kept = [received.receive(b"%d" % number, redelivered=True) for number in range(3 * MAX_DOUBTFUL)]
    assert kept.count(RedeliveryStatus.POSSIBLE_REPEAT) == MAX_DOUBTFUL
    assert kept[-1] is RedeliveryStatus.POSSIBLE_REPEAT
