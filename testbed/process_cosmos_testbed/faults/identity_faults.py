"""Faults of identity: expired and revoked certificates, a new authority, a copied gateway."""

import shutil

from process_cosmos_testbed.processes import until
from process_cosmos_testbed.testbed import CLOUD

from .fault import Scale
from .site import Site

_DAY = 86400.0
_YEAR = 366 * _DAY
_QUEUED = 10


async def identities(site: Site, scale: Scale) -> None:
    """F20: certificate expired while offline, revoked, authority rotated; two gateways with one identity."""
    site.ledger.rewound = True
    async with site.traffic(rate=5, keys=2):
        for _ in range(scale.of(1, 3)):
            await _expired(site)
            await _rotated(site)
            await _taken_back(site)
            await _copied(site)


async def _expired(site: Site) -> None:
    """Let the certificate expire during an outage, by the gateway's clock."""
    site.to_cloud.refuse()
    await site.gateway.command_machine("time", "shift", _YEAR)
    await site.skip(901)
    await site.until_reason(CLOUD, "certificate_expired")
    await site.gateway.command_machine("time", "shift", -_YEAR)
    site.to_cloud.heal()
    # A refused link is tried again after 900 s.
    await site.skip(901)
    await site.until_flowing()


async def _rotated(site: Site) -> None:
    """Rotate the authority and restart the endpoint with the new one."""
    before = (site.cloud.data / "ca.pem").read_bytes()
    await site.cloud.run_command("rotate-ca")
    await site.cloud.stop()
    await site.cloud.start()
    site.prove("authority rotated", (site.cloud.data / "ca.pem").read_bytes() != before)
    await site.until_flowing()


async def _taken_back(site: Site) -> None:
    """Revoke the site's certificates at the endpoint; a person enrols it again."""
    await site.cloud.run_command("revoke", site.home_assistant.site)
    await site.until_reason(CLOUD, "certificate_revoked")
    await site.set_cloud()
    await site.until_flowing()


async def _copied(site: Site) -> None:
    """Start a copy of the gateway with queued events beside it; both send until the endpoint reports the conflict."""
    site.to_cloud.refuse()
    waiting = len(site.ledger.missing_at(CLOUD))
    await until(lambda: len(site.ledger.missing_at(CLOUD)) > waiting + _QUEUED, "events queued in the copy")
    queued = set(site.ledger.missing_at(CLOUD))
    # Stopped, because a copy of an SQLite database that is in use is damaged.
    await site.gateway.stop()
    copy = site.folder / "copy"
    shutil.copytree(site.database.parent, copy)
    site.to_cloud.heal()
    await site.start_gateway()
    await site.until_flowing()
    # The copy has few events: if they arrived first, the endpoint could not notice the conflict.
    await until(lambda: queued.isdisjoint(site.ledger.missing_at(CLOUD)), "arrival of what was queued")
    async with site.copied_gateway(copy):
        await until(lambda: site.reason(CLOUD) == "identity_conflict", "conflict of identities")
        site.prove("two gateways with one identity", 1)
    shutil.rmtree(copy)
    await site.set_cloud()
    await site.until_flowing()
