"""The receiver printed in docs/destinations.md, run as it stands there."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from process_cosmos_gateway.contract.destinations import LinkState, TestDestination
from tests.brokers import free_port

from .conftest import Site
from .parts import parcel, until

PAGE = Path(__file__).parents[3] / "docs" / "destinations.md"


def program() -> str:
    """Return the page's one Python block."""
    [block] = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len([line for line in block.splitlines() if line.strip()]) <= 42
    return str(block)


async def listening(port: int) -> None:
    """Wait until somebody listens."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            writer.close()
            return


@pytest.fixture
async def documented(tmp_path: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    (tmp_path / "receiver.py").write_text(program())
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "receiver.py", str(port), cwd=tmp_path, stdout=-1, stderr=asyncio.subprocess.DEVNULL
    )
    await listening(port)
    yield f"http://127.0.0.1:{port}/", process
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_it_takes_an_event_and_answers_it(site: Site, documented: tuple[str, asyncio.subprocess.Process]) -> None:
    await site.set_webhook(documented[0])
    await site.accept(1)
    await until(lambda: bool(site.escalations.taken))

    [(_, item)] = site.escalations.taken
    assert item.answer == "keep_off"
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    assert await site.waiting() == 0


async def test_it_takes_a_test_event_and_answers_nothing(
    site: Site, documented: tuple[str, asyncio.subprocess.Process]
) -> None:
    url, process = documented
    await site.set_webhook(url)
    tested = await site.destinations.test(TestDestination(id="1", name="hook"))
    assert (tested.delivered, tested.reply) == (True, "{}")
    process.terminate()
    assert process.stdout is not None
    assert (await process.stdout.read()).startswith(b"process_cosmos.test.v1 This is a test.")
    assert site.escalations.taken == []


async def test_it_does_its_part_once_and_repeats_its_reply(
    documented: tuple[str, asyncio.subprocess.Process],
) -> None:
    url, process = documented
    async with aiohttp.ClientSession() as session:
        for number in (1, 1, 2):
            async with session.post(url, data=parcel(number).body) as response:
                assert response.status == 200
                assert await response.json() == {"answer": "keep_off"}
        async with session.post(url, data=b"<html>") as response:
            assert response.status == 400
    process.terminate()
    assert process.stdout is not None
    printed = (await process.stdout.read()).decode().splitlines()
    assert printed == ["process_cosmos.escalation.opened.v1 Water in the cellar"] * 2
