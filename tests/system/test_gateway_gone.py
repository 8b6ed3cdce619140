"""Acting and telling need neither the gateway nor its broker."""

from pathlib import Path

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.onboarding import onboard
from process_cosmos_testbed.scenarios.leak_demo.fixtures import CELLAR_SENSOR, CELLAR_VALVE, Stage
from process_cosmos_testbed.scenarios.leak_demo.house import House
from process_cosmos_testbed.scenarios.leak_demo.setup import add_guard, add_integration, add_phones, find_entities


async def test_with_the_gateway_and_its_broker_gone_a_leak_closes_the_valve_and_rings(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.start()
    try:
        async with HomeAssistantClient(house.url, await onboard(house.url)) as home:
            await home.until_running()
            phones = await add_phones(home, house)
            await add_integration(home, house, phones)
            await find_entities(home)
            await add_guard(home, "leak_guard_cellar", CELLAR_SENSOR, CELLAR_VALVE)
            stage = Stage(house, home, phones)
            await stage.listen()
            await house.gateway.kill()
            await house.broker.kill()
            for leaks in (1, 2):
                await stage.cellar_leak()  # wet, closed, every phone has rung, dry, resolved
                assert await home.state("counter.cellar_valve_closings") == str(leaks)
    finally:
        await house.stop()
