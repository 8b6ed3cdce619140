"""The destinations of the site: their settings, delivery workers and links."""

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from operator import attrgetter
from typing import Any

from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.destinations import (
    ApproveReply,
    ChangeDestination,
    DestinationTested,
    Link,
    SetCloud,
    SetWebhook,
    TestDestination,
)
from process_cosmos_gateway.contract.durations import REQUEST_WITHIN
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.events import encode_event, event_type
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory
from process_cosmos_gateway.contract.pairing import LineError, OneTimeLine, parse_line
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store, Transaction

from . import enrolment
from .cloud import Cloud
from .delivery_state import DeliveryState
from .delivery_worker import DeliveryWorker
from .destination import Destination, ProbeResult
from .renewal import Renewals, RenewFn
from .settings import (
    CloudSettings,
    Credentials,
    Settings,
    StoredDestination,
    add_approval,
    apply_change,
    carry_over_approvals,
    check_label,
    check_name,
    delete,
    load_all,
    load_kinds,
    load_one,
    parse_webhook,
    save,
    update_settings,
    webhook_from_change,
)
from .unusable import UNUSABLE, UnusableDestinations
from .webhook import Webhook

TEST_TYPE = event_type("test")
"""The type of the test event sent on a person's request."""

TEST_SECONDS = REQUEST_WITHIN - 5
"""Time limit of a test, which leaves time for the reply."""

_LOGGER = logging.getLogger(__name__)

type EnrolFn = Callable[[OneTimeLine, Ulid], Awaitable[Credentials]]


