"""The app's page in a real browser behind Home Assistant's ingress: light and dark, wide and narrow, no scripts."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from playwright.async_api import Browser, Page, async_playwright

from process_cosmos_gateway.api.local_programs.tokens import read_tokens
from process_cosmos_gateway.api.session import Limits
from process_cosmos_gateway.contract.destinations import LinkState, Priority, StorageState, Waiting
from process_cosmos_gateway.contract.pairing import parse_pairing_line
from process_cosmos_gateway.options import BrokerOptions
from tests.gateway.api.facts import CLOUD, WELL, FakeStatus, page_of
from tests.gateway.api.services import ServerHarness, serving

from .browser import PATIENCE, SCREENSHOTS

INGRESS = "/api/hassio_ingress/made-up_token"
LONG = "A receiver with a name that somebody gave it who wanted to be quite clear about what it is for"
TROUBLE = replace(
    WELL,
    links=(
        CLOUD,
        replace(CLOUD, name="Hook", state=LinkState.OFFLINE, reason="timeout", last_contact_age=7300.0),
        replace(CLOUD, name=LONG, state=LinkState.REFUSED, reason="certificate_expired"),
    ),
    waiting=Waiting(urgent=3, change=214, reading=1_234_567),
    rejected=2,
    broker_connected=False,
    storage=StorageState.FULL,
    full=(Priority.CHANGE,),
)


@asynccontextmanager
async def behind_ingress(inside: str) -> AsyncIterator[str]:
    """Pass requests on as Home Assistant and its Supervisor do: below a path, the reply's charset lost on the way."""

    async def pass_on(request: web.Request) -> web.Response:
        url = f"{inside}/{request.match_info['path']}"
        headers = {name: value for name, value in request.headers.items() if not name.startswith(("Content-L", "Tra"))}
        headers |= {"X-Ingress-Path": INGRESS, "X-Forwarded-For": "192.168.1.20"}
        async with http.request(request.method, url, data=await request.read(), headers=headers) as reply:
            kept = {
                name: value for name, value in reply.headers.items() if not name.startswith(("Content-T", "Content-L"))
            }
            return web.Response(
                status=reply.status, body=await reply.read(), headers=kept, content_type=reply.content_type
            )

    application = web.Application()
    application.router.add_route("*", INGRESS + "/{path:.*}", pass_on)
    async with ClientSession() as http, TestServer(application) as server:
        yield str(server.make_url(INGRESS + "/"))


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        sandbox = os.geteuid() != 0
        chromium = await playwright.chromium.launch(
            executable_path=Path(os.environ["CHROMIUM"]), chromium_sandbox=sandbox
        )
        yield chromium
        await chromium.close()


@asynccontextmanager
async def somebody_looks(
    browser: Browser, url: str, scheme: str, width: int, name: str = "page"
) -> AsyncIterator[Page]:
    """Open the page on a screen; whatever the browser complains about fails the test."""
    page = await browser.new_page(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=False,
    )
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    await page.goto(url)
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
    assert not complaints
    await page.close()


@asynccontextmanager
async def app_with(status: FakeStatus, folder: Path, port: int) -> AsyncIterator[ServerHarness]:
    page = page_of(status, folder, port, BrokerOptions(host="core-mosquitto"), "127.0.0.1")
    async with serving(folder, port, Limits(), page) as server:
        yield server


async def test_the_page_can_be_read_on_any_screen_and_gives_a_pairing_line(
    tmp_path: Path, unused_tcp_port: int, browser: Browser
) -> None:
    status = FakeStatus(status=TROUBLE, ages={Priority.URGENT: 90.0})
    async with app_with(status, tmp_path, unused_tcp_port) as server, behind_ingress(server.url) as url:
        for scheme, width in (("light", 1000), ("dark", 1000), ("light", 320), ("dark", 360)):
            async with somebody_looks(browser, url, scheme, width) as page:
                await page.get_by_text(LONG).wait_for()
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
        async with somebody_looks(browser, url, "light", 360) as page:
            await page.get_by_role("button", name="Make a pairing line").click()
            assert page.url == f"{url}pair"
            line = parse_pairing_line(await page.locator("code").inner_text())
            await page.get_by_role("link", name="Back").click()
            assert page.url == url
        async with server.http.post(f"{line.url}/v1/pair", json={"secret": line.secret, "instance": "home"}) as reply:
            assert reply.status == 200


async def test_programs_get_their_tokens_on_the_page(tmp_path: Path, unused_tcp_port: int, browser: Browser) -> None:
    async with app_with(FakeStatus(), tmp_path, unused_tcp_port) as server, behind_ingress(server.url) as url:
        for scheme, width, name in (("light", 1000, "prometheus"), ("dark", 330, "the_weather_station_on_the_roof")):
            async with somebody_looks(browser, url, scheme, width, "programs") as page:
                await page.get_by_role("link", name="Tokens").click()
                await page.get_by_label("Name of the program").fill(name)
                await page.get_by_role("button", name="Make a token").click()
                token = await page.locator("code").inner_text()
                assert read_tokens(tmp_path).is_known(token)
                await page.get_by_role("link", name="All tokens").click()
                await page.get_by_role("button", name=f"Revoke {name}").wait_for()
                assert await page.evaluate("document.documentElement.scrollWidth") <= width
        async with somebody_looks(browser, f"{url}programs", "light", 360, "revoked") as page:
            await page.get_by_role("button", name=f"Revoke {name}").click()
            await page.get_by_role("button", name=f"Revoke {name}").wait_for(state="detached")
            assert not read_tokens(tmp_path).is_known(token)
