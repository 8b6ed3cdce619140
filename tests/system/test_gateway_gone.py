"""Acting and notifying need neither the gateway nor its broker."""

from pathlib import Path

from process_cosmos_testbed.scenarios.leak_demo.cellar import CELLAR_CLOSINGS
from process_cosmos_testbed.scenarios.leak_demo.fixtures import DemoFixtures
from process_cosmos_testbed.scenarios.leak_demo.site import DemoSite


async def test_without_gateway_and_broker_a_leak_closes_the_valve_and_notifies(tmp_path: Path) -> None:
    async with DemoSite(tmp_path).started() as site:
        fixtures = DemoFixtures(site)
        await fixtures.set_up(with_kitchen=False)
        await site.gateway.kill()
        await site.broker.kill()
        for leaks in (1, 2):
            await fixtures.cellar_leak()  # wet, closed, every phone notified, dry, resolved
            assert await fixtures.home.state(CELLAR_CLOSINGS) == str(leaks)
        await fixtures.disconnect()
