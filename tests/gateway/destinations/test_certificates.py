"""The effect of certificates and copied disks on the link of a real gateway to a real endpoint over real TLS."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest

from process_cosmos_cloud.authority import GRACE_DAYS, Authority
from process_cosmos_gateway.contract.destinations import LinkState
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.pairing import OneTimeLine, parse_line
from process_cosmos_gateway.destinations import enrolment, renewal
from process_cosmos_gateway.destinations.settings import (
    CloudSettings,
    Credentials,
    StoredDestination,
    load_one,
    update_settings,
)
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.store import Transaction
from tests.cloud.endpoint import EndpointProcess, run_command
from tests.cloud.endpoint import Site as Wire
from tests.support.waiting import until

from .conftest import Site, running_site
from .parts import event_id


async def kept(site: Site) -> StoredDestination:
    """Return the stored cloud endpoint of the site."""
    found = await site.store.read(lambda transaction: load_one(transaction, "cloud"))
    assert found is not None
    return found


async def change(site: Site, credentials: Credentials, url: str | None = None) -> None:
    """Replace the site's credentials, as after a long pause."""
    settings = (await kept(site)).settings
    assert isinstance(settings, CloudSettings)
    changed = replace(settings, credentials=credentials, url=url or settings.url)
    await site.store.write(lambda transaction: update_settings(transaction, changed))
    await site.restart()


async def credentials_of(site: Site) -> Credentials:
    """Return the site's current credentials."""
    settings = (await kept(site)).settings
    assert isinstance(settings, CloudSettings)
    return settings.credentials


async def delivered(site: Site) -> None:
    """Wait until the queue is empty."""
    async with asyncio.timeout(20):
        while await site.waiting():
            pass


async def refused(site: Site, code: Code) -> None:
    """Wait until the link is refused with ``code``."""
    await until(
        lambda: [(link.state, link.reason) for link in site.destinations.links()] == [(LinkState.REFUSED, code)]
    )


async def renewed(site: Site, old: Credentials) -> Credentials:
    """Wait until the site's credentials differ from ``old``."""
    async with asyncio.timeout(20):
        while (now := await credentials_of(site)) == old:
            pass
    return now


async def expired(site: Site, cloud: EndpointProcess, days: int) -> Credentials:
    """Return the site's credentials as they are so many days after their expiry."""
    old = await credentials_of(site)
    then = datetime.now(UTC) - timedelta(days=365 + days)
    wire = Wire.new(site.store.site, cloud.url)
    certificate = Authority(cloud.folder, now_fn=lambda: then).issue(wire.request(), site.store.site).certificate
    end = then + timedelta(days=365)
    return replace(old, key=wire.key_pem(), certificate=certificate, renew_at=then, expires_at=end)


async def test_a_certificate_is_renewed_from_half_of_its_lifetime_by_a_child_process(
    site: Site, cloud: EndpointProcess
) -> None:
    await site.set_cloud(await cloud.code())
    await site.accept(1)
    await delivered(site)
    first = await credentials_of(site)
    half = replace(first, renew_at=datetime.now(UTC) - timedelta(seconds=1))

    await change(site, half)
    second = await renewed(site, half)
    await site.accept(2)
    await delivered(site)

    assert second.key != first.key
    assert second.certificate != first.certificate
    assert timedelta(days=180) < second.renew_at - datetime.now(UTC) < timedelta(days=185)
    assert [arrival["id"] for arrival in await cloud.ledger()] == [event_id(1), event_id(2)]
    assert (await kept(site)).proven
    assert site.link("cloud").state is LinkState.CONNECTED


async def test_a_certificate_that_expired_while_offline_is_renewed_with_its_key(
    site: Site, cloud: EndpointProcess
) -> None:
    await site.set_cloud(await cloud.code())
    old = await expired(site, cloud, GRACE_DAYS - 1)

    await change(site, old)
    await site.accept(1)
    await renewed(site, old)
    await delivered(site)

    assert [arrival["id"] for arrival in await cloud.ledger()] == [event_id(1)]


