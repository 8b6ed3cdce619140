"""The broker's log says which messages a client acknowledged, whatever the gateway believes."""

from process_cosmos_testbed.scenarios.leak_demo.broker_log import read_acknowledged


def published(topic: str) -> str:
    return f"1: Received PUBLISH from sensor (d0, q1, r1, m1, '{topic}', ... (4 bytes))"


def sent(message: int, topic: str, *, again: bool = False, retained: bool = False, to: str = "the-gateway") -> str:
    return f"1: Sending PUBLISH to {to} (d{int(again)}, q1, r{int(retained)}, m{message}, '{topic}', ... (4 bytes))"


def acknowledged(message: int, by: str = "the-gateway") -> str:
    return f"1: Received PUBACK from {by} (Mid: {message}, RC:0)"


def test_an_acknowledged_message_is_known_by_its_place_on_its_topic() -> None:
    lines = [published("a"), sent(1, "a"), published("b"), sent(2, "b"), published("a"), sent(3, "a")]
    lines += [acknowledged(1), acknowledged(3)]
    assert read_acknowledged("gateway", lines).by_topic == {"a": {0, 1}}


def test_what_another_client_acknowledged_does_not_count() -> None:
    lines = [published("a"), sent(1, "a", to="ledger"), acknowledged(1, by="ledger"), sent(1, "a")]
    assert read_acknowledged("gateway", lines).by_topic == {}


def test_what_was_published_before_the_subscription_is_passed_over() -> None:
    lines = [published("a"), published("a"), published("a"), sent(1, "a"), acknowledged(1)]
    assert read_acknowledged("gateway", lines).by_topic == {"a": {2}}


def test_what_waited_while_the_client_was_away_keeps_its_order() -> None:
    lines = [published("a"), sent(1, "a"), acknowledged(1), published("a"), published("a")]
    lines += [sent(2, "a"), sent(3, "a"), acknowledged(3)]
    assert read_acknowledged("gateway", lines).by_topic == {"a": {0, 2}}


def test_a_redelivery_is_the_same_message() -> None:
    lines = [published("a"), sent(1, "a"), sent(1, "a", again=True), acknowledged(1)]
    result = read_acknowledged("gateway", lines)
    assert result.by_topic == {"a": {0}}
    assert result.redelivered == 1


def test_a_retained_message_is_kept_apart() -> None:
    lines = [
        published("a"),
        sent(1, "a", retained=True),
        acknowledged(1),
        published("a"),
        sent(2, "a"),
        acknowledged(2),
    ]
    result = read_acknowledged("gateway", lines)
    assert (result.retained, result.by_topic) == ({"a": {0}}, {"a": {1}})
