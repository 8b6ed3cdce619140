"""Gateway and integration of this version and of the one before, in each pairing."""

from pathlib import Path

from demo.onboarding import press
from tests.gateway.gateway_process import COMMAND
from tests.gateway.store.test_newer import written

from .two_versions import ANSWER, DONE, INTEGRATION, Site, site_of_the_previous_version

KEPT = "Kept through all updates"
LANGUAGE = {"schema_too_old", "schema_too_new", "refused", "memory_too_new", "gateway_unreachable"}
"""Issues of two sides that do not work with each other."""


async def test_the_app_may_be_updated_first_and_an_older_app_leaves_its_data_alone(tmp_path: Path) -> None:
    async with site_of_the_previous_version(tmp_path) as site:
        kept = await site.raise_alert(KEPT)
        await works(site, "the previous version on both sides", 1)
        await site.start_gateway(COMMAND)
        await works(site, "the app updated", 2)
        await site.start_home(INTEGRATION)
        await works(site, "both updated", 3)
        await answer_by_the_first_button(site)
        await site.until_state(DONE, "4")
        await nothing_came_twice(site, kept)

        await site.gateway.stop()
        before = written(site.gateway.data)
        assert "update it" in await site.why_the_previous_gateway_does_not_start()
        assert written(site.gateway.data) == before


async def test_the_integration_may_be_updated_first_and_an_older_one_leaves_its_memory_alone(tmp_path: Path) -> None:
    async with site_of_the_previous_version(tmp_path) as site:
        kept = await site.raise_alert(KEPT)
        await site.start_home(INTEGRATION)
        await works(site, "the integration updated", 1)
        await site.stop_home()
        before = site.memory.read_bytes()
        await site.start_home(site.previous_integration)
        assert await site.why_it_is_not_set_up() == "memory_too_new"
        assert site.memory.read_bytes() == before
        await site.start_home(INTEGRATION)
        await site.start_gateway(COMMAND)
        await works(site, "both updated", 2)
        await answer_by_the_first_button(site)
        await site.until_state(DONE, "3")
        await nothing_came_twice(site, kept)


async def works(site: Site, pairing: str, answers: int) -> None:
    """See a leak come up and a command go down, people told, and an answer from outside run once."""
    await site.until_state(site.entities.sensor, "off")
    commands = len(site.valve.commands)
    await site.sensor.set(True)
    await site.until_state(site.entities.sensor, "on")
    await site.home.action("valve.close_valve", target={"entity_id": site.entities.valve})
    await site.until_state(site.entities.valve, "closed")
    assert [command.value for command in site.valve.commands[commands:]] == [False]
    await site.dry()

    site.receiver.to_answer.add(pairing)
    alert = await site.raise_alert(pairing)
    await site.until_state(DONE, str(answers))
    await site.until_heard(alert, "opened", "answered", "outcome")
    assert not await site.shown_issues() & LANGUAGE


async def answer_by_the_first_button(site: Site) -> None:
    """Press the button of the first notification of the kept alert, which the previous version made."""
    push = await site.pushes.next_ring(KEPT)
    [button] = [each["action"] for each in push["data"]["actions"] if each["title"] == ANSWER]
    await press(site.home, site.phone, button)


async def nothing_came_twice(site: Site, kept: str) -> None:
    """See the kept alert end as it should, and each event once."""
    await site.until_heard(kept, "opened", "answered", "outcome")
    ids = [event["id"] for event in site.receiver.events]
    assert len(ids) == len(set(ids))