async def test_a_certificate_that_expired_for_too_long_keeps_everything_until_it_is_enrolled_again(
    site: Site, cloud: EndpointProcess, caplog: pytest.LogCaptureFixture
) -> None:
    await site.set_cloud(await cloud.code())

    await change(site, await expired(site, cloud, GRACE_DAYS + 1))
    await site.accept(1)
    await refused(site, Code.CERTIFICATE_EXPIRED)
    await until(lambda: "could not be renewed" in caplog.text)

    assert await site.waiting() == 1
    await site.set_cloud(await cloud.code("--site", site.store.site))
    await delivered(site)


async def test_a_revoked_certificate_keeps_everything_until_it_is_enrolled_again(
    site: Site, cloud: EndpointProcess
) -> None:
    await site.set_cloud(await cloud.code())
    await site.accept(1)
    await delivered(site)

    await run_command(cloud.folder, "revoke", site.store.site)
    await site.accept(2)
    await refused(site, Code.CERTIFICATE_REVOKED)

    assert await site.waiting() == 1
    await site.set_cloud(await cloud.code("--site", site.store.site))
    await delivered(site)
    assert [arrival["id"] for arrival in await cloud.ledger()] == [event_id(1), event_id(2)]


async def test_an_endpoint_with_a_wrong_name_gets_nothing(site: Site, cloud: EndpointProcess) -> None:
    await site.set_cloud(await cloud.code())
    await change(site, await credentials_of(site), cloud.url.replace("127.0.0.1", "127.0.0.2"))
    async with await asyncio.start_server(
        lambda reader, writer: _pass_on(reader, writer, cloud.port), "127.0.0.2", cloud.port
    ):
        await site.accept(1)
        await refused(site, Code.IDENTITY_MISMATCH)

    assert await cloud.ledger() == []
    assert await site.waiting() == 1


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)

    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while chunk := await source.read(1 << 16):
            sink.write(chunk)
        sink.close()

    await asyncio.gather(copy(reader, there_writer), copy(there_reader, writer), return_exceptions=True)


async def test_a_rotated_ca_is_verified_by_the_old_one_and_trusted_after_the_next_renewal(
    site: Site, cloud: EndpointProcess
) -> None:
    await site.set_cloud(await cloud.code())
    first = await credentials_of(site)
    await cloud.stop()
    await run_command(cloud.folder, "rotate-ca")
    await cloud.start()

    await site.accept(1)
    await delivered(site)
    half = replace(first, renew_at=datetime.now(UTC) - timedelta(seconds=1))
    await change(site, half)
    second = await renewed(site, half)
    await site.accept(2)
    await delivered(site)

    assert second.ca != first.ca
    assert len(await cloud.ledger()) == 2


@pytest.fixture
async def twins(tmp_path: Path, cloud: EndpointProcess) -> AsyncIterator[tuple[Site, Site]]:
    """Run a gateway that delivered an event, and one on a copy of its disk."""
    async with running_site(tmp_path / "gateway") as site:
        await site.set_cloud(await cloud.code())
        await site.accept(1)
        await delivered(site)
    shutil.copytree(tmp_path / "gateway", tmp_path / "copy")
    async with running_site(tmp_path / "gateway") as site, running_site(tmp_path / "copy") as copy:
        yield site, copy


async def test_two_gateways_on_copies_of_one_disk_are_both_named_and_refused(
    twins: tuple[Site, Site], cloud: EndpointProcess, caplog: pytest.LogCaptureFixture
) -> None:
    site, copy = twins
    for number in range(2, 5):
        await site.accept(number)
        await delivered(site)

    await copy.accept(5)
    await refused(copy, Code.IDENTITY_CONFLICT)
    await site.accept(6)
    await refused(site, Code.IDENTITY_CONFLICT)

    assert "Two gateways act as site" in caplog.text
    assert (await site.waiting(), await copy.waiting()) == (1, 1)
    assert len(await cloud.ledger()) == 4


async def test_enrolled_again_one_copy_delivers_what_it_kept_and_the_other_stays_refused(
    twins: tuple[Site, Site], cloud: EndpointProcess
) -> None:
    site, copy = twins
    await site.accept(2)
    await delivered(site)
    await copy.accept(3)
    await delivered(copy)
    await site.accept(4)
    await refused(site, Code.IDENTITY_CONFLICT)

    await site.set_cloud(await cloud.code("--site", site.store.site))
    await delivered(site)
    await copy.accept(5)
    await refused(copy, Code.IDENTITY_CONFLICT)

    assert [arrival["id"] for arrival in await cloud.ledger()] == [event_id(number) for number in range(1, 5)]


