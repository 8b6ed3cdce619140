"""Keeps the one connection to the broker: opens it, and again whenever it ends."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable

from process_cosmos_gateway.devices.options import BrokerOptions
from process_cosmos_gateway.errors import StoreError

from . import errors as why
from .connection import Connection, Message
from .errors import MqttError, UnreachableError
from .versions import Versions

_LOGGER = logging.getLogger(__name__)

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 30.0
_WORKS_AFTER = 5.0
_CONFLICT_SECONDS = 60.0
_CONFLICT_STANDS = 300.0
_MOST_REASONS = 100


def next_delay(failures: int, jitter: float) -> float:
    """Return how long to wait after so many failures in a row; ``jitter`` from 0 to 1 spreads many gateways."""
    longest = min(_LONGEST_DELAY, _FIRST_DELAY * 2 ** min(failures, 16))
    return float(longest * (0.5 + jitter / 2))


class Bridge:
    """The broker, as long as ``run`` runs. ``connection`` None: it is away."""

    def __init__(
        self,
        broker: BrokerOptions,
        client_id: str,
        *,
        on_message: Callable[[Connection, Message], None],
        on_open: Callable[[Connection], Awaitable[None]],
        on_ended: Callable[[], None],
        on_lost: Callable[[str], None],
        on_stop: Callable[[], Awaitable[None]],
    ) -> None:
        """Take the callbacks.

        ``on_open`` subscribes; until it returns the broker counts as away. ``on_ended``: a connection has ended, or an
        attempt that may have reached the broker. ``on_stop``: ``run`` is being cancelled, nothing more is received, and
        what was received can still be acknowledged.
        """
        self._broker = broker
        self._client_id = client_id
        self._on_message = on_message
        self._on_open = on_open
        self._on_ended = on_ended
        self._on_lost = on_lost
        self._on_stop = on_stop
        self._taken_over: deque[float] = deque(maxlen=2)
        self._conflict_until = 0.0
        self._said: set[str] = set()
        self._versions = Versions()
        self.connection: Connection | None = None

    @property
    def identity_conflict(self) -> bool:
        """Whether another client takes our name: twice within a minute, and again within five minutes since."""
        return asyncio.get_running_loop().time() < self._conflict_until

    async def run(self) -> None:
        """Connect, for ever; backing off, and with patience if another has our name."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            reason = await self._connect_once()
            failures = 0 if loop.time() - began > _WORKS_AFTER else failures + 1
            if reason == why.TAKEN_OVER:
                self._note_taken_over(loop.time())
            if reason == why.TAKEN_OVER and self.identity_conflict:
                reason, failures = why.IDENTITY_CONFLICT, 16
            self._name(reason)
            self._on_lost(reason)
            await asyncio.sleep(next_delay(failures, random.random()))  # noqa: S311 - no secret

    def _name(self, reason: str) -> None:
        """Name a reason in the log: once an outage, and once for each kind of what cannot be read."""
        if reason not in self._said and len(self._said) < _MOST_REASONS:
            self._said.add(reason)
            _LOGGER.warning("The broker is away (%s); trying again until it is back", reason)

    def _note_taken_over(self, now: float) -> None:
        self._taken_over.append(now)
        is_second = len(self._taken_over) == 2 and now - self._taken_over[0] < _CONFLICT_SECONDS  # noqa: PLR2004
        if is_second or self.identity_conflict:
            self._conflict_until = now + _CONFLICT_STANDS

    async def _connect_once(self) -> str:
        """Return why it ended."""
        try:
            connection = await Connection.open(
                self._broker,
                client_id=self._client_id,
                on_message=self._on_message,
                keep_session=True,
                versions=self._versions,
                on_no_answer=self._on_ended,
            )
        except UnreachableError as error:
            return str(error)
        except MqttError as error:
            self._on_ended()
            return str(error)
        try:
            await self._on_open(connection)
            self.connection = connection
            self._said = {said for said in self._said if said.startswith(why.PROTOCOL_ERROR)}
            _LOGGER.info("Connected to the broker, MQTT %s", connection.version)
            return await connection.ended()
        except StoreError as error:
            return f"{why.STORE_FAILED}: {error}"
        except MqttError as error:
            return str(error)
        except asyncio.CancelledError:
            connection.stop_reading()
            await self._on_stop()
            raise
        finally:
            self.connection = None
            connection.close()
            self._on_ended()
