"""The first steps of a homeowner in a real browser, with a limit on mouse clicks."""

from http import HTTPStatus
from pathlib import Path

from process_cosmos_testbed.home_assistant.onboarding import press
from process_cosmos_testbed.processes import until
from process_cosmos_testbed.scenarios.leak_demo.cellar import CELLAR_VALVE, CELLAR_WATER
from tests.support.supervisor.apps import App
from tests.support.supervisor.container import ProcessHost
from tests.support.supervisor.fake import FakeSupervisor

from .browser import Person, browser_at
from .home import Lived, living_home
from .setting_up import REPOSITORY, home_beside, until_linked


async def test_a_homeowner_sets_up_a_leak_alarm_and_answers_an_alert(tmp_path: Path) -> None:
    async with living_home(tmp_path) as home, browser_at(home.url) as person:
        alert = await first_leak_alarm(home, person)
        assert 0 < person.clicks <= 14
        await person.look_at_the_site(await site_of(home))
        await person.answer(alert, "Turn on again")
        await state_is(home, CELLAR_VALVE, "on")

        await dry(home)
        second = await water(home)
        assert second != alert
        await press(home.api, home.phone, home.pushes.received[-1].buttons["Turn on again"])
        await state_is(home, CELLAR_VALVE, "on")

        home.pushes.refusing[home.phone.name] = HTTPStatus.INTERNAL_SERVER_ERROR
        await person.send_a_test_notification("not delivered (push_refused)")


async def test_installing_the_app_in_the_setup_needs_few_more_clicks(tmp_path: Path) -> None:
    supervisor = FakeSupervisor(elsewhere={REPOSITORY: [App.ours()]}, host=ProcessHost(tmp_path))
    async with supervisor.listening(), home_beside(supervisor, tmp_path) as home, browser_at(home.url) as person:
        await first_leak_alarm(home, person, with_app=True)
        assert 0 < person.clicks <= 20
        await until_linked(home.api)
    assert not supervisor.unknown


async def first_leak_alarm(home: Lived, person: Person, *, with_app: bool = False) -> str:
    """Go from *Add integration* to a notified phone, for a test and for a leak; return the id of the leak's alert.

    Clicks are counted from *Add integration* on.
    """
    await person.log_in()
    person.clicks = 0
    await person.add_the_integration(phone=home.phone.name, with_app=with_app)
    await home.pushes.until_notified("This is a test notification")
    await person.make_the_leak_guard(sensor="Cellar floor", valve="Cellar valve")
    await state_is(home, "automation.leak_guard", "on")
    return await water(home)


async def water(home: Lived) -> str:
    """Simulate a leak; return the id of the alert on the phone once the valve has closed."""
    home.pushes.received.clear()
    await home.api.action("input_boolean.turn_on", target={"entity_id": CELLAR_WATER})
    await state_is(home, CELLAR_VALVE, "off")
    return (await home.pushes.until_notified("Water: Cellar floor")).alert


async def dry(home: Lived) -> None:
    """End the simulated leak."""
    await home.api.action("input_boolean.turn_off", target={"entity_id": CELLAR_WATER})


async def state_is(home: Lived, entity: str, state: str) -> None:
    """Wait until ``entity`` has ``state``."""

    async def probe() -> bool:
        return await home.api.state(entity) == state

    await until(probe, f"{entity} {state}", 30)


async def site_of(home: Lived) -> str:
    """Return the device id of the site."""
    entities = await home.api.command("config/entity_registry/list")
    return str(next(entity["device_id"] for entity in entities if entity["platform"] == "process_cosmos"))
