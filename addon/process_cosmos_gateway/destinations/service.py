"""All destinations of the site: their settings, their pumps, their links."""

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from operator import attrgetter
from typing import Any

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import (
    ApproveReply,
    ChangeDestination,
    DestinationKind,
    DestinationTested,
    Link,
    SetCloud,
    SetWebhook,
    TestDestination,
)
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.events import encode_event, event_type
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory
from process_cosmos_gateway.contract.pairing import LineError, OneTimeLine, parse_line
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store

from . import enrolment
from .cloud import Cloud, Credentials
from .delivery_state import Sending
from .delivery_worker import DeliveryWorker
from .destination import Destination, ProbeResult
from .renewal import Renewals, RenewFn
from .settings import (
    CloudSettings,
    Kept,
    Settings,
    WebhookSettings,
    amend,
    approving,
    changed,
    check_name,
    forget,
    keeping_approvals,
    load_all,
    load_kinds,
    load_one,
    read_label,
    read_webhook,
    save,
    set_anew,
)
from .unusable import UNUSABLE, UnusableDestinations
from .webhook import Webhook

TEST = event_type("test")
"""The type of the event by which a person finds out whether a destination takes events."""

TEST_SECONDS = 25.0
"""A person waits for the outcome of a test no longer."""

_LOGGER = logging.getLogger(__name__)

type EnrolFn = Callable[[OneTimeLine, Ulid], Awaitable[Credentials]]


