"""A browser driver for Home Assistant's frontend that finds elements by their visible text."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import FloatRect, Page, async_playwright

from process_cosmos_testbed.home_assistant.onboarding import OWNER, PASSWORD
from process_cosmos_testbed.processes import ROOT

WIDTH, HEIGHT = 1280, 900
SCREENSHOTS = ROOT / "build" / "screenshots"
PATIENCE = 30_000
"""Milliseconds within which an element has to appear, also on a busy machine."""


class Person:
    """A user of the frontend; takes a screenshot of each step."""

    def __init__(self, page: Page, url: str) -> None:
        """Drive ``page``, a browser page; ``url``: of Home Assistant."""
        self._page = page
        self._url = url
        self._steps = 0
        self.last = SCREENSHOTS
        """Path of the newest screenshot."""
        self.clicks = 0
        """Number of mouse clicks, as reported by the browser."""

    async def look(self, name: str, height: int = HEIGHT) -> None:
        """Take a screenshot of the upper ``height`` pixels with animations disabled."""
        self._steps += 1
        self.last = SCREENSHOTS / f"{self._steps:02}-{name}.png"
        clip = FloatRect(x=0, y=0, width=WIDTH, height=height)
        await self._page.screenshot(path=self.last, animations="disabled", clip=clip)

    async def log_in(self) -> None:
        """Log in as the owner and start counting mouse clicks."""

        def pressed() -> None:
            self.clicks += 1

        page = self._page
        await page.expose_function("pressed", pressed)
        await page.add_init_script("addEventListener('pointerdown', () => pressed(), {capture: true})")
        await page.goto(self._url)
        await page.locator("input[name=username]").fill(OWNER)
        await page.locator("input[name=password]").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await page.locator("home-assistant-main").wait_for()

    async def add_the_integration(self, phone: str, *, with_app: bool = False) -> None:
        """Add the integration for the only phone, with test notification and blueprint, without destinations."""
        page = self._page
        await self._go("/config/integrations/dashboard")
        await page.get_by_role("button", name="Add integration").click()
        await page.get_by_placeholder("Search for a brand name").fill("process cosmos")
        await page.get_by_text("Process Cosmos", exact=True).click()
        await self._choose("With the Process Cosmos app" if with_app else "Without the app", "with-or-without-the-app")
        if with_app:
            await self._choose("Continue without a broker", "no-broker")
        await page.locator("ha-device-picker").get_by_text(phone, exact=True).wait_for()
        await self.look("who-should-be-notified")
        await page.get_by_role("button", name="Submit").click()
        await self._choose("No" if with_app else "No, only notify people", "send-it-elsewhere")
        await page.get_by_text("Send a test notification").wait_for()
        await self.look("almost-done")
        await page.get_by_role("button", name="Submit").click()
        await page.get_by_role("button", name="Skip and finish").wait_for()
        await self.look("added")

    async def make_the_leak_guard(self, sensor: str, valve: str) -> None:
        """Follow the link shown after the set-up, and create an automation from the blueprint."""
        page = self._page
        await page.get_by_role("link", name="create the leak alarm").click()
        await page.get_by_text("Leak guard", exact=True).click()
        await page.get_by_text("Select an entity").click()
        await page.get_by_text(sensor, exact=True).click()
        await page.locator("ha-entity-picker").get_by_text(sensor, exact=True).wait_for()
        await page.locator("ha-entity-picker").last.click()
        await page.get_by_text(valve, exact=True).click()
        await page.locator("ha-entity-picker").get_by_text(valve, exact=True).wait_for()
        await self.look("leak-guard")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Traces").wait_for()

    async def send_a_test_notification(self, result: str) -> None:
        """Send a test notification from *Configure*, and wait for ``result``."""
        page = self._page
        await self._go("/config/integrations/integration/process_cosmos")
        await page.get_by_label("Configure").click()
        await page.get_by_text("Send a test notification").click()
        await page.get_by_text("As a critical alert", exact=True).wait_for()
        await page.get_by_role("button", name="Submit").click()
        await page.get_by_text(result).wait_for()
        await self.look("test-notification")

    async def add_the_integration_without_a_phone(self) -> None:
        """Add the integration without a phone: notifications in Home Assistant are preselected."""
        page = self._page
        await self._go("/config/integrations/dashboard")
        await page.get_by_role("button", name="Add integration").click()
        await page.get_by_placeholder("Search for a brand name").fill("process cosmos")
        await page.get_by_text("Process Cosmos", exact=True).click()
        await self._choose("Without the app", "with-or-without-the-app")
        await page.get_by_text("Install the Home Assistant companion app").wait_for()
        await self.look("without-a-phone")
        await page.get_by_role("button", name="Submit").click()
        await self._choose("No, only notify people", "send-it-elsewhere")
        await page.get_by_text("Send a test notification").wait_for()
        await page.get_by_role("button", name="Submit").click()
        await page.get_by_role("button", name="Skip and finish").wait_for()
        await self.look("added-without-a-phone")

    async def read_the_notification(self, words: str) -> None:
        """Open Home Assistant's own notifications and wait for ``words``."""
        page = self._page
        await self._go("/home")
        await page.get_by_text("Notifications", exact=True).first.click()
        await page.get_by_text(words).first.wait_for()
        await self.look("notification-in-home-assistant")

    async def look_at_the_repair(self, title: str) -> None:
        """Open the repair issue with this title."""
        await self._go("/config/repairs")
        await self._page.get_by_text(title).first.click()
        await self._page.get_by_text("Nothing is lost").wait_for()
        await self.look("destination-refuses")

    async def correct_the_destination(self, label: str, url: str) -> None:
        """Change the address of a webhook under *Configure*, and wait for its confirmation."""
        page = self._page
        await self._go("/config/integrations/integration/process_cosmos")
        await page.get_by_role("button", name="Configure").first.click()
        await self._choose("Destinations", "configure")
        await page.get_by_text(f"{label} (").first.wait_for()
        await self.look("destinations")
        await page.get_by_text(f"{label} (").first.click()
        await page.get_by_role("button", name="Next").click()
        await self._choose("Change", "destination")
        await page.locator("ha-selector-text input[type=url]").fill(url)
        await self.look("change-the-webhook")
        await page.get_by_role("button", name="Submit").click()
        await page.get_by_text("confirmed the test event").wait_for()
        await self.look("confirmed")

    async def look_at_the_site(self, device: str) -> None:
        """Open the device page of the site."""
        await self._go(f"/config/devices/device/{device}")
        await self._page.get_by_text("Open alerts").first.wait_for()
        await self._page.locator("ha-logbook ha-spinner").wait_for(state="detached")
        await self._page.wait_for_load_state("networkidle")  # icons are loaded last
        await self.look("site")

    async def look_at_the_repairs(self, number: int) -> None:
        """Open the list of repairs and wait until it has ``number`` entries."""
        await self._go("/config/repairs")
        await self._page.get_by_text(f"{number} repairs").wait_for()
        await self.look("repairs", 520)

    async def answer(self, alert: str, answer: str) -> None:
        """Run the action ``process_cosmos.answer`` in the developer tools."""
        page = self._page
        await self._go("/config/tools/action")
        await page.locator("ha-service-picker").click()
        await page.locator("ha-service-picker").get_by_placeholder("Search").fill("process_cosmos.answer")
        await page.get_by_text("process_cosmos.answer", exact=True).first.click()
        fields = page.locator("ha-service-control ha-selector-text")
        await fields.nth(0).locator("input").fill(alert)
        await fields.nth(1).locator("input").fill(answer)
        await self.look("answer")
        await page.get_by_role("button", name="Perform action").click()

    async def _choose(self, option: str, name: str) -> None:
        """Choose an option from a menu, which may appear only after the app was installed."""
        choice = self._page.get_by_text(option, exact=True)
        await choice.wait_for(timeout=3 * PATIENCE)
        await self.look(name)
        await choice.click()

    async def _go(self, path: str) -> None:
        await self._page.goto(self._url + path)
        await self._page.locator("#ha-launch-screen").wait_for(state="detached")


@asynccontextmanager
async def browser_at(url: str) -> AsyncIterator[Person]:
    """Open a browser; the environment variable CHROMIUM names the executable."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=Path(os.environ["CHROMIUM"]), chromium_sandbox=os.geteuid() != 0
        )
        page = await chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(PATIENCE)
        person = Person(page, url)
        try:
            yield person
        except BaseException:
            await person.look("failure")
            raise
        finally:
            await chromium.close()
