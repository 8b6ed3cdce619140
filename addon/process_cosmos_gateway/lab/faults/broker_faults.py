"""Faults of brokers: versions they do not know, topics they deny, keep-alives they shorten, ids they give out again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from process_cosmos_gateway.contract.destinations import BrokerLink
from process_cosmos_gateway.contract.devices import WriteProperty
from process_cosmos_gateway.devices.options import BrokerOptions
from process_cosmos_gateway.lab.devices import OPEN, Valve
from process_cosmos_gateway.lab.mqtt_proxy import Manners, MqttProxy, Reaction
from process_cosmos_gateway.lab.processes import until

from .fault import Fault, Scale
from .home import RequestFailedError
from .house import FaultError
from .site import Site

_DAY = 24 * 3600.0 + 1
_SILENCE = 11.0


async def other_brokers(site: Site, scale: Scale) -> None:
    """F32: 3.1.1 only, no ``$SYS``, Server Keep Alive, ids given out again; then QoS 0 only and denied topics."""
    async with _proxy(site) as proxy:
        async with site.traffic(rate=10, keys=2):
            for _ in range(scale.of(1, 5)):
                await _versions(site, proxy)
                for reaction in (Reaction.HANG_UP, Reaction.SILENCE):
                    await site.tell_machine("time", "skip", _DAY)
                    await _behave(site, proxy, Manners(to_sys=reaction), f"{reaction}_at_sys", skip=_SILENCE)
            await _keep_alive(site, proxy, *scale.of((2, 4.0), (5, 30.0)))
        await site.settle()
        await _killed(site)
        async with site.traffic(rate=10, keys=1):
            await asyncio.sleep(scale.of(0.5, 10.0))
        await site.settle()
        await _deny(site, proxy)


@asynccontextmanager
async def _proxy(site: Site) -> AsyncIterator[MqttProxy]:
    async with MqttProxy(site.broker_port) as proxy:
        site.to_broker.far_port = proxy.port
        site.to_broker.reset()
        try:
            yield proxy
        finally:
            site.to_broker.far_port = site.broker_port
            site.to_broker.reset()


async def _behave(site: Site, proxy: MqttProxy, manners: Manners, what: str, *, skip: float = 0.0) -> None:
    """Let the broker behave so to a new connection; return when it did, and the gateway is connected all the same."""
    before = proxy.counts[what]
    proxy.manners = manners
    await proxy.reset()
    await site.until_struck(what, lambda: proxy.counts[what], before=before, skip=skip)
    await _until_connected(site, skip)


async def _until_connected(site: Site, skip: float = 0.0) -> None:
    for _ in range(40):
        await asyncio.sleep(0.25)
        if site.home.status is not None and site.home.status.broker_connected:
            return
        if skip:
            await site.tell_machine("time", "skip", skip)
    raise FaultError("the gateway is not connected to the broker")


async def _versions(site: Site, proxy: MqttProxy) -> None:
    """Hang up at MQTT 5; be silent at it, a day later; speak it, another day later."""
    await _behave(site, proxy, Manners(to_5=Reaction.HANG_UP), "hang_up_at_5")
    await _until_version(site, "3.1.1")
    await site.tell_machine("time", "skip", _DAY)
    await _behave(site, proxy, Manners(to_5=Reaction.SILENCE), "silence_at_5", skip=_SILENCE)
    await site.tell_machine("time", "skip", _DAY)
    await _behave(site, proxy, Manners(), "connects_5")
    await _until_version(site, "5")


async def _until_version(site: Site, version: str) -> None:
    await until(lambda: (link := _link(site)) is not None and link.version == version, f"MQTT {version}")


def _link(site: Site) -> BrokerLink | None:
    return None if site.home.status is None else site.home.status.broker


async def _keep_alive(site: Site, proxy: MqttProxy, seconds: int, quiet: float) -> None:
    await _behave(site, proxy, Manners(keep_alive=seconds), "keep_alive_told")
    await asyncio.sleep(quiet)
    if missed := proxy.counts["keep_alive_missed"]:
        raise FaultError(f"the gateway missed a Server Keep Alive {missed} times")


async def _killed(site: Site) -> None:
    """Kill the broker once it has nothing to give out: it forgets its sessions, and begins with the first ids again."""
    site.prove("broker killed", await site.broker.kill() != 0)
    await site.start_broker()
    await _until_connected(site, 1.0)


async def _deny(site: Site, proxy: MqttProxy) -> None:
    """Deny a write; then take QoS 0 only. Nothing is said meanwhile: such a broker loses it."""
    broker = BrokerOptions(host="127.0.0.1", port=site.broker_port)
    async with Valve(broker, "valve-denied", safe_after=None) as valve:
        await _behave(site, proxy, Manners(denied=f"{valve.topic}/properties/{OPEN}/writeproperty"), "connects_5")
        await _until_denied(site)
        await until(lambda: (link := _link(site)) is not None and bool(link.denied), "denied topic in the status")
        before = proxy.counts["qos_not_supported"]
        await _behave(site, proxy, Manners(max_qos=0), "connects_5")
        await until(lambda: (link := _link(site)) is not None and link.max_qos == 0, "QoS 0 in the status")
        await _write(site, value=False)
        await valve.until(lambda: not valve.is_open)
        if proxy.counts["qos_not_supported"] > before:
            raise FaultError("the gateway published with QoS 1 where only QoS 0 is allowed")
    await _behave(site, proxy, Manners(), "connects_5")


async def _until_denied(site: Site) -> None:
    """Write until the device is known and the refusal says why."""
    async with asyncio.timeout(20):
        while "write_denied" not in (await _write(site, value=False) or ""):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.1)
    site.prove("writes denied", 1)


async def _write(site: Site, *, value: bool) -> str | None:
    """Write to the valve; return what the refusal says."""
    write = WriteProperty(id="valve", device="wot/valve-denied", property=OPEN, value=value)
    try:
        await site.home.request(write)
    except RequestFailedError as error:
        return str(error)
    return None


FAULTS = (Fault(name="F32", sentence="brokers that know less, deny, or forget", play=other_brokers, own_site=True),)
