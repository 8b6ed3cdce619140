"""The demo's site: the testbed's processes, a real Home Assistant, a kitchen, and what observes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from process_cosmos_testbed.home_assistant.process import HomeAssistantProcess
from process_cosmos_testbed.services import GatewayProcess
from process_cosmos_testbed.testbed import Testbed

from .cellar import HOME_ASSISTANT_ENTITIES
from .kitchen import Kitchen, connected_kitchen
from .observer import Observer


class DemoSite(Testbed[GatewayProcess]):
    """A site with a real Home Assistant; all of it runs inside ``started``."""

    def __init__(self, folder: Path, yaml: str = "") -> None:
        """Keep everything in ``folder``; ``yaml``: further configuration of Home Assistant."""
        self.observer = Observer(folder)
        super().__init__(folder, GatewayProcess(folder), self.observer.take_event, {})
        # No fault of the demo concerns the broker, and a proxy would add to the reported latencies.
        self.is_direct = True
        self.home_assistant = HomeAssistantProcess(folder, HOME_ASSISTANT_ENTITIES + yaml)
        self.kitchen: Kitchen

    @asynccontextmanager
    async def started(self) -> AsyncIterator[DemoSite]:
        """Run everything inside the block."""
        async with self.running() as stack:
            await stack.enter_async_context(self.observer.push_service.listening())
            stack.push_async_callback(self.home_assistant.stop, 30)
            await self.home_assistant.start()
            self.background.watch(self.home_assistant)
            self.kitchen = await stack.enter_async_context(connected_kitchen(self.broker.options, self.observer))
            yield self

    async def one_time_code(self) -> str:
        """Return a one-time code of the cloud endpoint, which leads through the proxy."""
        return await self.cloud.one_time_code(self.to_cloud.port)

    async def answer_at_the_cloud(self, alert: str, answer: str, by: str) -> None:
        """Answer an alert as an operator at the cloud endpoint does."""
        await self.cloud.run_command("answer", "--by", by, alert, answer)