@dataclass(eq=False, repr=False)
class Destinations:
    """Stores settings (with their secrets) and runs one delivery worker for each destination.

    ``jitter_fn`` returns a number in [0, 1]; ``on_link_change``: see ``links``. ``enrol_fn`` exchanges a one-time code
    for credentials, ``renew_fn`` gets the next ones from an endpoint's URL.
    """

    store: Store
    outbox: Outbox
    alerts: Alerts
    clock: Clock
    _: KW_ONLY
    jitter_fn: Callable[[], float] = random.random
    enrol_fn: EnrolFn = enrolment.enrol
    renew_fn: RenewFn = enrolment.renew
    on_link_change: Callable[[], None] = lambda: None
    _workers: dict[str, tuple[DeliveryWorker, asyncio.Task[None]]] = field(init=False, default_factory=dict)
    _changing: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)
    _changes: set[asyncio.Task[None]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        """Begin without workers; ``run`` starts them."""
        self._ulid_fn = UlidFactory(lambda: int(self.clock.now().timestamp() * 1000), secrets.token_bytes)
        self._renewals = Renewals(self.store, self.clock, self.renew_fn, self._apply_renewal)
        self._unusable = UnusableDestinations(self.clock)
        self._running: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()

    def links(self) -> tuple[Link, ...]:
        """Return the state of each link, ordered by name; addresses hold no secrets.

        ``on_link_change`` is called when one may have changed without a write to the store.
        """
        links = (*(worker.link() for worker, _ in self._workers.values()), *self._unusable.links())
        return tuple(sorted(links, key=attrgetter("name")))

    async def run(self) -> None:
        """Run a worker for each destination until cancelled; raise ``StoreError`` if the settings cannot be read."""
        stored, kinds = await self.store.read(lambda transaction: (load_all(transaction), load_kinds(transaction)))
        try:
            async with asyncio.TaskGroup() as group:
                for entry in stored:
                    # At each start: after a crash a stored destination may not have been registered yet.
                    await self.outbox.register(entry.settings.name, entry.settings.kinds)
                    await self._start_stored(group, entry)
                for name in kinds.keys() - self._workers.keys():
                    self._unusable.add(name, kinds[name])
                    await self.outbox.mark_unreachable(name)
                self._running.set_result(group)
                group.create_task(self._renewals.run(), name="renew certificates")
                await asyncio.Event().wait()
        finally:
            for change in self._changes:
                change.cancel()
            await asyncio.gather(*self._changes, return_exceptions=True)
            for worker, _ in self._workers.values():
                await worker.close()

    async def set_webhook(self, request: SetWebhook) -> None:
        """Set or replace a webhook and send waiting events at once. Raises ``RequestRefusedError``."""
        await self._run_to_completion(self._replace(parse_webhook(request)))

    async def change(self, request: ChangeDestination) -> None:
        """Change a destination, keep its waiting events and send them at once. Raises ``RequestRefusedError``."""
        try:
            await self._change(request.name, lambda settings: apply_change(settings, request))
        except RequestRefusedError as error:
            anew = webhook_from_change(request)
            if anew is None or error.code != Code.UNKNOWN_DESTINATION or request.name not in self._unusable:
                raise
            await self.set_webhook(anew)

    async def approve(self, request: ApproveReply) -> None:
        """Accept a webhook's reply as a confirmation and retry at once. Raises ``RequestRefusedError``."""
        await self._change(request.name, lambda settings: add_approval(settings, request.digest))

    async def test(self, request: TestDestination) -> DestinationTested:
        """Send a test event past the queue, over its own connection; on success send waiting events at once.

        Raises ``unknown_destination`` if there is none of this name.
        """
        await self._group()
        stored = await self.store.read(lambda transaction: load_one(transaction, request.name))
        if stored is None:
            raise _unknown_destination()
        destination = await self._build(stored.settings)
        try:
            async with asyncio.timeout(TEST_SECONDS):
                tested = await destination.probe(self._test_event(request.name))
        except TimeoutError:
            tested = ProbeResult(delivered=False, reason="timeout")
        finally:
            await destination.close()
        async with self._changing:
            if tested.delivered and request.name in self._workers:
                await self._workers[request.name][0].resume_after_test(stored.settings)
        return DestinationTested(
            id=request.id,
            approvable=tested.digest is not None,
            **asdict(tested),
        )

    def _test_event(self, name: str) -> bytes:
        return encode_event(
            id=self._ulid_fn(),
            site=self.store.site,
            type=TEST_TYPE,
            subject=name,
            time=self.clock.now(),
            data={"message": "This is a test. Nothing has happened and no action is needed."},
        )

    async def set_cloud(self, request: SetCloud) -> None:
        """Enrol at a cloud endpoint, then set or replace it. Raises ``RequestRefusedError`` with nothing changed."""
        check_name(request.name)
        label = check_label(request.label)
        try:
            line = parse_line(request.code)
        except LineError as error:
            message = "This is not a complete one-time code. A code has the form https://host:port#secret.sha256."
            raise RequestRefusedError(error.code, message) from None

        async def enrol() -> None:
            credentials = await self.enrol_fn(line, self.store.site)  # this uses up the code
            settings = CloudSettings(
                name=request.name, kinds=request.kinds, url=line.url, credentials=credentials, label=label
            )
            await self._replace(settings)

        await self._run_to_completion(enrol())

    async def remove(self, name: str) -> None:
        """Remove a destination and the events waiting only for it; raise ``unknown_destination`` if there is none."""
        await self._run_to_completion(self._remove(name))

    async def _remove(self, name: str) -> None:
        async with self._changing:
            await self._group()
            if name not in self._workers and name not in self._unusable:
                raise _unknown_destination()
            async with self._stopped(name):
                # The settings are deleted last: after a crash in between, the destination exists with an empty queue.
                await self.outbox.unregister(name)
                await self.store.write(lambda transaction: delete(transaction, name))
            self._unusable.discard(name)

    async def _run_to_completion(self, change: Coroutine[Any, Any, None]) -> None:
        """Complete a change even if the requesting session ends: half a change would leave no worker."""
        task = asyncio.create_task(change, name="change a destination")
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    async def _replace(self, settings: Settings) -> None:
        await self._install(settings.name, lambda before: carry_over_approvals(settings, before), save)

    async def _apply_renewal(self, old: CloudSettings, new: CloudSettings) -> None:
        """Store renewed credentials, unless the destination was enrolled again or removed meanwhile."""

        def renew(settings: Settings) -> Settings | None:
            if isinstance(settings, CloudSettings) and settings.credentials == old.credentials:
                return replace(settings, credentials=new.credentials)
            return None

        with suppress(RequestRefusedError):
            await self._change(old.name, renew)

    async def _change(self, name: str, change_fn: Callable[[Settings], Settings | None]) -> None:
        """Replace settings and restart the worker; queue, inbox cursor and token are kept. None: change nothing.

        Raises ``unknown_destination`` if there is none of this name, and whatever ``change_fn`` raises.
        """

        def change(before: Settings | None) -> Settings | None:
            if before is None:
                raise _unknown_destination()
            return change_fn(before)

        # Read again when it is written: the old worker may have settled events until it stopped.
        await self._run_to_completion(self._install(name, change, update_settings))

    async def _install(
        self,
        name: str,
        settings_fn: Callable[[Settings | None], Settings | None],
        write_fn: Callable[[Transaction, Settings], StoredDestination],
    ) -> None:
        """Restart a destination with the settings that ``settings_fn`` returns for the stored ones; None: leave it."""
        async with self._changing:
            group = await self._group()
            before = await self.store.read(lambda transaction: load_one(transaction, name))
            settings = settings_fn(None if before is None else before.settings)
            if settings is None:
                return
            # Built before the old worker is stopped: settings that cannot be used must change nothing.
            destination = await self._build(settings)
            # The old worker must not write beside the new one's settings.
            async with self._stopped(name, destination):
                stored = await self.store.write(lambda transaction: write_fn(transaction, settings))
                await self.outbox.register(name, settings.kinds)
            self._start(group, destination, stored)

    @asynccontextmanager
    async def _stopped(self, name: str, successor: Destination | None = None) -> AsyncIterator[None]:
        """Stop a destination while it is changed; if the store fails, restart it as stored, without ``successor``."""
        try:
            await self._stop(name)
            yield
        except BaseException as error:  # including cancellation
            if successor is not None:
                await successor.close()
            if isinstance(error, StoreError):
                await self._restart_from_store(name)
            raise

    async def _restart_from_store(self, name: str) -> None:
        group = await self._group()
        for stored in await self.store.read(load_all):
            if stored.settings.name == name:
                await self._start_stored(group, stored)
                with suppress(StoreError):  # the next start registers it
                    await self.outbox.register(name, stored.settings.kinds)

    async def _group(self) -> asyncio.TaskGroup:
        """Wait until the stored destinations run; only then may they be changed."""
        # Shielded: a caller that is cancelled must not cancel the future for all others.
        return await asyncio.shield(self._running)

    async def _start_stored(self, group: asyncio.TaskGroup, stored: StoredDestination) -> None:
        """Start a destination as stored; leave it out if it cannot be used."""
        try:
            destination = await self._build(stored.settings)
        except RequestRefusedError:
            name = stored.settings.name
            _LOGGER.exception(
                "%s: the credentials of %s cannot be used, so it is not used; set it up again or remove it",
                UNUSABLE.reason,
                name,
            )
            self._unusable.add(name, stored.settings.kind, stored.settings)
        else:
            self._start(group, destination, stored)

    def _start(self, group: asyncio.TaskGroup, destination: Destination, stored: StoredDestination) -> None:
        state = DeliveryState(
            destination=destination,
            stored=stored,
            store=self.store,
            outbox=self.outbox,
            alerts=self.alerts,
            clock=self.clock,
            jitter_fn=self.jitter_fn,
            on_change=self.on_link_change,
        )
        worker = DeliveryWorker(state)
        self._unusable.discard(state.name)
        self._workers[state.name] = worker, group.create_task(worker.run(), name=f"destination {state.name}")
        self.on_link_change()

    async def _stop(self, name: str) -> None:
        if name in self._workers:
            worker, task = self._workers.pop(name)
            task.cancel()
            try:
                # ``wait`` does not raise the CancelledError of the worker, which would seem to cancel this change.
                await asyncio.wait({task})
            finally:
                await worker.close()

    async def _build(self, settings: Settings) -> Destination:
        if isinstance(settings, CloudSettings):
            try:
                tls = await asyncio.to_thread(settings.credentials.tls)
            except (ssl.SSLError, ValueError) as error:
                message = "The certificate from the cloud endpoint cannot be used."
                raise RequestRefusedError(Code.ENROLMENT_REFUSED, message) from error
            return Cloud(settings, tls=tls, epoch=self.store.epoch, now=self.clock.now)
        return Webhook(settings)


def _unknown_destination() -> RequestRefusedError:
    return RequestRefusedError(Code.UNKNOWN_DESTINATION, "There is no destination of this name.")
