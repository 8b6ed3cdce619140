"""F33: phones and notify entities that fail, move or vanish, against a real Home Assistant: `scripts/faults`.

A push service that fails for an hour fails for 70 seconds here, which is two tries: Home Assistant's clock cannot be
shifted from outside. The whole hour is played in tests/home_assistant/alerts/test_phone_faults.py.
"""

import asyncio
import shutil
import signal
import tempfile
import time
from collections import Counter, defaultdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web

from process_cosmos_testbed.faults.runner import say
from process_cosmos_testbed.home_assistant.client import (
    HomeAssistantClient,
    HomeAssistantError,
    HomeAssistantUnreachableError,
)
from process_cosmos_testbed.home_assistant.onboarding import answers_http, onboard, prepare_folder, register_phone
from process_cosmos_testbed.processes import ManagedProcess, ProcessFailedError, free_ports
from process_cosmos_testbed.scenarios.leak_demo.house import BIN, ROOT, until
from process_cosmos_testbed.scenarios.leak_demo.setup import DOMAIN, Flow, FlowError

REFUSING = {
    "server_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "unknown_token": HTTPStatus.NOT_FOUND,
}
"""Phones by what their push service answers."""

UNREACHABLE = "unreachable"
ANEW = "registered_anew"
TABLET = "tablet"
"""A phone that is reached through a group, whose notify entity is chosen and then renamed."""

FAILING = (*REFUSING, UNREACHABLE)
FAILS_FOR = 70.0
NOTIFIED_WITHIN = 60.0
"""Seconds after its push service is back until a phone must be notified; the test allows two more."""

MOST_BYTES = 4096
MESSAGE = "地下室で水漏れ。" * 500
"""12 kB of UTF-8, far more than a push service takes."""


class FaultFailedError(Exception):
    """A promise was broken, or a fault did not strike."""


