"""Acting and telling need neither the gateway nor its broker."""

from pathlib import Path

from demo.home import Home
from demo.house import House
from demo.onboarding import onboard
from demo.site import add_guard, add_integration, add_phones, find_entities
from demo.stage import CELLAR_SENSOR, CELLAR_VALVE, Stage


async def test_with_the_gateway_and_its_broker_gone_a_leak_closes_the_valve_and_rings(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.start()
    try:
        async with Home(house.url, await onboard(house.url)) as home:
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