async def test_a_restored_backup_reconciles_and_is_no_second_gateway(tmp_path: Path, cloud: EndpointProcess) -> None:
    async with running_site(tmp_path / "gateway") as site:
        await site.set_cloud(await cloud.code())
        await site.accept(1)
        await delivered(site)
    shutil.copytree(tmp_path / "gateway", tmp_path / "backup")
    async with running_site(tmp_path / "gateway") as site:
        for number in range(2, 6):
            await site.accept(number)
            await delivered(site)
    database = apsw.Connection(str(tmp_path / "backup" / "gateway.sqlite"))
    database.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (Ulid("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"),))
    database.close()

    async with running_site(tmp_path / "backup") as restored:
        await restored.accept(5, 6)
        await delivered(restored)
        await until(lambda: restored.link("cloud").state is LinkState.CONNECTED)

    arrivals = [(arrival["id"], arrival["duplicate"]) for arrival in await cloud.ledger()]
    assert arrivals[-2:] == [(event_id(5), True), (event_id(6), False)]


async def test_the_token_is_on_disk_with_what_it_confirms_and_goes_with_the_destination(
    site: Site, cloud: EndpointProcess
) -> None:
    await site.set_cloud(await cloud.code())
    assert (await kept(site)).token is None
    await site.accept(1)
    await delivered(site)
    first = (await kept(site)).token
    assert first is not None

    await site.restart()
    await site.accept(2)
    await delivered(site)

    assert (await kept(site)).token not in (None, first)
    await site.destinations.remove("cloud")
    assert await site.store.read(lambda transaction: transaction.rows("SELECT * FROM destination_token")) == []


async def test_a_failed_renewal_is_repeated_and_a_refused_one_backs_off(
    site: Site, cloud: EndpointProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "CHECK_SECONDS", 0.01)
    tries: list[Code] = []
    answers = [Code.DESTINATION_AWAY, Code.DESTINATION_AWAY, Code.CERTIFICATE_EXPIRED]

    async def renew(_url: str, _old: Credentials) -> Credentials:
        tries.append(answers[len(tries)])
        raise RequestRefusedError(tries[-1], "No.")

    await site.set_cloud(await cloud.code())
    old = await expired(site, cloud, 1)
    monkeypatch.setattr(enrolment, "renew", renew)
    await change(site, old)
    site.destinations._renewals._renew_fn = renew
    await until(lambda: len(tries) == 3)
    looks = 0
    read = site.store.read

    async def count(question: object) -> object:
        nonlocal looks
        looks += 1
        return await read(question)  # type: ignore[arg-type] # handed on

    monkeypatch.setattr(site.store, "read", count)
    await until(lambda: looks > 20)
    assert tries == answers


async def test_a_renewed_certificate_that_cannot_be_stored_leaves_the_old_one_in_use(
    site: Site, cloud: EndpointProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(renewal, "CHECK_SECONDS", 0.01)
    await site.set_cloud(await cloud.code())
    half = replace(await credentials_of(site), renew_at=datetime.now(UTC) - timedelta(seconds=1))
    failing = True

    def refuse(transaction: Transaction, settings: CloudSettings) -> StoredDestination:
        if failing:
            raise StoreError("the disk is full")
        return update_settings(transaction, settings)

    monkeypatch.setattr("process_cosmos_gateway.destinations.service.update_settings", refuse)
    await change(site, half)
    await until(lambda: "certificates could not be renewed" in caplog.text)
    await site.accept(1)
    await delivered(site)
    failing = False

    await renewed(site, half)


async def test_a_destination_set_anew_while_it_is_renewed_keeps_what_the_person_set(
    site: Site, cloud: EndpointProcess
) -> None:
    line = parse_line(await cloud.code())
    await site.set_cloud(str(OneTimeLine(url=cloud.url, secret=line.secret, sha256=line.sha256)))
    old = (await kept(site)).settings
    assert isinstance(old, CloudSettings)
    await site.set_cloud(await cloud.code("--site", site.store.site))
    anew = await credentials_of(site)

    await site.destinations._apply_renewal(old, replace(old, credentials=await expired(site, cloud, 1)))

    assert await credentials_of(site) == anew
