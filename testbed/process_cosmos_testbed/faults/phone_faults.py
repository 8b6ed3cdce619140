"""F33: phones and notify entities that fail, change or disappear, with a real Home Assistant.

A push service that fails for an hour fails for 70 seconds here, which is two tries: Home Assistant's clock cannot be
shifted from outside. The whole hour is tested in tests/home_assistant/alerts/test_phone_faults.py.
"""

import asyncio
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.flows import DOMAIN, Flow
from process_cosmos_testbed.home_assistant.onboarding import onboard, register_phone
from process_cosmos_testbed.home_assistant.process import HomeAssistantProcess
from process_cosmos_testbed.home_assistant.push_service import PushService
from process_cosmos_testbed.processes import TestbedError, cancel_on_sigterm, free_port, until
from process_cosmos_testbed.report import Progress

REFUSING = {
    "server_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "unknown_token": HTTPStatus.NOT_FOUND,
}
"""Phones by the reply of their push service."""

UNREACHABLE = "unreachable"
"""A phone whose push service refuses connections."""

RENEWED = "registered_again"
TABLET = "tablet"
"""A phone that is reached through a group, whose notify entity is chosen and then renamed."""

FAILING = (*REFUSING, UNREACHABLE)
FAILS_FOR = 70.0
NOTIFIED_WITHIN = 60.0
"""Seconds after its push service is back until a phone must be notified; the test allows two more."""

MESSAGE = "地下室で水漏れ。" * 500
"""12 kB of UTF-8, far more than a push service accepts."""

NOBODY = "Nobody hears of this"


class PromiseBrokenError(TestbedError):
    """A promise was broken, or a fault did not take effect."""


@dataclass(frozen=True, slots=True)
class PhoneFaults:
    """All of F33: one alert for phones that fail, and one without recipients."""

    _home: HomeAssistantClient
    _working: PushService
    _stopped: PushService
    """A push service that refuses connections at first."""

    async def run(self, stack: AsyncExitStack) -> str:
        """Run the faults; return the result. Raises ``PromiseBrokenError``."""
        await self._set_up()
        alert = await self._alert(MESSAGE)
        await self._notified(RENEWED, "renewed")
        await self._notified(TABLET, TABLET)
        await asyncio.sleep(FAILS_FOR)
        early = [phone for phone in FAILING if self._service(phone).notifications_of(phone)]
        self._must(not early, "nobody is notified while the push service fails")
        tries = [self._working.refused[phone] for phone in REFUSING]
        self._must(min(tries) > 1, f"every phone is tried again each minute, not {tries} times")
        back = time.monotonic()
        self._working.refusing.clear()
        await stack.enter_async_context(self._stopped.listening(self._stopped.port))
        latest = max([await self._notified(phone, phone) - back for phone in FAILING])
        await self._home.action("process_cosmos.resolve", {"alert": alert})
        self._must(not await self._issues(), "no repair issue while everybody can be found")
        await self._remove_everybody()
        return (
            f"all {len(FAILING) + 2} recipients notified, {len(FAILING)} of them {latest:.0f} s or less after their"
            f" push service's return ({sum(tries)} refusals before); largest payload"
            f" {max(self._working.largest, self._stopped.largest)} bytes; without recipients: shown and reported"
        )

    async def _set_up(self) -> None:
        self._working.refusing |= REFUSING
        names = (*FAILING, RENEWED)
        phones = [await register_phone(self._home, name, self._service(name).url(name)) for name in names]
        await register_phone(self._home, TABLET, self._working.url(TABLET))
        group = await self._group_of(f"notify.{TABLET}")
        flow = Flow(self._home)
        await flow.begin()
        await flow.choose("without_app")
        await flow.fill("who", phones=[phone.device for phone in phones], notify_entities=[group])
        await flow.choose("finish")
        await flow.fill("finish", test_notification=False, install_blueprints=False)
        await register_phone(self._home, RENEWED, self._working.url("renewed"))
        await self._home.command("config/entity_registry/update", entity_id=group, new_entity_id="notify.kitchen")
        await self._until_exists("notify.kitchen")

    async def _group_of(self, member: str) -> str:
        """Add a helper that notifies ``member`` (a phone's own entity is not offered); return its entity."""
        await self._until_exists(member)
        flow = Flow(self._home)
        await flow.begin("group")
        await flow.choose("notify")
        await flow.fill("notify", name="Everybody", entities=[member], hide_members=False)
        await self._until_exists("notify.everybody")
        return "notify.everybody"

    async def _remove_everybody(self) -> None:
        for domain in ("mobile_app", "group"):
            for entry in await self._home.command("config_entries/get", domain=domain):
                await self._home.delete(f"/api/config/config_entries/entry/{entry['entry_id']}")

        async def is_reported() -> bool:
            return "nobody_left" in await self._issues()

        async def is_shown() -> bool:
            shown: list[dict[str, Any]] = await self._home.command("persistent_notification/get")
            return any(one["message"] == NOBODY for one in shown)

        await until(is_reported, "repair issue that nobody is left", 20)
        await self._alert(NOBODY)
        await until(is_shown, "alert among Home Assistant's own notifications", 10)

    async def _alert(self, message: str) -> str:
        data = {"message": message, "severity": "critical", "group": message[:20]}
        alert = await self._home.action("process_cosmos.alert", data, reply=True)
        return str(alert["id"])

    async def _notified(self, phone: str, address: str) -> float:
        """Wait until ``phone`` is notified; return when that was. More than one notification is an error."""
        service = self._service(phone)
        found = await until(lambda: service.notifications_of(address), f"notification at {phone}", NOTIFIED_WITHIN + 2)
        self._must(len(found) == 1, f"{phone} is notified once")
        return found[0].at

    def _service(self, phone: str) -> PushService:
        return self._stopped if phone == UNREACHABLE else self._working

    async def _until_exists(self, entity: str) -> None:
        async def exists() -> bool:
            return await self._home.state(entity) is not None

        await until(exists, entity, 20)

    async def _issues(self) -> list[str]:
        listed = await self._home.command("repairs/list_issues")
        return [str(issue["translation_key"]) for issue in listed["issues"] if issue["domain"] == DOMAIN]

    def _must(self, condition: object, promise: str) -> None:
        if not condition:
            raise PromiseBrokenError(f"broken: {promise}")


async def _run(folder: Path) -> str:
    working, stopped, process = PushService(), PushService(), HomeAssistantProcess(folder, "repairs:\n")
    stopped.port = free_port()  # nobody listens there yet, so that pushes are refused
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(working.listening())
        stack.push_async_callback(process.stop, 30)
        await process.start()
        client = HomeAssistantClient(process.url, await onboard(process.url))
        home = await stack.enter_async_context(client)
        await home.until_running()
        return await PhoneFaults(home, working, stopped).run(stack)


async def run_phone_faults(progress: Progress) -> bool:
    """Run F33; return whether every promise held. If not, the folder with Home Assistant's log stays."""
    cancel_on_sigterm()
    progress.say("F33: push services that fail, a phone registered again, a notify entity renamed, nobody left")
    folder = Path(tempfile.mkdtemp(prefix="process-cosmos-phones-"))
    begun = time.monotonic()
    try:
        held = await _run(folder)
    except (TestbedError, TimeoutError) as error:
        progress.say(f"    F33 BROKEN: {error}\n    logs: {folder}")
        return False
    progress.say(f"    F33 held: {held}  ({time.monotonic() - begun:.1f} s)")
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return True
