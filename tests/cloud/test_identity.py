"""Detection of copied disks and restored backups, and revoked certificates."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import pytest

from process_cosmos_cloud.identity import Caller, accept_token, describe_sites
from process_cosmos_cloud.problems import RefusedError
from process_cosmos_cloud.serving import serving
from process_cosmos_gateway.contract.identifiers import Ulid

from .conftest import NOW, SITE, new_code
from .endpoint import Site, event, joined, run_command

EPOCH, RESTORED = "01K8J5Z0000000000000000003", "01K8J5Z0000000000000000004"


async def refusal(site: Site) -> str:
    """Return the error code with which a batch of this site is refused."""
    status, problem = await site.present(joined([event(9, SITE)]))
    assert status in (403, 409), problem
    code: str = problem["code"]
    return code


async def test_two_gateways_with_copies_of_one_disk_are_both_refused(site: Site, connection: apsw.Connection) -> None:
    await site.send([event(1, SITE)])
    clone = site.copy()
    for number in range(2, 5):
        await site.send([event(number, SITE)])

    status, problem = await clone.present(joined([event(5, SITE)]))

    assert (status, problem["code"]) == (409, "identity_conflict")
    assert problem["detail"].count("127.0.0.1 (") == 2
    assert await refusal(site) == "identity_conflict"
    assert any("Two gateways act" in line for line in describe_sites(connection))
    assert connection.execute("SELECT count(*) FROM event").get == 4


async def test_two_alternating_gateways_are_detected_too(site: Site) -> None:
    await site.send([event(1, SITE)])
    clone = site.copy()
    await site.send([event(2, SITE)])
    await clone.send([event(2, SITE)])

    assert await refusal(site) == "identity_conflict"
    assert await refusal(clone) == "identity_conflict"


async def test_after_a_new_enrolment_one_gateway_continues_and_the_other_stays_refused(
    site: Site, url: str, folder: Path
) -> None:
    await site.send([event(1, SITE)])
    clone = site.copy()
    await site.send([event(2, SITE)])
    await clone.send([event(2, SITE)])
    await refusal(site)
    again = Site.new(SITE, url)

    await again.enrol(new_code(folder, url, site=SITE))

    assert await again.send([event(2, SITE), event(3, SITE)]) == ["duplicate", "accepted"]
    assert await refusal(site) == await refusal(clone) == "identity_conflict"


async def test_a_conflict_refuses_inbox_and_renewal_too(site: Site) -> None:
    await site.send([event(1, SITE)])
    clone = site.copy()
    for number in range(2, 5):
        await site.send([event(number, SITE)])
    await refusal(clone)

    with pytest.raises(AssertionError):
        await site.inbox()
    status, problem = await site.renew()
    assert (status, problem["code"]) == (409, "identity_conflict")


async def test_lost_replies_are_not_mistaken_for_a_second_gateway(site: Site) -> None:
    await site.send([event(1, SITE)])
    for number in range(2, 9):
        status, _ = await site.present(joined([event(number, SITE)]))
        assert status == 200

    assert await site.send([event(number, SITE) for number in range(2, 10)]) == ["duplicate"] * 7 + ["accepted"]
    assert await site.send([event(10, SITE)]) == ["accepted"]


async def test_a_crash_between_reply_and_settlement_is_not_mistaken_for_a_second_gateway(site: Site) -> None:
    await site.send([event(1, SITE)])
    for number in range(2, 6):
        on_disk = site.token
        await site.send([event(number, SITE)])
        site.token = on_disk
        assert await site.send([event(number, SITE)]) == ["duplicate"]


async def test_a_batch_may_be_sent_while_the_previous_one_is_settled(site: Site) -> None:
    for number in range(1, 4):
        on_disk = site.token
        await site.send([event(number, SITE)])
        await site.send([event(number + 10, SITE)])
        site.token = on_disk
        assert await site.send([event(number, SITE)]) == ["duplicate"]


async def test_a_restored_backup_with_a_new_epoch_is_not_a_second_gateway(site: Site) -> None:
    site.epoch = EPOCH
    await site.send([event(1, SITE)])
    backup = site.copy()
    for number in range(2, 6):
        await site.send([event(number, SITE)])
    backup.epoch = RESTORED

    assert await backup.send([event(5, SITE), event(6, SITE)]) == ["duplicate", "accepted"]
    assert await backup.send([event(7, SITE)]) == ["accepted"]


async def test_the_original_gateway_beside_its_restored_backup_is_a_second_one(site: Site) -> None:
    site.epoch = EPOCH
    await site.send([event(1, SITE)])
    backup = site.copy()
    backup.epoch = RESTORED
    await backup.send([event(2, SITE)])

    assert await refusal(site) == "identity_conflict"
    assert await refusal(backup) == "identity_conflict"


async def test_an_endpoint_restored_from_a_backup_accepts_newer_tokens(site: Site, connection: apsw.Connection) -> None:
    await site.send([event(1, SITE)])
    before = connection.execute("SELECT tokens, number FROM site").fetchone()
    for number in range(2, 6):
        await site.send([event(number, SITE)])
    connection.execute("UPDATE site SET tokens = ?, number = ?", before)

    assert await site.send([event(6, SITE)]) == ["accepted"]
    assert await site.send([event(7, SITE)]) == ["accepted"]


async def test_a_made_up_token_is_malformed(site: Site) -> None:
    site.token = "17"
    status, problem = await site.present(joined([event(1, SITE)]))
    assert (status, problem["code"]) == (400, "malformed")


def test_an_unknown_site_with_a_valid_certificate_is_accepted(connection: apsw.Connection) -> None:
    caller = Caller(token="12-0123456789abcdef", epoch=EPOCH, address="10.0.0.7")
    token = accept_token(connection, Ulid("01K8J5Z0000000000000000008"), caller, NOW)
    assert not isinstance(token, RefusedError)
    assert token.startswith("13-")


async def test_a_delayed_request_is_refused_after_one_on_a_newer_connection(
    site: Site, connection: apsw.Connection
) -> None:
    await site.send([event(1, SITE)])
    address, body = urlsplit(site.url), joined([event(2, SITE)])
    reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=site.tls())
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: cloud\r\nContent-Type: application/cloudevents-batch+json\r\n"
        f"Process-Cosmos-Token: {site.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[:10])
    await writer.drain()
    assert await site.send([event(2, SITE)]) == ["accepted"]

    writer.write(body[10:])
    reply = await reader.read()
    writer.close()

    assert reply.startswith(b"HTTP/1.1 503")
    assert b'"superseded"' in reply
    assert await site.send([event(3, SITE)]) == ["accepted"]
    assert connection.execute("SELECT count(*) FROM arrival").get == 3


async def test_a_revoked_site_is_refused_at_once(site: Site, folder: Path) -> None:
    await site.send([event(1, SITE)])

    assert await run_command(folder, "revoke", SITE) == "1 revoked\n"

    assert await refusal(site) == "certificate_revoked"
    status, problem = await site.renew()
    assert (status, problem["code"]) == (403, "certificate_revoked")
    assert "certificate_revoked" in await run_command(folder, "sites")


async def test_revoking_one_certificate_leaves_the_other_valid(site: Site, folder: Path) -> None:
    old = site.copy()
    await site.renew()

    await run_command(folder, "revoke", old.serial)

    assert await refusal(old) == "certificate_revoked"
    assert await site.send([event(1, SITE)]) == ["accepted"]


async def test_a_revoked_site_can_enrol_again_with_a_code_made_for_it(site: Site, url: str, folder: Path) -> None:
    await run_command(folder, "revoke", SITE)
    again = Site.new(SITE, url)

    await again.enrol(new_code(folder, url, site=SITE))

    assert await again.send([event(1, SITE)]) == ["accepted"]
    assert await refusal(site) == "certificate_revoked"


async def test_a_certificate_unknown_to_the_database_is_valid_if_the_ca_signed_it(
    site: Site, connection: apsw.Connection
) -> None:
    connection.execute("DELETE FROM certificate")
    connection.execute("DELETE FROM site")
    assert await site.send([event(1, SITE)]) == ["accepted"]


async def test_tokens_survive_a_restart_of_the_endpoint(folder: Path) -> None:
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site = Site.new(SITE, url)
        await site.enrol(new_code(folder, url))
        await site.send([event(1, SITE)])
        clone = site.copy()
        for number in range(2, 5):
            await site.send([event(number, SITE)])
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site.url = clone.url = url
        assert await site.send([event(5, SITE)]) == ["accepted"]
        assert await refusal(clone) == "identity_conflict"
