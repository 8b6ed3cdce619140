"""The delay on the link: what a message took longer than the shortest one, whatever the gateway's clock shows."""

import pytest

from custom_components.process_cosmos.reactions.link_delay import LinkDelay


@pytest.mark.parametrize("ahead", [-1e6, 0.0, 1e6])
def test_a_delay_is_what_a_message_took_longer_than_the_shortest(ahead: float) -> None:
    delay = LinkDelay()
    assert delay.measure(10.0 + ahead, 10.5) == 0, "nothing to compare with"
    assert delay.measure(11.0 + ahead, 11.2) == 0
    assert delay.measure(12.0 + ahead, 12.5) == pytest.approx(0.3)


def test_clocks_that_drift_apart_are_compared_anew() -> None:
    delay = LinkDelay()
    delays = [delay.measure(second * 1.0001, float(second)) for second in range(0, 3600, 10)]
    assert max(delays) < 0.02
    slower = LinkDelay()
    delays = [slower.measure(second * 0.9999, float(second)) for second in range(0, 3600, 10)]
    assert max(delays) < 0.02, "0.1 ms a second for two minutes"
