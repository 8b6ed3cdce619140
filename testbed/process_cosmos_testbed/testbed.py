"""The processes of one site, with a proxy on each connection between them, and what arrives at its destinations."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from .arrivals import read_lines
from .broker import ANONYMOUS, Broker
from .processes import LOCAL, Background
from .proxy import FaultProxy
from .services import CloudProcess, GatewayProcess, toml
from .webhook_receiver import WebhookReceiver

CLOUD, WEBHOOK = "cloud", "webhook"
"""The names of both destinations."""

# By default Mosquitto queues 1,000 messages for a client; it drops the others without telling their senders.
_LINES = (*ANONYMOUS, "autosave_interval 0", "max_queued_messages 100000", "max_packet_size 268435455")

type TakeEvent = Callable[[str, Mapping[str, Any], bool], None]
"""Gets the name of a destination, the CloudEvent that arrived there, and whether the destination accepted it as new."""


class Testbed[G: GatewayProcess]:
    """Broker, cloud endpoint, webhook receiver and gateway; all of them run inside ``running``.

    ``settings``: options of the gateway beside its folder, ports and broker.
    """

    def __init__(self, folder: Path, gateway: G, take_event: TakeEvent, settings: Mapping[str, Any]) -> None:
        """Prepare everything in ``folder`` without starting it."""
        self.folder = folder
        self.broker = Broker(folder, _LINES)
        self.cloud = CloudProcess(folder)
        self.gateway = gateway
        self.receiver = WebhookReceiver(lambda event, fresh: take_event(WEBHOOK, event, fresh))
        self.to_broker = FaultProxy(LOCAL, self.broker.port)
        self.to_cloud = FaultProxy(LOCAL, self.cloud.port)
        self.to_webhook = FaultProxy(LOCAL, 0)
        self.links = (self.to_cloud, self.to_webhook)
        self.proxies = (*self.links, self.to_broker)
        self.is_direct = False
        """Whether the gateway connects to the broker without the proxy, from its next start on."""
        self.events_at_cloud = 0
        self.background = Background()
        self._take_event = take_event
        self._settings = dict(settings)

    @property
    def database(self) -> Path:
        """The gateway's database."""
        return self.gateway.data / "gateway.sqlite"

    def counted(self, *figures: str) -> int:
        """Return the sum of some ``figures`` of the proxies before both destinations (``proxy.Counts``)."""
        return sum(getattr(proxy.counts, figure) for proxy in self.links for figure in figures)

    async def start_gateway(self) -> float:
        """Start the gateway; return the seconds until its health check passes."""
        port = self.broker.port if self.is_direct else self.to_broker.port
        self.gateway.options = toml({**self._settings, "mqtt_host": LOCAL, "mqtt_port": port})
        return await self.gateway.start()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[AsyncExitStack]:
        """Run everything inside the block; yield the stack that stops what is entered later first."""
        async with AsyncExitStack() as stack:
            self.to_webhook.far_port = await stack.enter_async_context(self.receiver.listening())
            for proxy in self.proxies:
                await stack.enter_async_context(proxy)
            for process in (self.broker, self.cloud, self.gateway):
                stack.push_async_callback(process.stop)
            await stack.enter_async_context(self.background)
            await asyncio.gather(self.broker.start(), self.cloud.start())
            follower = await self.cloud.follow()
            stack.push_async_callback(follower.kill)
            await self.start_gateway()
            self.background.watch(self.broker, self.cloud, self.gateway, follower)
            self.background.add("reader of the cloud endpoint's ledger", self._read_cloud_ledger())
            yield stack

    async def _read_cloud_ledger(self) -> None:
        async for event in read_lines(self.cloud.arrivals):
            self.events_at_cloud += 1
            self._take_event(CLOUD, event, not event["duplicate"])
