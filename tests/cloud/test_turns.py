"""Round-robin scheduling: requests without a valid code or certificate delay only themselves."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from process_cosmos_cloud import server
from process_cosmos_cloud.authority import Issued
from process_cosmos_cloud.problems import RefusedError
from process_cosmos_cloud.readings import read_readings
from process_cosmos_cloud.server import Endpoint
from process_cosmos_cloud.turns import RoundRobin
from process_cosmos_gateway.contract.identifiers import Ulid

from .conftest import OTHER, SITE, new_code
from .endpoint import Site, event, run_command
from .test_readings import reading_batch

MANY = 60
SOON = 20


class JobMonitor:
    """Counts the jobs submitted to the endpoint's thread, and records in order which were refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Monitor the jobs from now on."""
        self.submitted = 0
        self._refused: list[bool] = []
        self._scheduler: RoundRobin | None = None
        run = RoundRobin.run

        async def watched[T](scheduler: RoundRobin, queue: str, work: Callable[[], T]) -> T:
            self._scheduler = scheduler
            self.submitted += 1
            try:
                done = await run(scheduler, queue, work)
            except RefusedError:
                self._refused.append(True)
                raise
            self._refused.append(False)
            return done

        monkeypatch.setattr(RoundRobin, "run", watched)

    async def hold(self) -> threading.Event:
        """Block the thread until the returned event is set."""
        assert self._scheduler is not None
        go = threading.Event()
        self._held = asyncio.create_task(self._scheduler.run("held", go.wait))
        self.submitted = 0
        self._refused.clear()
        return go

    async def until_submitted(self, count: int) -> None:
        """Wait until ``count`` jobs were submitted."""
        async with asyncio.timeout(SOON):
            while self.submitted < count:  # noqa: ASYNC110 - there is no notification
                await asyncio.sleep(0.001)

    @property
    def refused_before_the_last_success(self) -> int:
        """How many jobs were refused before the last successful one."""
        last = len(self._refused) - 1 - self._refused[::-1].index(False)
        return sum(self._refused[:last])


async def test_repeated_attempts_with_a_revoked_key_do_not_delay_the_site(
    site: Site, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stolen = site.copy()
    await run_command(folder, "revoke", SITE)
    again = Site.new(SITE, url)
    monitor = JobMonitor(monkeypatch)
    await again.enrol(new_code(folder, url, site=SITE))
    go = await monitor.hold()
    attempts = [asyncio.create_task(stolen.poll(0)) for _ in range(MANY)]
    await monitor.until_submitted(MANY)
    sending = asyncio.create_task(again.send([event(1, SITE)]))
    await monitor.until_submitted(MANY + 1)

    go.set()

    assert await sending == ["accepted"]
    assert monitor.refused_before_the_last_success < MANY / 4
    assert {(status, problem["code"]) for status, problem in await asyncio.gather(*attempts)} == {
        (403, "certificate_revoked")
    }


async def test_requests_without_a_valid_code_do_not_delay_a_renewal_from_another_address(
    site: Site, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = JobMonitor(monkeypatch)
    await site.send([event(1, SITE)])
    code = new_code(folder, url)
    go = await monitor.hold()
    stranger = Site.new("01K8J5Z0000000000000000009", url)
    attempts = [asyncio.create_task(stranger.enrol(code, secret="never-made")) for _ in range(MANY)]
    await monitor.until_submitted(MANY)
    site.address = "127.0.0.2"
    renewing = asyncio.create_task(site.renew())
    await monitor.until_submitted(MANY + 1)

    go.set()

    assert (await renewing)[0] == 200
    assert monitor.refused_before_the_last_success < MANY / 4
    assert {status for status, _ in await asyncio.gather(*attempts)} == {403}


async def test_a_site_has_one_running_and_one_waiting_renewal(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, go = [], asyncio.Event()
    issue = Endpoint._issue

    async def held(self: Endpoint, csr: str, of: Ulid) -> Issued:
        at_work.append(of)
        await go.wait()
        return await issue(self, csr, of)

    monkeypatch.setattr(Endpoint, "_issue", held)
    renewals = [asyncio.create_task(site.copy().renew()) for _ in range(3)]
    async with asyncio.timeout(SOON):
        [superseded], waiting = await asyncio.wait(renewals, return_when=asyncio.FIRST_COMPLETED)
    assert (superseded.result()[0], superseded.result()[1]["code"]) == (503, "superseded")
    assert at_work == [SITE]
    go.set()
    assert [status for status, _ in await asyncio.gather(*waiting)] == [200, 200]


async def test_a_batch_of_many_new_series_lets_other_sites_in_between(
    site: Site, url: str, folder: Path, connection: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SERIES_AT_ONCE", 2)
    other = Site.new(OTHER, url)
    await other.enrol(new_code(folder, url))
    served: list[str] = []
    run = RoundRobin.run

    async def noted[T](turns: RoundRobin, whose: str, work: Callable[[], T]) -> T:
        done = await run(turns, whose, work)
        served.append(whose)
        return done

    monkeypatch.setattr(RoundRobin, "run", noted)
    records: list[dict[str, Any]] = [{"bn": "meters/", "n": f"m{number}", "v": 1.0, "u": "W"} for number in range(9)]
    heavy = asyncio.create_task(site.send([reading_batch(1, *records)]))
    assert await other.send([event(1, OTHER)]) == ["accepted"]
    assert await heavy == ["accepted"]
    assert served.count(SITE) >= 6
    assert served.index(OTHER) < len(served) - 1 - served[::-1].index(SITE)
    assert [(reading.property, reading.unit) for reading in read_readings(connection)] == [
        (f"m{number}", "W") for number in range(9)
    ]
