"""The one connection to the broker, opened again with exponential back-off whenever it ends."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from process_cosmos_gateway.backoff import exponential_delay
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.options import BrokerOptions

from . import errors as codes
from .connection import Connection, Message
from .errors import MqttError, UnreachableError
from .versions import VersionOrder

_LOGGER = logging.getLogger(__name__)

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 30.0
_STABLE_AFTER = 5.0
_CONFLICT_SECONDS = 60.0
_CONFLICT_LASTS = 300.0
_MAX_LOGGED_REASONS = 100


@dataclass(kw_only=True, eq=False)
class BrokerConnector:
    """The owner of the broker connection while ``run`` runs; ``connection`` is None while there is none.

    ``on_open`` makes the subscriptions; until it returns, ``connection`` stays None. ``on_ended``: a connection has
    ended, or an attempt that may have reached the broker. ``on_lost`` gets the reason of each end. ``on_stop``:
    ``run`` is being cancelled; nothing more is received, and received messages can still be acknowledged.
    """

    broker: BrokerOptions
    client_id: str
    on_message: Callable[[Connection, Message], None]
    on_open: Callable[[Connection], Awaitable[None]]
    on_ended: Callable[[], None]
    on_lost: Callable[[str], None]
    on_stop: Callable[[], Awaitable[None]]
    connection: Connection | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Begin without a connection."""
        self._takeovers: deque[float] = deque(maxlen=2)
        self._conflict_until = 0.0
        self._logged_reasons: set[str] = set()
        self._version_order = VersionOrder()

    @property
    def identity_conflict(self) -> bool:
        """Whether another client uses our client id.

        It must have taken over our session twice within a minute, and the last time within five minutes.
        """
        return asyncio.get_running_loop().time() < self._conflict_until

    async def run(self) -> None:
        """Connect and reconnect until cancelled. After an identity conflict the delay is the longest one."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            reason = await self._connect_once()
            # A broker that accepts and hangs up at once must not reset the back-off, or it gets a CONNECT every 0.1 s.
            failures = 0 if loop.time() - began > _STABLE_AFTER else failures + 1
            if reason == codes.TAKEN_OVER:
                self._note_taken_over(loop.time())
            if reason == codes.TAKEN_OVER and self.identity_conflict:
                reason, failures = codes.IDENTITY_CONFLICT, 16
            self._log_reason(reason)
            self.on_lost(reason)
            jitter = random.random()  # noqa: S311 - no secret
            await asyncio.sleep(exponential_delay(failures + 1, _FIRST_DELAY, _LONGEST_DELAY, jitter))

    def _log_reason(self, reason: str) -> None:
        """Log a reason once in an outage, and each kind of protocol error once in a lifetime."""
        if reason not in self._logged_reasons and len(self._logged_reasons) < _MAX_LOGGED_REASONS:
            self._logged_reasons.add(reason)
            _LOGGER.warning(
                "The MQTT broker is not connected (%s): devices cannot be read or written. Reconnecting", reason
            )

    def _note_taken_over(self, now: float) -> None:
        self._takeovers.append(now)
        is_second = len(self._takeovers) == 2 and now - self._takeovers[0] < _CONFLICT_SECONDS  # noqa: PLR2004
        if is_second or self.identity_conflict:
            self._conflict_until = now + _CONFLICT_LASTS

    async def _connect_once(self) -> str:
        """Open one connection and wait for its end; return the reason."""
        try:
            connection = await Connection.open(
                self.broker,
                client_id=self.client_id,
                on_message=self.on_message,
                keep_session=True,
                version_order=self._version_order,
                on_no_answer=self.on_ended,
            )
        except UnreachableError as error:
            # Not `on_ended`: the broker cannot have sent anything, so what it repeats later is still certain.
            return str(error)
        except MqttError as error:
            self.on_ended()
            return str(error)
        try:
            await self.on_open(connection)
            self.connection = connection
            self._logged_reasons = {
                reason for reason in self._logged_reasons if reason.startswith(codes.PROTOCOL_ERROR)
            }
            _LOGGER.info("Connected to the MQTT broker, version %s", connection.version)
            return await connection.ended()
        except StoreError as error:
            return f"{codes.STORE_FAILED}: {error}"
        except MqttError as error:
            return str(error)
        except asyncio.CancelledError:
            # Acknowledge what is stored while that is possible; otherwise the broker sends it again after the restart,
            # and device events are accepted a second time.
            connection.stop_reading()
            await self.on_stop()
            raise
        finally:
            self.connection = None
            connection.close()
            self.on_ended()
