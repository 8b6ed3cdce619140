"""Who waits behind whom: strangers and revoked keys delay nobody but themselves."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from process_cosmos_cloud.authority import Issued
from process_cosmos_cloud.codes import CodeRefusedError
from process_cosmos_cloud.identity import RefusedError
from process_cosmos_cloud.server import Endpoint
from process_cosmos_cloud.turns import RoundRobin
from process_cosmos_gateway.contract.identifiers import Ulid

from .conftest import SITE, new_code
from .endpoint import Site, event, run_command

MANY = 60
SOON = 20


class Watch:
    """What the endpoint's one thread does: how many turns were asked for, and how they ended, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Watch from now on."""
        self.asked = 0
        self._refused: list[bool] = []
        self._turns: RoundRobin | None = None
        run = RoundRobin.run

        async def watched[T](turns: RoundRobin, whose: str, work: Callable[[], T]) -> T:
            self._turns = turns
            self.asked += 1
            try:
                done = await run(turns, whose, work)
            except RefusedError, CodeRefusedError:
                self._refused.append(True)
                raise
            self._refused.append(False)
            return done

        monkeypatch.setattr(RoundRobin, "run", watched)

    async def hold(self) -> threading.Event:
        """Let the thread do nothing until the event that is returned is set."""
        assert self._turns is not None
        go = threading.Event()
        self._held = asyncio.create_task(self._turns.run("held", go.wait))
        self.asked = 0
        self._refused.clear()
        return go

    async def until_asked(self, count: int) -> None:
        """Return when so many turns were asked for."""
        async with asyncio.timeout(SOON):
            while self.asked < count:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.001)

    @property
    def refused_before_the_last_success(self) -> int:
        """How many turns ended in a refusal before the last one that did not."""
        last = len(self._refused) - 1 - self._refused[::-1].index(False)
        return sum(self._refused[:last])


async def test_a_revoked_key_that_goes_on_trying_delays_nothing_of_its_site(
    site: Site, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stolen = site.copy()
    await run_command(folder, "revoke", SITE)
    again = Site.new(SITE, url)
    watch = Watch(monkeypatch)
    await again.enrol(new_code(folder, url, site=SITE))
    go = await watch.hold()
    attempts = [asyncio.create_task(stolen.poll(0)) for _ in range(MANY)]
    await watch.until_asked(MANY)
    sending = asyncio.create_task(again.send([event(1, SITE)]))
    await watch.until_asked(MANY + 1)

    go.set()

    assert await sending == ["accepted"]
    assert watch.refused_before_the_last_success < MANY / 4
    assert {(status, problem["code"]) for status, problem in await asyncio.gather(*attempts)} == {
        (403, "certificate_revoked")
    }


async def test_strangers_delay_no_renewal_from_elsewhere(
    site: Site, url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(monkeypatch)
    await site.send([event(1, SITE)])
    code = new_code(folder, url)
    go = await watch.hold()
    stranger = Site.new("01K8J5Z0000000000000000009", url)
    attempts = [asyncio.create_task(stranger.enrol(code, secret="never-made")) for _ in range(MANY)]
    await watch.until_asked(MANY)
    site.address = "127.0.0.2"
    renewing = asyncio.create_task(site.renew())
    await watch.until_asked(MANY + 1)

    go.set()

    assert (await renewing)[0] == 200
    assert watch.refused_before_the_last_success < MANY / 4
    assert {status for status, _ in await asyncio.gather(*attempts)} == {403}


async def test_a_site_has_one_renewal_at_work_and_its_newest_one_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
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
