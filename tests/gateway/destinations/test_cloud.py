"""The cloud endpoint as a destination: a real endpoint, enrolment by a real child process, real mutual TLS."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from process_cosmos_cloud.database import open_database
from process_cosmos_cloud.serving import DATABASE, serving
from process_cosmos_gateway.contract.destinations import LinkState
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.pairing import OneTimeLine, parse_line
from process_cosmos_gateway.destinations import enrolment
from process_cosmos_gateway.destinations.inbox import LARGEST_CURSOR
from process_cosmos_gateway.destinations.settings import load_one, store_inbox_cursor
from process_cosmos_gateway.errors import RequestRefusedError
from process_cosmos_testbed.processes import free_port
from tests.cloud.conftest import new_code
from tests.cloud.endpoint import EndpointProcess, swallowing_replies
from tests.support.waiting import until

from .conftest import Site
from .parts import Receiver, alert_id, event_id


async def refusal(site: Site, code: str) -> RequestRefusedError:
    """Return why a code was refused, and assert that nothing was set."""
    with pytest.raises(RequestRefusedError) as caught:
        await site.set_cloud(code)
    assert site.destinations.links() == ()
    return caught.value


async def test_events_reach_the_endpoint_once_and_an_answer_comes_back(site: Site, cloud: EndpointProcess) -> None:
    await site.accept(1)
    await site.set_cloud(await cloud.code())
    await site.accept(2, 3, 4)
    await until(lambda: site.link("cloud").state is LinkState.CONNECTED)
    async with asyncio.timeout(20):
        while await site.waiting():
            pass
    arrivals = await cloud.ledger()
    assert [arrival["id"] for arrival in arrivals] == [event_id(number) for number in (2, 3, 4)]
    assert {arrival["site"] for arrival in arrivals} == {site.store.site}

    identifier = await cloud.answer(alert_id(3), "keep_off", "--by", "Ada", "--revision", "1")
    await until(lambda: bool(site.alerts.stored))

    [(destination, item)] = site.alerts.stored
    assert (destination, item.id, item.answer, item.by, item.revision) == ("cloud", identifier, "keep_off", "Ada", 1)


async def test_a_kill_between_commit_and_reply_costs_nothing_and_repeats_are_dropped(
    site: Site, cloud: EndpointProcess
) -> None:
    async with swallowing_replies(cloud.port) as way:
        site.alerts.gate.clear()
        await site.set_cloud(await cloud.code())
        await site.destinations.remove("cloud")
        line = parse_line(await cloud.code("--site", site.store.site))
        credentials = await enrolment.enrol(line, site.store.site)
        through_the_way = OneTimeLine(url=f"https://127.0.0.1:{way}", secret=line.secret, sha256=line.sha256)

        async def enrolled(_line: object, _site: object) -> Any:  # noqa: ANN401
            return credentials

        site.destinations.enrol_fn = enrolled
        await site.set_cloud(str(through_the_way))
        await site.accept(*range(1, 21))
        site.alerts.gate.set()
        async with asyncio.timeout(20):
            while len(await cloud.ledger()) < 20:
                pass
        assert await site.waiting() == 20
        await cloud.kill()
    await cloud.start()
    await site.set_cloud(str(OneTimeLine(url=cloud.url, secret=line.secret, sha256=line.sha256)))
    async with asyncio.timeout(20):
        while await site.waiting():
            pass

    arrivals = await cloud.ledger()
    kept = [arrival["id"] for arrival in arrivals if not arrival["duplicate"]]
    assert kept == [event_id(number) for number in range(1, 21)]
    assert len(arrivals) > len(kept)


async def test_the_inbox_is_read_on_from_its_cursor_after_a_restart(site: Site, cloud: EndpointProcess) -> None:
    await site.set_cloud(await cloud.code())
    site_id = ("--site", site.store.site)
    await cloud.answer(alert_id(1), "first", *site_id)
    await until(lambda: len(site.alerts.stored) == 1)

    await site.restart()
    await cloud.answer(alert_id(1), *site_id, "--acknowledge", "60")
    await until(lambda: len(site.alerts.stored) == 2)

    first, second = (item for _, item in site.alerts.stored)
    assert (first.answer, second.answer, second.acknowledge_for) == ("first", None, 60.0)


async def test_a_cursor_that_is_too_high_does_not_hide_later_answers(site: Site, cloud: EndpointProcess) -> None:
    await site.set_cloud(await cloud.code())
    site_id = ("--site", site.store.site)
    await cloud.answer(alert_id(1), "first", *site_id)
    await until(lambda: len(site.alerts.stored) == 1)
    await site.store.write(lambda transaction: store_inbox_cursor(transaction, "cloud", LARGEST_CURSOR))

    await site.restart()
    await cloud.answer(alert_id(1), "second", *site_id)
    await until(lambda: [item.answer for _, item in site.alerts.stored][-1] == "second")
    kept = await site.store.read(lambda transaction: load_one(transaction, "cloud"))
    assert kept is not None
    assert kept.inbox_cursor == 2


async def test_a_closed_gate_leaves_the_inbox_alone(site: Site, cloud: EndpointProcess) -> None:
    await site.set_cloud(await cloud.code())
    await cloud.answer(alert_id(1), "first", "--site", site.store.site)
    await until(lambda: len(site.alerts.stored) == 1)
    site.alerts.gate.clear()
    closed_at = time.monotonic()
    await cloud.answer(alert_id(1), "second", "--site", site.store.site)
    # The running poll ends with the item, which counts as contact, and leaves the item in the inbox.
    await until(lambda: (site.link("cloud").last_contact_age or 0.0) < time.monotonic() - closed_at)
    assert len(site.alerts.stored) == 1

    site.alerts.gate.set()
    await until(lambda: len(site.alerts.stored) == 2)


async def test_an_endpoint_that_stops_is_offline_until_it_is_back(site: Site, cloud: EndpointProcess) -> None:
    await site.set_cloud(await cloud.code())
    await site.accept(1)
    await until(lambda: site.link("cloud").state is LinkState.CONNECTED)
    await cloud.kill()
    await until(lambda: site.link("cloud").state is LinkState.OFFLINE)
    await site.accept(2)
    await cloud.start()
    async with asyncio.timeout(20):
        while await site.waiting():
            pass
    assert [arrival["id"] for arrival in await cloud.ledger()] == [event_id(1), event_id(2)]


async def test_a_code_is_checked_against_the_endpoints_key_before_anything_is_sent(
    site: Site, cloud: EndpointProcess
) -> None:
    code = await cloud.code()
    other = code[:-64] + "0" * 64
    error = await refusal(site, other)
    assert error.code is Code.IDENTITY_MISMATCH
    assert "Nothing was sent" in str(error)

    await site.set_cloud(code)  # it was not used up


async def test_a_used_code_is_refused_with_the_endpoints_own_sentence(site: Site, cloud: EndpointProcess) -> None:
    code = await cloud.code("--site", site.store.site)
    await site.set_cloud(code)
    await site.destinations.remove("cloud")

    error = await refusal(site, code)

    assert error.code is Code.ENROLMENT_REFUSED
    assert "used before" in str(error)


async def test_a_code_cut_off_or_made_up_is_malformed(site: Site) -> None:
    for code in ("", "https://cloud.example:8443", "https://cloud.example#short.abc", "secret"):
        assert (await refusal(site, code)).code is Code.CODE_MALFORMED


async def test_a_refused_connection_is_reported_as_away(site: Site) -> None:
    code = str(OneTimeLine(url=f"https://127.0.0.1:{free_port()}", secret="s" * 20, sha256="0" * 64))
    assert (await refusal(site, code)).code is Code.DESTINATION_AWAY


async def test_a_server_without_tls_is_not_the_endpoint(site: Site, hook: Receiver) -> None:
    code = str(OneTimeLine(url=f"https://127.0.0.1:{hook.port}", secret="s" * 20, sha256="0" * 64))
    assert (await refusal(site, code)).code is Code.IDENTITY_MISMATCH


async def test_a_certificate_for_another_name_is_a_mismatch(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["cloud.example"]) as url:
        code = new_code(folder, url.replace("cloud.example", "127.0.0.1"))
        assert (await refusal(site, code)).code is Code.IDENTITY_MISMATCH


async def test_a_code_that_has_expired_is_refused(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    async with serving(folder, "127.0.0.1", 0, ["127.0.0.1"]) as url:
        code = new_code(folder, url)
        open_database(folder / DATABASE).execute("UPDATE code SET expires_at = 1")
        error = await refusal(site, code)
    assert error.code is Code.ENROLMENT_REFUSED
    assert "expired" in str(error)


async def test_a_child_that_takes_too_long_or_dies_is_away(
    site: Site, monkeypatch: pytest.MonkeyPatch, hook: Receiver
) -> None:
    code = str(OneTimeLine(url=f"https://127.0.0.1:{hook.port}", secret="s" * 20, sha256="0" * 64))
    monkeypatch.setattr(enrolment, "LONGEST_SECONDS", 0.0)
    assert (await refusal(site, code)).code is Code.DESTINATION_AWAY
    monkeypatch.undo()
    monkeypatch.setattr(enrolment, "CHILD", "this")
    assert (await refusal(site, code)).code is Code.DESTINATION_AWAY


async def test_the_secret_goes_to_the_child_by_its_input_and_is_no_argument(
    site: Site, cloud: EndpointProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    start = asyncio.create_subprocess_exec

    async def watch(*arguments: str, **options: Any) -> asyncio.subprocess.Process:  # noqa: ANN401 - handed on
        seen.extend(arguments)
        return await start(*arguments, **options)

    code = await cloud.code()
    monkeypatch.setattr(asyncio, "create_subprocess_exec", watch)
    await site.set_cloud(code)

    assert seen
    assert parse_line(code).secret not in " ".join(seen)


async def test_the_parent_process_never_imports_cryptography() -> None:
    program = "import sys, process_cosmos_gateway.destinations; sys.exit('cryptography' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0


async def test_an_expired_certificate_is_reported_before_any_request(site: Site, cloud: EndpointProcess) -> None:
    credentials = await enrolment.enrol(parse_line(await cloud.code()), site.store.site)
    assert (credentials.expires_at - datetime.now(UTC)).days > 360
    assert "PRIVATE" not in repr(credentials)
