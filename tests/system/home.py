"""A real Home Assistant for tests in the browser: its process, its owner, a phone whose notifications arrive here."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.onboarding import Phone, onboard, register_phone
from process_cosmos_testbed.home_assistant.process import HomeAssistantProcess
from process_cosmos_testbed.home_assistant.push_service import PushService
from process_cosmos_testbed.scenarios.leak_demo.cellar import HOME_ASSISTANT_ENTITIES

PHONE = "ann"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """A running Home Assistant with one owner and one phone."""

    url: str
    api: HomeAssistantClient
    phone: Phone
    pushes: PushService


@asynccontextmanager
async def living_home(folder: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Lived]:
    """Run Home Assistant inside the block, with a cellar sensor and a cellar valve of its own.

    ``environment``: variables beside those of this process.
    """
    process, pushes = HomeAssistantProcess(folder, HOME_ASSISTANT_ENTITIES, environment), PushService()
    async with pushes.listening():
        try:
            await process.start()
            async with HomeAssistantClient(process.url, await onboard(process.url)) as api:
                await api.until_running()
                phone = await register_phone(api, PHONE, pushes.url(PHONE))
                yield Lived(url=process.url, api=api, phone=phone, pushes=pushes)
        finally:
            await process.stop()
