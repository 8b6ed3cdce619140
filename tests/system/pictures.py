"""Takes the pictures of ``docs/images`` that show the site, its repairs and the app's page.

Run ``python -m tests.system.pictures`` when what they show has changed. Home Assistant, its frontend and the page are
real; a gateway of the tests says what a picture needs.
"""

import asyncio
import os
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from playwright.async_api import async_playwright

from custom_components.process_cosmos.const import VERSION
from custom_components.process_cosmos.contract.destinations import (
    DestinationKind,
    Drop,
    EventKind,
    Link,
    LinkState,
    Priority,
    Recovered,
    Status,
    Waiting,
)
from process_cosmos_gateway.contract import destinations as of_the_gateway
from process_cosmos_testbed.processes import ROOT, free_ports
from tests.gateway.api.facts import CLOUD, WELL, FakeStatus
from tests.home_assistant.contract_gateway import ContractGateway
from tests.home_assistant.devices import LEAK, VALVE

from .browser import SCREENSHOTS, Person, browser_at
from .home import Lived, living_home
from .setting_up import finish, step, until_linked
from .test_page import app_with, behind_ingress, somebody_looks

IMAGES = ROOT / "docs" / "images"
NAME = "Holiday home"
CONNECTED = Link(
    name="cloud",
    kind=DestinationKind.CLOUD,
    address="https://cloud.example.com",
    kinds=(EventKind.ALERT,),
    state=LinkState.CONNECTED,
    state_age=3600,
    last_contact_age=3,
)
WORKING = Status(links=(CONNECTED,), waiting=Waiting(), rejected=0, dropped=0, broker_connected=True)
TROUBLED = replace(
    WORKING,
    rejected=2,
    broker_dropped=120,
    full=(Priority.CHANGE,),
    drops=(Drop(priority=Priority.READING, reason="quota", count=4_210),),
    recovered=Recovered(kept=51_200, lost=12, at=datetime(2026, 11, 30, 3, tzinfo=UTC)),
)


async def take_the_site(folder: Path) -> None:
    """Show the site's page with an open alert, then its repairs."""
    async with ContractGateway(tls=True, devices=(LEAK, VALVE), status=WORKING) as gateway, living_home(folder) as home:
        gateway.hello = replace(gateway.hello, version=VERSION)
        site = await set_up(home, gateway.line)
        async with browser_at(home.url) as person:
            await person.log_in()
            await home.api.action("process_cosmos.alert", {"message": "Water in the cellar"})
            await person.look_at_the_site(site)
            keep(person, "site")
            gateway.status = TROUBLED
            await gateway.send(TROUBLED)
            await person.look_at_the_repairs(5)
            keep(person, "repairs")


async def set_up(home: Lived, line: str) -> str:
    """Add the site as a person does, and give it a name; return its device."""
    flow = await home.api.post("/api/config/config_entries/flow", {"handler": "process_cosmos"})
    flow = await step(home.api, flow, next_step_id="pairing")
    flow = await step(home.api, flow, line=line)
    entry = (await finish(home.api, flow, home.phone.device))["result"]["entry_id"]
    await until_linked(home.api)
    await home.api.command("config_entries/update", entry_id=entry, title=NAME)
    entities = await home.api.command("config/entity_registry/list")
    site = str(next(each["device_id"] for each in entities if each["unique_id"].endswith("open_alerts")))
    await home.api.command("config/device_registry/update", device_id=site, name_by_user=NAME)
    return site


def keep(person: Person, name: str) -> None:
    """Put what ``person`` last looked at where the documentation shows it."""
    shutil.copyfile(person.last, IMAGES / f"{name}.png")


async def take_the_page(folder: Path) -> None:
    """Show the app's page: connected, and what waits because a destination is away."""
    cloud = replace(CLOUD, address="https://cloud.example.com")
    workshop = replace(
        cloud,
        name="Workshop",
        address="https://hooks.example.com",
        state=of_the_gateway.LinkState.OFFLINE,
        reason="timeout",
        last_contact_age=7_300.0,
    )
    waiting = of_the_gateway.Waiting(urgent=3, change=214)
    ages = {of_the_gateway.Priority.URGENT: 90.0, of_the_gateway.Priority.CHANGE: 7_300.0}
    owners = FakeStatus(status=replace(WELL, links=(cloud, workshop), waiting=waiting), ages=ages)
    [port] = free_ports(1)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=Path(os.environ["CHROMIUM"]), chromium_sandbox=os.geteuid() != 0
        )
        async with app_with(owners, folder, port) as house, behind_ingress(house.url) as url:
            await house.open()
            async with somebody_looks(browser, url, "light", 1000, "picture"):
                pass
        await browser.close()
    shutil.copyfile(SCREENSHOTS / "picture-light-1000.png", IMAGES / "page.png")


async def take_all() -> None:
    """Take each picture in a folder of its own."""
    for take in (take_the_page, take_the_site):
        with tempfile.TemporaryDirectory() as folder:
            await take(Path(folder))


if __name__ == "__main__":
    asyncio.run(take_all())
