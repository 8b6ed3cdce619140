"""Faults of brokers: unsupported versions, denied topics, shortened keep-alives, reused message ids."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from process_cosmos_gateway.contract.destinations import BrokerLink
from process_cosmos_gateway.contract.devices import WriteProperty
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.fake_home_assistant import RequestFailedError
from process_cosmos_testbed.mqtt_proxy import Manners, MqttProxy, Reaction
from process_cosmos_testbed.processes import until
from process_cosmos_testbed.virtual_devices.kinds import OPEN, Valve
from process_cosmos_testbed.virtual_devices.sensors import NumberedSensor

from .bounds import QUICK_PATIENCE, Bounds
from .fault import Scale
from .site import FaultError, Site

_DAY = 24 * 3600.0 + 1  # the gateway tries MQTT 5 and ``$SYS`` again after 24 hours
_SILENCE = 11.0  # the gateway waits 10 s for an answer of a broker
_PULSES = 100
"""More than devices send by themselves when their broker is back, since those messages get the first ids."""


async def other_brokers(site: Site, scale: Scale) -> None:
    """F32: 3.1.1 only, no ``$SYS``, Server Keep Alive, reused ids; then QoS 0 only and denied topics."""
    bounds = Bounds(site, scale.of(QUICK_PATIENCE, 1.0))
    [sensor] = await site.add_sensors(1)
    async with _proxy(site) as proxy:
        broker = _Broker(site, proxy, sensor)
        async with site.traffic(rate=10, keys=2), bounds.held("broker that knows less"):
            # One figure for all rounds: the 99th percentile of one round's hundred waits is the longest of them.
            for _ in range(scale.of(1, 5)):
                await broker.change_versions()
                for reaction in (Reaction.HANG_UP, Reaction.SILENCE):
                    await site.skip(_DAY)
                    await broker.behave(Manners(to_sys=reaction), f"{reaction}_at_sys", skip=_SILENCE)
        await site.settle()
        await broker.shorten_keep_alive(*scale.of((2, 4.0), (5, 30.0)))
        async with bounds.held("broker killed"):
            await broker.give_ids_out_again(scale.of(1, 5))
            async with site.traffic(rate=10, keys=1):
                await asyncio.sleep(scale.of(0.5, 10.0))
        await site.settle()
        await broker.deny()


@asynccontextmanager
async def _proxy(site: Site) -> AsyncIterator[MqttProxy]:
    async with MqttProxy(site.broker.port) as proxy:
        site.to_broker.redirect(proxy.port)
        try:
            yield proxy
        finally:
            site.to_broker.redirect(site.broker.port)


@dataclass(frozen=True, slots=True)
class _Broker:
    """The broker behind ``proxy``; ``sensor`` shows whether the gateway still receives from devices."""

    site: Site
    proxy: MqttProxy
    sensor: NumberedSensor

    async def behave(self, manners: Manners, what: str, *, skip: float = 0.0) -> None:
        """Apply ``manners`` to a new connection; return when they took effect and a later message was received."""
        before = self.proxy.counts[what]
        self.proxy.manners = manners
        await self.proxy.reset()
        await self.site.until_struck(what, lambda: self.proxy.counts[what], before=before, skip=skip)
        await self.site.until_heard(self.sensor, skip=skip)

    async def change_versions(self) -> None:
        """Close connections of MQTT 5; a day later ignore them; another day later support them."""
        await self.behave(Manners(to_5=Reaction.HANG_UP), "hang_up_at_5")
        await self._until_link(lambda link: link.version == "3.1.1", "MQTT 3.1.1")
        await self.site.skip(_DAY)
        await self.behave(Manners(to_5=Reaction.SILENCE), "silence_at_5", skip=_SILENCE)
        await self.site.skip(_DAY)
        await self.behave(Manners(), "connects_5")
        await self._until_link(lambda link: link.version == "5", "MQTT 5")

    async def shorten_keep_alive(self, seconds: int, quiet: float) -> None:
        """Send a Server Keep Alive while no other messages flow: an acknowledgement would be a sign of life, too."""
        await self.behave(Manners(keep_alive=seconds), "keep_alive_told")
        await self.site.settle()
        before, missed = self.proxy.counts["pings"], self.proxy.counts["keep_alive_missed"]
        await asyncio.sleep(quiet)
        self.site.prove("pings for the Server Keep Alive", self.proxy.counts["pings"] - before)
        if missed := self.proxy.counts["keep_alive_missed"] - missed:
            raise FaultError(f"the gateway missed a Server Keep Alive {missed} times")

    async def give_ids_out_again(self, rounds: int) -> None:
        """Kill the broker, so that it reuses message ids for equal messages."""
        # A killed broker returns to this state, which knows none of the ids it gives out later.
        await self.site.broker.save()
        await self._pulse()
        for _ in range(rounds):
            self.site.prove("broker killed", await self.site.broker.kill() != 0)
            await self.site.broker.start()
            await self.site.until_heard(self.sensor, skip=1.0)
            before = self.proxy.counts["ids_given_out_again"]
            await self._pulse()
            self.site.prove("ids given out again", max(0, self.proxy.counts["ids_given_out_again"] - before))

    async def _pulse(self) -> None:
        for _ in range(_PULSES):
            await self.sensor.pulse()
        await self.site.settle()

    async def deny(self) -> None:
        """Deny a write; then accept QoS 0 only. No judged items are sent meanwhile: such a broker loses them."""
        options = BrokerOptions(host="127.0.0.1", port=self.site.broker.port)
        # Without a time after which it closes by itself: only the gateway's write may close it.
        async with Valve(options, "valve-denied", safe_after=None) as valve:
            topic = f"{valve.topic}/properties/{OPEN}/writeproperty"
            await self.behave(Manners(denied=topic), "connects_5")
            await _until_denied(self.site)
            await self._until_link(lambda link: bool(link.denied), "denied topic")
            before = self.proxy.counts["qos_not_supported"]
            await self.behave(Manners(max_qos=0), "connects_5")
            await self._until_link(lambda link: link.max_qos == 0, "QoS 0")
            await _write(self.site, value=False)
            await valve.until(lambda: not valve.is_open)
            if self.proxy.counts["qos_not_supported"] > before:
                raise FaultError("the gateway published with QoS 1 where only QoS 0 is allowed")
        await self.behave(Manners(), "connects_5")

    async def _until_link(self, is_so: Callable[[BrokerLink], bool], what: str) -> None:
        def said() -> bool:
            status = self.site.home_assistant.status
            return status is not None and status.broker is not None and is_so(status.broker)

        await until(said, f"{what} in the status")


async def _until_denied(site: Site) -> None:
    """Write until the device is known and the refusal has its reason."""
    async with asyncio.timeout(20):
        while "write_denied" not in (await _write(site, value=False) or ""):  # noqa: ASYNC110 - the gateway has no event for it
            await asyncio.sleep(0.1)
    site.prove("writes denied", 1)


async def _write(site: Site, *, value: bool) -> str | None:
    """Write to the valve; return the text of a refusal."""
    write = WriteProperty(id="valve", device="wot/valve-denied", property=OPEN, value=value)
    try:
        await site.home_assistant.request(write)
    except RequestFailedError as error:
        return str(error)
    return None
