"""Faults of time and of settings: clocks that jump, configurations that are pushed again."""

import asyncio
import time

from process_cosmos_gateway.contract.destinations import SetWebhook
from process_cosmos_testbed.testbed import WEBHOOK

from .fault import Scale
from .site import KINDS, Site

_HOUR = 3600.0
_YEAR = 365 * 24 * _HOUR


async def clock_jumps(site: Site, scale: Scale) -> None:
    """F19: the wall clock jumps by hours and years, also backwards during an outage; readings from the future."""
    async with site.traffic():
        site.sensors[-1].clock_wrong_by = 10 * _YEAR
        for jump in (_HOUR, -_HOUR, 10 * _YEAR, -10 * _YEAR):
            await _jump(site, jump)
            await asyncio.sleep(scale.of(0.5, 5.0))
        site.to_cloud.refuse()
        site.to_webhook.refuse()
        for jump in (-_HOUR, -10 * _YEAR):
            await _jump(site, jump)
            await asyncio.sleep(0.5)
            await site.kill_gateway()  # it starts with the right time again: for the gateway a jump forwards
            await site.start_gateway()
    site.prove("readings from the future", sum(at > time.time() + _YEAR for at in site.ledger.times.values()))


async def _jump(site: Site, seconds: float) -> None:
    before = await site.gateway.command_machine("time", "now")
    await site.gateway.command_machine("time", "shift", seconds)
    after = await site.gateway.command_machine("time", "now")
    site.prove(f"jumps of {seconds / _HOUR:+.0f} h", abs(after - before - seconds) < 60)  # noqa: PLR2004 - a slow machine


async def pushed_again(site: Site, scale: Scale) -> None:
    """F26: settings equal to the current ones are pushed, then others; queued events stay queued."""
    async with site.traffic():
        site.to_webhook.refuse()
        site.to_cloud.refuse()
        for number in range(scale.of(2, 10)):
            await site.until_struck(
                "events queued at a push of the same settings", lambda: len(site.ledger.missing_at(WEBHOOK))
            )
            await site.set_webhook()
            url = f"http://127.0.0.1:{site.to_webhook.port}/hook?number={number}"
            site.prove("events queued at a push of other settings", len(site.ledger.missing_at(WEBHOOK)))
            await site.home_assistant.request(SetWebhook(id=f"other-{number}", name=WEBHOOK, url=url, kinds=KINDS))