class Destinations:
    """Keeps settings (with their secrets) in the store and one pump running for each destination."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        alerts: Alerts,
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
        self._alerts = alerts
        self._clock = clock
        self._jitter_fn = jitter_fn
        self._enrol_fn = enrol_fn
        self._ulid_fn = UlidFactory(lambda: int(clock.now().timestamp() * 1000), secrets.token_bytes)
        self._renewals = Renewals(store, clock, renew_fn, self._renewed)
        self._pumps: dict[str, tuple[DeliveryWorker, asyncio.Task[None]]] = {}
        self._unusable = UnusableDestinations(clock)
        self._changing = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()
        self._running: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()

    def links(self) -> tuple[Link, ...]:
        """Return how each link stands, by name; addresses without what is secret in them."""
        links = (*(worker.link() for worker, _ in self._pumps.values()), *self._unusable.links())
        return tuple(sorted(links, key=attrgetter("name")))

    async def run(self) -> None:
        """Run a pump for each destination until cancelled; raises ``StoreError`` if the settings cannot be read."""
        kept, kinds = await self._store.read(lambda transaction: (load_all(transaction), load_kinds(transaction)))
        try:
            async with asyncio.TaskGroup() as group:
                for entry in kept:
                    await self._outbox.register(entry.settings.name, entry.settings.kinds)
                    await self._start_kept(group, entry)
                for name in kinds.keys() - self._pumps.keys():
                    self._unusable.add(name, kinds[name])
                    await self._outbox.mark_unreachable(name)
                self._running.set_result(group)
                group.create_task(self._renewals.run(), name="renew certificates")
                await asyncio.Event().wait()
        finally:
            for change in self._changes:
                change.cancel()
            await asyncio.gather(*self._changes, return_exceptions=True)
            for worker, _ in self._pumps.values():
                await worker.close()

    async def set_webhook(self, request: SetWebhook) -> None:
        """Set or replace a webhook; what waits for it is tried at once. Raises ``RequestRefusedError``."""
        await self._to_its_end(self._replace(DestinationKind.WEBHOOK, read_webhook(request)))

    async def change(self, request: ChangeDestination) -> None:
        """Change a destination, which keeps what waits for it, and try it at once. Raises ``RequestRefusedError``."""
        try:
            await self._amend(request.name, lambda settings: changed(settings, request))
        except RequestRefusedError as error:
            anew = set_anew(request)
            if anew is None or error.code != Code.UNKNOWN_DESTINATION or request.name not in self._unusable:
                raise
            await self.set_webhook(anew)

    async def approve(self, request: ApproveReply) -> None:
        """Let a webhook's reply count from now on, and try it at once. Raises ``RequestRefusedError``."""
        await self._amend(request.name, lambda settings: approving(settings, request.digest))

    async def test(self, request: TestDestination) -> DestinationTested:
        """Send a test event past the queue, by a connection of its own; if it is taken, try at once what waits.

        Raises ``unknown_destination`` if there is none of the name.
        """
        await self._group()
        kept = await self._store.read(lambda transaction: load_one(transaction, request.name))
        if kept is None:
            raise _unknown()
        destination = await self._build(kept.settings)
        try:
            async with asyncio.timeout(TEST_SECONDS):
                tested = await destination.probe(self._test_event(request.name))
        except TimeoutError:
            tested = ProbeResult(delivered=False, reason="timeout")
        finally:
            await destination.close()
        async with self._changing:
            if tested.delivered and request.name in self._pumps:
                await self._pumps[request.name][0].proven_by_test(kept.settings)
        return DestinationTested(
            id=request.id,
            delivered=tested.delivered,
            reason=tested.reason,
            status=tested.status,
            reply=tested.reply,
            approvable=tested.digest is not None,
            digest=tested.digest,
        )

    def _test_event(self, name: str) -> bytes:
        return encode_event(
            id=self._ulid_fn(),
            site=self._store.site,
            type=TEST,
            subject=name,
            time=self._clock.now(),
            data={"message": "This is a test. Nothing has happened, and nothing is to be done."},
        )

    async def set_cloud(self, request: SetCloud) -> None:
        """Enrol at a cloud endpoint, then set or replace it. Raises ``RequestRefusedError``; then nothing changed."""
        check_name(request.name)
        label = read_label(request.label)
        try:
            line = parse_line(request.code)
        except LineError as error:
            message = "This is no one-time code, or a part of it is missing. It reads https://host:port#secret.sha256."
            raise RequestRefusedError(error.code, message) from None

        async def enrol() -> None:
            credentials = await self._enrol_fn(line, self._store.site)  # the code is spent by now
            settings = CloudSettings(
                name=request.name, kinds=request.kinds, url=line.url, credentials=credentials, label=label
            )
            await self._replace(DestinationKind.CLOUD, settings)

        await self._to_its_end(enrol())

    async def remove(self, name: str) -> None:
        """Forget a destination with what only it was waiting for; raise ``unknown_destination`` if there is none."""
        await self._to_its_end(self._remove(name))

    async def _remove(self, name: str) -> None:
        async with self._changing:
            await self._group()
            if name not in self._pumps and name not in self._unusable:
                raise _unknown()
            async with self._stopped(name):
                # The settings go last: after a crash in between it is there again, and nothing waits for nobody.
                await self._outbox.unregister(name)
                await self._store.write(lambda transaction: forget(transaction, name))
            self._unusable.discard(name)

    async def _to_its_end(self, change: Coroutine[Any, Any, None]) -> None:
        """Run a change to its end, also when the session that asked for it ends: half of it would leave no sender."""
        task = asyncio.create_task(change, name="change a destination")
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    async def _replace(self, kind: DestinationKind, settings: Settings) -> None:
        async with self._changing:
            group = await self._group()
            before = await self._store.read(lambda transaction: load_one(transaction, settings.name))
            if before is not None and isinstance(settings, WebhookSettings):
                settings = keeping_approvals(settings, before.settings)
            destination = await self._build(settings)
            # Nothing the old one still hears may be written beside the new one's settings.
            async with self._stopped(settings.name, destination):
                await self._store.write(lambda transaction: save(transaction, kind, settings))
                await self._outbox.register(settings.name, settings.kinds)
            self._start(group, destination, Kept(settings=settings))

    async def _renewed(self, old: CloudSettings, new: CloudSettings) -> None:
        """Go on with renewed credentials, unless a person has enrolled anew, or removed the destination, meanwhile."""

        def renew(settings: Settings) -> Settings | None:
            if isinstance(settings, CloudSettings) and settings.credentials == old.credentials:
                return replace(settings, credentials=new.credentials)
            return None

        with suppress(RequestRefusedError):
            await self._amend(old.name, renew)

    async def _amend(self, name: str, amend_fn: Callable[[Settings], Settings | None]) -> None:
        """Go on with other settings (None: with the same), the queue, the inbox's cursor and the token of before.

        Raises ``unknown_destination`` if there is none of the name, and what ``amend_fn`` raises.
        """
        await self._to_its_end(self._go_on_with(name, amend_fn))

    async def _go_on_with(self, name: str, amend_fn: Callable[[Settings], Settings | None]) -> None:
        async with self._changing:
            group = await self._group()
            kept = await self._store.read(lambda transaction: load_one(transaction, name))
            if kept is None:
                raise _unknown()
            settings = amend_fn(kept.settings)
            if settings is None:
                return
            destination = await self._build(settings)
            async with self._stopped(name, destination):
                # Read again: what was settled until the old one stopped counts on.
                kept = await self._store.write(lambda transaction: amend(transaction, settings))
                await self._outbox.register(name, settings.kinds)
            self._start(group, destination, kept)

    @asynccontextmanager
    async def _stopped(self, name: str, successor: Destination | None = None) -> AsyncIterator[None]:
        """Stop a destination while it is changed; if the disk refuses, go on with what it has, not ``successor``."""
        try:
            await self._stop(name)
            yield
        except BaseException as error:  # cancelled, too
            if successor is not None:
                await successor.close()
            if isinstance(error, StoreError):
                await self._go_on_as_kept(name)
            raise

    async def _go_on_as_kept(self, name: str) -> None:
        group = await self._group()
        for kept in await self._store.read(load_all):
            if kept.settings.name == name:
                await self._start_kept(group, kept)
                with suppress(StoreError):  # the next start registers it
                    await self._outbox.register(name, kept.settings.kinds)

    async def _group(self) -> asyncio.TaskGroup:
        """Wait until the kept destinations run; only then may they change."""
        return await asyncio.shield(self._running)

    async def _start_kept(self, group: asyncio.TaskGroup, kept: Kept) -> None:
        """Start a destination as the store has it; leave it out if it cannot be used so."""
        try:
            destination = await self._build(kept.settings)
        except RequestRefusedError:
            name = kept.settings.name
            _LOGGER.exception("%s: %s is left out; set it up again, or remove it", UNUSABLE.reason, name)
            kind = DestinationKind.CLOUD if isinstance(kept.settings, CloudSettings) else DestinationKind.WEBHOOK
            self._unusable.add(name, kind, kept.settings)
        else:
            self._start(group, destination, kept)

    def _start(self, group: asyncio.TaskGroup, destination: Destination, kept: Kept) -> None:
        sending = Sending(
            destination,
            kept=kept,
            store=self._store,
            outbox=self._outbox,
            alerts=self._alerts,
            clock=self._clock,
            jitter_fn=self._jitter_fn,
        )
        worker = DeliveryWorker(sending)
        self._unusable.discard(destination.name)
        self._pumps[destination.name] = worker, group.create_task(worker.run(), name=f"destination {destination.name}")

    async def _stop(self, name: str) -> None:
        if name in self._pumps:
            worker, task = self._pumps.pop(name)
            task.cancel()
            try:
                await asyncio.wait({task})
            finally:
                await worker.close()

    async def _build(self, settings: Settings) -> Destination:
        if isinstance(settings, CloudSettings):
            try:
                tls = await asyncio.to_thread(settings.credentials.tls)
            except (ssl.SSLError, ValueError) as error:
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
                label=settings.label,
            )
        return Webhook(settings)


def _unknown() -> RequestRefusedError:
    return RequestRefusedError(Code.UNKNOWN_DESTINATION, "There is no destination of this name.")
