"""A renewed certificate supersedes the previous one with its first use."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp
import apsw
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from process_cosmos_cloud.authority import SiteCertificate
from process_cosmos_cloud.identity import MOST_UNUSED, record_certificate, record_use
from process_cosmos_cloud.serving import serving
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.listener import Listener

from .conftest import SITE, new_code
from .endpoint import Site, event, joined, run_command

SUPERSEDED = (403, "certificate_superseded")


async def refusals(site: Site) -> set[tuple[int, str]]:
    """Return status and code with which sending, polling and renewing are refused."""
    replies = [await site.present(joined([event(9, SITE)])), await site.poll(0, wait="0"), await site.copy().renew()]
    return {(status, reply["code"]) for status, reply in replies}


async def old_then_new(old: Site, site: Site) -> None:
    """Use the old certificate, which supersedes nothing, then the new one, which supersedes the old."""
    assert await old.send([event(100, SITE)]) == ["accepted"]
    site.token = old.token
    assert await site.send([event(101, SITE)]) == ["accepted"]
    assert await refusals(old) == {SUPERSEDED}


class Renewal:
    """One renewal request, which can be sent more than once."""

    def __init__(self, site: Site) -> None:
        """Create the new key and the request."""
        self.old = site.copy()
        self.fresh = Site.new(site.site, site.url)
        self.csr = self.fresh.request()
        self.proof = site.key.sign(self.csr.encode(), ec.ECDSA(hashes.SHA256())).hex()

    async def send(self) -> tuple[int, Any]:
        """Send the request; return status and reply."""
        return await self.old.copy().renew(csr=self.csr, proof=self.proof)

    def apply(self, reply: Any, token: str | None) -> Site:  # noqa: ANN401 - JSON
        """Return the site with the renewed certificate and ``token``."""
        self.fresh.certificate, self.fresh.ca, self.fresh.token = reply["certificate"], reply["ca"], token
        return self.fresh


@pytest.mark.parametrize("use", ["send", "inbox", "renew"])
async def test_the_old_certificate_is_valid_until_the_first_use_of_the_new_one(site: Site, use: str) -> None:
    await site.send([event(1, SITE)])
    old = site.copy()
    await site.renew()
    assert await old.send([event(2, SITE)]) == ["accepted"]
    assert (await old.poll(0, wait="0"))[0] == 200

    if use == "send":
        site.token = old.token
        await site.send([event(3, SITE)])
    elif use == "inbox":
        assert (await site.poll(0, wait="0"))[0] == 200
    else:
        assert (await site.renew())[0] == 200

    assert await refusals(old) == {SUPERSEDED}
    site.token = site.token or old.token
    assert await site.send([event(4, SITE)]) == ["accepted"]


async def test_the_same_request_for_renewal_gets_the_same_certificate(site: Site) -> None:
    await site.send([event(1, SITE)])
    renewal = Renewal(site)
    first, again = await renewal.send(), await renewal.send()
    assert first == again
    assert first[0] == 200

    renewed = renewal.apply(again[1], site.token)

    assert await renewed.send([event(2, SITE)]) == ["accepted"]
    status, problem = await renewal.send()
    assert (status, problem["code"]) == SUPERSEDED


async def test_a_lost_renewal_reply_leaves_no_second_valid_certificate(site: Site) -> None:
    await site.send([event(1, SITE)])
    lost, heard = Renewal(site), Renewal(site)
    _, unheard = await lost.send()
    _, reply = await heard.send()

    renewed = heard.apply(reply, site.token)

    assert await renewed.send([event(2, SITE)]) == ["accepted"]
    assert await refusals(lost.apply(unheard, site.token)) == {SUPERSEDED}


async def test_the_newest_eight_renewals_of_a_certificate_are_valid(site: Site, connection: apsw.Connection) -> None:
    renewals = [Renewal(site) for _ in range(MOST_UNUSED + 2)]
    replies = [await renewal.send() for renewal in renewals]
    assert {status for status, _ in replies} == {200}
    good = "SELECT count(*) FROM certificate WHERE refused IS NULL"
    assert connection.execute(good).get == 1 + MOST_UNUSED
    assert connection.execute("SELECT count(*) FROM renewal").get == MOST_UNUSED
    oldest, kept = (renewals[number].apply(replies[number][1], site.token) for number in (1, 2))
    assert await refusals(oldest) == {SUPERSEDED}
    assert await kept.send([event(1, SITE)]) == ["accepted"]
    assert connection.execute(good).get == 1


def test_a_batch_does_not_read_all_certificates_of_its_site(connection: apsw.Connection) -> None:
    """Count the virtual machine steps of SQLite for a site with 3,000 superseded certificates."""
    certificate = SiteCertificate(site=Ulid(SITE), serial="new", not_before=1e9)
    connection.executemany(
        "INSERT INTO certificate VALUES (?, ?, ?, 'certificate_superseded')",
        [(f"{number}", SITE, number) for number in range(3_000)],
    )
    record_use(connection, certificate)
    hundreds = 0

    def count() -> bool:
        nonlocal hundreds
        hundreds += 1
        return False

    connection.set_progress_handler(count, 100)
    record_use(connection, certificate)
    record_certificate(connection, Ulid(SITE), "next", 2e9)
    assert hundreds < 5


async def test_the_first_renewal_used_supersedes_the_others(site: Site) -> None:
    first, second = Renewal(site), Renewal(site)
    (_, one), (_, two) = await first.send(), await second.send()
    assert await first.apply(one, site.token).send([event(1, SITE)]) == ["accepted"]
    assert await refusals(second.apply(two, site.token)) == {SUPERSEDED}


async def test_a_clock_that_goes_back_supersedes_no_unused_certificate(site: Site, connection: apsw.Connection) -> None:
    connection.execute("UPDATE certificate SET issued_at = issued_at + 1e6")
    old = site.copy()
    await site.renew()
    await old_then_new(old, site)


async def test_an_older_certificate_without_a_renewal_record_is_superseded_too(
    site: Site, connection: apsw.Connection
) -> None:
    await site.send([event(1, SITE)])
    old = site.copy()
    await site.renew()
    connection.execute("DELETE FROM renewal")
    await old_then_new(old, site)


async def test_a_certificate_unknown_to_a_restored_database_supersedes_the_previous_one(
    site: Site, connection: apsw.Connection
) -> None:
    await site.send([event(1, SITE)])
    old, backup = site.copy(), connection.execute("SELECT serial FROM certificate").fetchall()
    await site.renew()
    connection.execute("DELETE FROM certificate WHERE serial <> ?", backup[0])
    connection.execute("DELETE FROM renewal")
    connection.execute("UPDATE certificate SET issued_at = issued_at - 86400")

    await old_then_new(old, site)

    assert connection.execute("SELECT count(*) FROM certificate WHERE serial = ?", (site.serial,)).get == 1


async def test_a_site_unknown_to_a_restored_database_supersedes_its_old_certificate_by_polling(
    site: Site, connection: apsw.Connection
) -> None:
    await site.send([event(1, SITE)])
    old = site.copy()
    await site.renew()
    connection.execute("DELETE FROM renewal; DELETE FROM site; DELETE FROM certificate")
    assert (await old.poll(0, wait="0"))[0] == 200
    connection.execute("UPDATE certificate SET issued_at = issued_at - 86400")
    assert (await site.poll(0, wait="0"))[0] == 200
    assert await refusals(old) == {SUPERSEDED}


async def test_the_same_renewal_request_after_a_rotation_gets_a_certificate_of_the_new_ca(folder: Path) -> None:
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        site = Site.new(SITE, url)
        await site.enrol(new_code(folder, url))
        renewal = Renewal(site)
        _, before = await renewal.send()
    await run_command(folder, "rotate-ca")
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        renewal.old.url = url
        _, after = await renewal.send()
        certificate, ca = (x509.load_pem_x509_certificate(after[name].encode()) for name in ("certificate", "ca"))
        certificate.verify_directly_issued_by(ca)
        assert after["certificate"] != before["certificate"]


async def test_a_repeated_renewal_request_is_refused_after_a_revocation(site: Site, folder: Path) -> None:
    renewal = Renewal(site)
    assert (await renewal.send())[0] == 200
    await run_command(folder, "revoke", site.serial)
    status, problem = await renewal.send()
    assert (status, problem["code"]) == (403, "certificate_revoked")


async def test_the_connection_of_a_revoked_certificate_is_not_admitted_and_closed(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admitted: list[str] = []
    admit = Listener.admit

    def watched(self: Listener, request: web.Request, peer: str) -> None:
        admitted.append(request.path)
        admit(self, request, peer)

    monkeypatch.setattr(Listener, "admit", watched)
    await site.send([event(1, SITE)])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=site.tls())) as session:
        async with session.get(f"{site.url}/v1/inbox?wait=0") as reply:
            assert (reply.status, reply.headers.get("Connection")) == (200, None)
        await run_command(folder, "revoke", SITE)
        async with session.get(f"{site.url}/v1/inbox?wait=0") as reply:
            assert (reply.status, reply.headers.get("Connection")) == (403, "close")
        async with session.get(f"{site.url}/v1/inbox?wait=0") as reply:
            assert reply.status == 403
    assert admitted == ["/v1/events", "/v1/inbox"]


async def test_an_answer_goes_to_the_site_that_opened_the_alert(
    site: Site, url: str, folder: Path, connection: apsw.Connection
) -> None:
    rogue = Site.new("01K8J5Z0000000000000000009", url)
    await rogue.enrol(new_code(folder, url))
    alert = "01J00000000000000000000001"
    await site.send([event(1, SITE, subject=alert)])
    mention = event(2, rogue.site, subject=alert, type="process_cosmos.alert.updated.v1")
    await rogue.send([mention, event(3, rogue.site, subject=alert, type="other.v1")])

    await run_command(folder, "answer", alert, "keep_off")

    assert connection.execute("SELECT site FROM inbox").fetchall() == [(Ulid(SITE),)]


async def test_two_sites_with_the_same_alert_require_the_option_site(
    site: Site, url: str, folder: Path, connection: apsw.Connection
) -> None:
    rogue = Site.new("01K8J5Z0000000000000000009", url)
    await rogue.enrol(new_code(folder, url))
    alert = "01J00000000000000000000001"
    await site.send([event(1, SITE, subject=alert)])
    await rogue.send([event(2, rogue.site, subject=alert)])

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "process_cosmos_cloud", "answer", "--data", str(folder), alert, "keep_off"),
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()

    assert process.returncode
    assert f"pass --site: {SITE}, {rogue.site} have this alert; {SITE} was the first".encode() in said
    assert connection.execute("SELECT count(*) FROM inbox").get == 0
    await run_command(folder, "answer", alert, "keep_off", "--site", SITE)
    assert connection.execute("SELECT site FROM inbox").fetchall() == [(Ulid(SITE),)]
