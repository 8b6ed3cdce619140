"""All destinations of the site: their settings, their pumps, their links."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import DestinationKind, Link, SetCloud, SetWebhook
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.pairing import LineError, OneTimeLine, parse_line
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.escalations import Escalations
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store

from . import enrolment
from .cloud import Cloud, Credentials
from .destination import Destination
from .pump import Pump
from .renewal import Renewals, RenewFn
from .settings import (
    CloudSettings,
    Kept,
    Settings,
    address_of,
    check_name,
    forget,
    load_all,
    load_one,
    read_webhook,
    replace_credentials,
    save,
)
from .webhook import Webhook

type EnrolFn = Callable[[OneTimeLine, Ulid], Awaitable[Credentials]]


class Destinations:
    """Keeps settings (with their secrets) in the store and one pump running for each destination."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        escalations: Escalations,
        clock: Clock,
        *,
        jitter_fn: Callable[[], float] = random.random,
        enrol_fn: EnrolFn = enrolment.enrol,
        renew_fn: RenewFn = enrolment.renew,
    ) -> None:
        """Take the parts. ``jitter_fn`` returns a number in [0, 1].

        ``enrol_fn`` gets credentials for a code, ``renew_fn`` the next ones for those of an endpoint's URL.
        """
        self._store = store
        self._outbox = outbox
        self._escalations = escalations
        self._clock = clock
        self._jitter_fn = jitter_fn
        self._enrol_fn = enrol_fn
        self._renewals = Renewals(store, clock, renew_fn, self._renewed)
        self._pumps: dict[str, tuple[Pump, asyncio.Task[None]]] = {}
        self._changing = asyncio.Lock()
        self._running: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()

    def links(self) -> tuple[Link, ...]:
        """Return how each link stands, by name; addresses without what is secret in them."""
        return tuple(pump.link() for _, (pump, _) in sorted(self._pumps.items()))

    async def run(self) -> None:
        """Run a pump for each destination until cancelled; raises ``StoreError`` if the settings cannot be read."""
        kept = await self._store.read(load_all)
        try:
            async with asyncio.TaskGroup() as group:
                for entry in kept:
                    await self._outbox.register(entry.settings.name, entry.settings.kinds)
                    self._start(group, await self._build(entry.settings), entry)
                self._running.set_result(group)
                group.create_task(self._renewals.run(), name="renew certificates")
                await asyncio.Event().wait()
        finally:
            for pump, _ in self._pumps.values():
                await pump.close()

    async def set_webhook(self, request: SetWebhook) -> None:
        """Set or replace a webhook; what waits for it is tried at once. Raises ``RequestRefusedError``."""
        await self._set(DestinationKind.WEBHOOK, read_webhook(request))

    async def set_cloud(self, request: SetCloud) -> None:
        """Enrol at a cloud endpoint, then set or replace it. Raises ``RequestRefusedError``; then nothing changed."""
        check_name(request.name)
        try:
            line = parse_line(request.code)
        except LineError as error:
            message = "This is no one-time code, or a part of it is missing. It reads https://host:port#secret.sha256."
            raise RequestRefusedError(error.code, message) from None
        credentials = await self._enrol_fn(line, self._store.site)
        await self._set(
            DestinationKind.CLOUD,
            CloudSettings(name=request.name, kinds=request.kinds, url=line.url, credentials=credentials),
        )

    async def remove(self, name: str) -> None:
        """Forget a destination with what only it was waiting for; raise ``unknown_destination`` if there is none."""
        async with self._changing:
            await self._group()
            if name not in self._pumps:
                raise RequestRefusedError(Code.UNKNOWN_DESTINATION, "There is no destination of this name.")
            async with self._stopped(name):
                # The settings go last: after a crash in between it is there again, and nothing waits for nobody.
                await self._outbox.forget(name)
                await self._store.write(lambda transaction: forget(transaction, name))

    async def _set(self, kind: DestinationKind, settings: Settings) -> None:
        async with self._changing:
            group = await self._group()
            destination = await self._build(settings)
            try:
                # Nothing the old one still hears may be written beside the new one's settings.
                async with self._stopped(settings.name, destination):
                    await self._store.write(lambda transaction: save(transaction, kind, settings))
                    await self._outbox.register(settings.name, settings.kinds)
            except StoreError:
                await destination.close()
                raise
            self._start(group, destination, Kept(settings=settings))

    async def _renewed(self, old: CloudSettings, new: CloudSettings) -> None:
        """Go on with renewed credentials, unless a person has set the destination anew meanwhile."""
        async with self._changing:
            group = await self._group()
            kept = await self._store.read(lambda transaction: load_one(transaction, old.name))
            if kept is None or kept.settings != old:
                return
            destination = await self._build(new)
            async with self._stopped(new.name, destination):
                # Read again: what was settled until the old one stopped counts on.
                kept = await self._store.write(lambda transaction: replace_credentials(transaction, new))
            self._start(group, destination, kept)

    @asynccontextmanager
    async def _stopped(self, name: str, successor: Destination | None = None) -> AsyncIterator[None]:
        """Stop a destination while it is changed; if the disk refuses, go on with what it has, not ``successor``."""
        await self._stop(name)
        try:
            yield
        except StoreError:
            if successor is not None:
                await successor.close()
            group = await self._group()
            for kept in await self._store.read(load_all):
                if kept.settings.name == name:
                    self._start(group, await self._build(kept.settings), kept)
                    with suppress(StoreError):  # the next start registers it
                        await self._outbox.register(name, kept.settings.kinds)
            raise

    async def _group(self) -> asyncio.TaskGroup:
        """Wait until the kept destinations run; only then may they change."""
        return await asyncio.shield(self._running)

    def _start(self, group: asyncio.TaskGroup, destination: Destination, kept: Kept) -> None:
        pump = Pump(
            destination,
            kept=kept,
            store=self._store,
            outbox=self._outbox,
            escalations=self._escalations,
            clock=self._clock,
            jitter_fn=self._jitter_fn,
        )
        self._pumps[destination.name] = pump, group.create_task(pump.run(), name=f"destination {destination.name}")

    async def _stop(self, name: str) -> None:
        if name in self._pumps:
            pump, task = self._pumps.pop(name)
            task.cancel()
            await asyncio.wait({task})
            await pump.close()

    async def _build(self, settings: Settings) -> Destination:
        if isinstance(settings, CloudSettings):
            try:
                tls = await asyncio.to_thread(settings.credentials.tls)
            except ssl.SSLError as error:
                message = "The certificate the cloud endpoint gave cannot be used."
                raise RequestRefusedError(Code.ENROLMENT_REFUSED, message) from error
            return Cloud(
                name=settings.name,
                url=settings.url,
                kinds=settings.kinds,
                credentials=settings.credentials,
                tls=tls,
                epoch=self._store.epoch,
                now=self._clock.now,
            )
        return Webhook(
            name=settings.name,
            url=settings.url,
            address=address_of(settings.url),
            kinds=settings.kinds,
            headers=settings.headers,
        )