class PushService:
    """Push services on two ports: the second one can refuse connections."""

    def __init__(self) -> None:
        """Take everything at first, on the first port."""
        self.port, self.port_refusing = free_ports(2)
        self.failing = True
        self.notified: dict[str, list[float]] = defaultdict(list)
        """When each phone was notified of an alert, by the name in its address."""
        self.refused: Counter[str] = Counter()
        self.largest = 0
        self._runner = web.AppRunner(self._app(), access_log=None)

    async def start(self) -> None:
        """Listen on the first port."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def come_back(self) -> None:
        """Take every push again, also at the port that refused connections."""
        self.failing = False
        await web.TCPSite(self._runner, "127.0.0.1", self.port_refusing).start()

    async def stop(self) -> None:
        """Close both ports."""
        await self._runner.cleanup()

    def url(self, phone: str, address: str | None = None) -> str:
        """Return the push address of ``phone``."""
        port = self.port_refusing if phone == UNREACHABLE else self.port
        return f"http://127.0.0.1:{port}/push/{address or phone}"

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/push/{phone}", self._push)
        return app

    async def _push(self, request: web.Request) -> web.Response:
        phone = request.match_info["phone"]
        body = await request.read()
        if len(body) > MOST_BYTES:
            return web.json_response({"errorMessage": "too large"}, status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if self.failing and phone in REFUSING:
            self.refused[phone] += 1
            return web.json_response({"errorMessage": "made up"}, status=REFUSING[phone])
        self.largest = max(self.largest, len(body))
        if (await request.json())["message"] != "clear_notification":
            self.notified[phone].append(time.monotonic())
        return web.json_response({}, status=HTTPStatus.CREATED)


class PhoneFaults:
    """Plays all of F33 with one alert for the phones that fail, and one for nobody."""

    def __init__(self, home: HomeAssistantClient, push_service: PushService) -> None:
        """Take Home Assistant, and what pushes to phones."""
        self._home = home
        self._push_service = push_service

    async def play(self) -> str:
        """Play; return what came of it. Raises ``FaultFailedError``."""
        await self._set_up()
        alert = await self._alert(MESSAGE)
        await self._notified(ANEW, "anew")
        await self._notified(TABLET, TABLET)
        await asyncio.sleep(FAILS_FOR)
        self._must(not self._service_notified(FAILING), "nobody is notified while the push service fails")
        tries = [self._push_service.refused[phone] for phone in REFUSING]
        self._must(min(tries) > 1, f"every phone is tried again each minute, not {tries} times")
        back = time.monotonic()
        await self._push_service.come_back()
        latest = 0.0
        for phone in FAILING:
            latest = max(latest, await self._notified(phone, phone) - back)
        await self._home.action("process_cosmos.resolve", {"alert": alert})
        self._must(not await self._issues(), "no repair issue while everybody can be found")
        await self._remove_everybody()
        return (
            f"all {len(FAILING) + 2} recipients notified, {len(FAILING)} of them {latest:.0f} s or less after their"
            f" push service's return ({sum(tries)} refusals before);"
            f" largest payload {self._push_service.largest} bytes; nobody left: said"
        )

    async def _set_up(self) -> None:
        phones = [await register_phone(self._home, name, self._push_service.url(name)) for name in (*FAILING, ANEW)]
        await register_phone(self._home, TABLET, self._push_service.url(TABLET))
        group = await self._group_of(f"notify.{TABLET}")
        flow = Flow(self._home, "/api/config/config_entries/flow")
        await flow.begin(handler=DOMAIN)
        await flow.choose("without_app")
        await flow.fill("who", phones=[phone.device for phone in phones], notify_entities=[group])
        await flow.choose("finish")
        await flow.fill("finish", test_notification=False, install_blueprints=False)
        await register_phone(self._home, ANEW, self._push_service.url(ANEW, "anew"))
        await self._home.command("config/entity_registry/update", entity_id=group, new_entity_id="notify.kitchen")
        await until(lambda: self._exists("notify.kitchen"), "the renamed entity", 20)

    async def _group_of(self, member: str) -> str:
        """Add a helper that notifies ``member``; return its entity: a phone's own is not offered beside the phone."""
        await until(lambda: self._exists(member), member, 20)
        flow = Flow(self._home, "/api/config/config_entries/flow")
        await flow.begin(handler="group")
        await flow.choose("notify")
        await flow.fill("notify", name="Everybody", entities=[member], hide_members=False)
        await until(lambda: self._exists("notify.everybody"), "the group", 20)
        return "notify.everybody"

    async def _remove_everybody(self) -> None:
        for domain in ("mobile_app", "group"):
            for entry in await self._home.command("config_entries/get", domain=domain):
                await self._home.delete(f"/api/config/config_entries/entry/{entry['entry_id']}")
        await until(self._nobody_left, "the repair issue that nobody is left", 20)
        await self._alert("Nobody hears of this")
        await until(self._shown_here, "the alert among Home Assistant's own notifications", 10)

    async def _alert(self, message: str) -> str:
        data = {"message": message, "severity": "critical", "group": message[:20]}
        alert = await self._home.action("process_cosmos.alert", data, reply=True)
        return str(alert["id"])

    async def _notified(self, phone: str, address: str) -> float:
        """Return when ``phone`` was notified first, waiting for it; twice would be too often."""

        async def notified() -> float | None:
            times = self._push_service.notified[address]
            return times[0] if times else None

        moment = await until(notified, f"a notification at {phone}", NOTIFIED_WITHIN + 2)
        self._must(len(self._push_service.notified[address]) == 1, f"{phone} is notified once")
        return moment

    def _service_notified(self, phones: tuple[str, ...]) -> list[str]:
        return [phone for phone in phones if self._push_service.notified[phone]]

    async def _exists(self, entity: str) -> bool | None:
        return await self._home.state(entity) is not None or None

    async def _issues(self) -> list[str]:
        listed = await self._home.command("repairs/list_issues")
        return [str(issue["translation_key"]) for issue in listed["issues"] if issue["domain"] == DOMAIN]

    async def _nobody_left(self) -> bool | None:
        return "nobody_left" in await self._issues() or None

    async def _shown_here(self) -> bool | None:
        shown: list[dict[str, Any]] = await self._home.command("persistent_notification/get")
        return any(one["message"] == "Nobody hears of this" for one in shown) or None

    def _must(self, condition: object, promise: str) -> None:
        if not condition:
            raise FaultFailedError(f"broken: {promise}")


async def run(folder: Path) -> str:
    """Start Home Assistant and the push service in ``folder``, play, and stop both."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    prepare_folder(folder / "home-assistant", port, ROOT / "custom_components" / DOMAIN, "repairs:\n")
    process, push_service = ManagedProcess("home-assistant", folder), PushService()
    await push_service.start()
    try:
        await process.start(BIN / "hass", "-c", folder / "home-assistant", "--skip-pip")
        await process.until(lambda: answers_http(url), "its frontend", 90)
        async with HomeAssistantClient(url, await onboard(url)) as home:
            await home.until_running()
            return await PhoneFaults(home, push_service).play()
    finally:
        await process.stop(30)
        await push_service.stop()


async def main() -> bool:
    """Play; return whether every promise held. Where one did not, the folder with Home Assistant's log stays."""
    if (own := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)
    say("F33: push services that fail, a phone registered anew, a notify entity renamed, nobody left")
    folder = Path(tempfile.mkdtemp(prefix="process-cosmos-phones-"))
    begun = time.monotonic()
    try:
        held = await run(folder)
    except (
        FaultFailedError,
        FlowError,
        HomeAssistantError,
        HomeAssistantUnreachableError,
        ProcessFailedError,
    ) as error:
        say(f"    F33 BROKEN: {error}\n    logs: {folder}")
        return False
    say(f"    F33 held: {held}  ({time.monotonic() - begun:.1f} s)")
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return True
