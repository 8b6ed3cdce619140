"""The command line, and the endpoint after a crash."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from io import BytesIO
from pathlib import Path

import aiohttp
import apsw
import orjson
import pytest

from process_cosmos_cloud import __main__ as command_line
from process_cosmos_cloud.arrivals import PAGE_CHARACTERS, read_arrivals
from process_cosmos_cloud.database import Database, DatabaseError, open_database
from process_cosmos_cloud.serving import DATABASE
from process_cosmos_gateway.contract.durations import LONG_POLL
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.pairing import parse_line

from .conftest import OTHER, SITE
from .endpoint import EndpointProcess, Site, endpoint_process, event, joined, run_command, swallowing_replies

type Command = Callable[..., str]


@pytest.fixture
def command(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command in this process; return its output."""

    def run(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["process-cosmos-cloud", *arguments, "--data", str(folder)])
        command_line.main()
        return capsys.readouterr().out

    return run


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[EndpointProcess]:
    async with endpoint_process(tmp_path / "process") as endpoint:
        yield endpoint


async def enrolled(endpoint: EndpointProcess) -> Site:
    site = Site.new(SITE, endpoint.url)
    assert (await site.enrol(await endpoint.code()))[0] == 200
    return site


async def test_a_batch_repeated_after_a_kill_before_the_reply_is_stored_once(
    process: EndpointProcess,
) -> None:
    site = await enrolled(process)
    batch = [event(number, SITE) for number in range(10)]
    async with swallowing_replies(process.port) as port:
        real, site.url = site.url, f"https://127.0.0.1:{port}"
        lost = asyncio.create_task(site.post(joined(batch)))
        async with asyncio.timeout(20):
            while len(await process.ledger()) < len(batch):
                pass
        await process.kill()
        assert not lost.done()
    with pytest.raises(aiohttp.ClientError):
        await lost
    await process.start()
    site.url = real

    assert await site.send(batch) == ["duplicate"] * 10
    assert await site.send([event(10, SITE)]) == ["accepted"]
    arrivals = await process.ledger()
    assert len(arrivals) == 21
    assert len({arrival["id"] for arrival in arrivals if not arrival["duplicate"]}) == 11


async def test_sigterm_stops_the_endpoint_at_once_even_during_a_poll(process: EndpointProcess) -> None:
    site = await enrolled(process)
    poll = asyncio.create_task(site.inbox())
    await site.send([event(1, SITE)])
    begun = time.monotonic()

    assert await process.stop() == 0

    assert time.monotonic() - begun < LONG_POLL - 5
    await asyncio.wait({poll})
    poll.exception()


async def test_an_answer_given_on_the_command_line_reaches_the_site(process: EndpointProcess) -> None:
    site = await enrolled(process)
    asked = event(1, SITE)
    await site.send([asked])

    identifier = await process.answer(str(asked["subject"]), "keep_off", "--revision", "2", "--by", "Ada")

    [item] = await site.inbox()
    assert (item["id"], item["alert"], item["answer"], item["revision"], item["by"]) == (
        identifier,
        asked["subject"],
        "keep_off",
        2,
        "Ada",
    )


async def test_the_ledger_with_follow_prints_later_arrivals(process: EndpointProcess) -> None:
    site = await enrolled(process)
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "process_cosmos_cloud", "ledger", "--json", "--follow", "--data", str(process.folder)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert reader.stdout is not None
    try:
        for number in (1, 2):
            await site.send([event(number, SITE)])
            line = await asyncio.wait_for(reader.stdout.readline(), 20)
            assert orjson.loads(line)["data"] == {"number": number}
    finally:
        reader.terminate()
        await reader.wait()


async def test_the_ledger_reads_large_events_in_pages_and_prints_all(
    site: Site, command: Command, connection: apsw.Connection
) -> None:
    large = [event(number, SITE, data="x" * (PAGE_CHARACTERS // 2)) for number in range(5)]
    assert (await site.post(BytesIO(joined(large))))[0] == 200
    assert [arrival.sequence for arrival in read_arrivals(connection)] == [1, 2]
    assert [orjson.loads(line)["sequence"] for line in command("ledger", "--json").splitlines()] == [1, 2, 3, 4, 5]


async def test_the_ledger_is_a_table_for_people(site: Site, command: Command) -> None:
    await site.send([event(1, SITE), event(1, SITE), event(2, SITE)])
    first, second, third = command("ledger").splitlines()
    assert "alert.opened" in first
    assert second.endswith("(again)")
    assert not third.endswith("(again)")
    assert command("ledger", "--after", "2").splitlines() == [third]


def test_the_answer_command_accepts_an_acknowledgement_and_a_site(command: Command, folder: Path) -> None:
    command("answer", "01J00000000000000000000001", "--acknowledge", "60", "--site", SITE)
    row = open_database(folder / DATABASE).execute("SELECT site, acknowledge_for, answer FROM inbox").fetchone()
    assert row == (SITE, 60.0, None)


def test_a_code_can_be_created_before_the_first_start_with_a_url(command: Command) -> None:
    line = parse_line(command("code", "--url", "https://cloud.example:8443"))
    assert line.url == "https://cloud.example:8443"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("code",), "has not been started yet"),
        (("code", "--url", "http://cloud.example"), "https://host:port"),
        (("answer", "01J00000000000000000000001", "yes"), "pass --site"),
        (("revoke", "\udcff"), "no such site"),
    ],
)
def test_an_invalid_command_says_what_to_change(command: Command, arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(SystemExit, match=sentence):
        command(*arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ledger", "--after", "9" * 30), "argument --after: must be a whole number from 0 to"),
        (
            ("answer", "01J00000000000000000000001", "yes", "--revision", "-1"),
            "--revision: must be a whole number from 1",
        ),
        (("rotate-ca", "--days", "9" * 12), "argument --days: must be a whole number from 0 to"),
        (("serve", "--port", "65536"), "argument --port: must be a whole number from 0 to 65535"),
        (
            ("code", "--url", "https://cloud.example", "--site", "home"),
            "argument --site: must be an id of 26 characters",
        ),
        (("answer", "leak", "yes"), "argument alert: must be an id of 26 characters"),
        (("answer", "01J00000000000000000000001", "yes", "--site", "home"), "argument --site: must be an id"),
        (("answer", "01J00000000000000000000001", "\udcff"), "argument answer: can have at most 255 printable"),
        (("answer", "01J00000000000000000000001", "yes", "--by", "x" * 256), "argument --by: can have at most 255"),
        (("answer", "01J00000000000000000000001", "--acknowledge", "nan"), "argument --acknowledge: must be from 1 to"),
        (
            ("answer", "01J00000000000000000000001", "--acknowledge", "1e300"),
            "argument --acknowledge: must be from 1 to",
        ),
        (("answer", "01J00000000000000000000001", "--acknowledge", "soon"), "argument --acknowledge: invalid"),
    ],
)
def test_an_invalid_argument_is_refused_with_its_bounds(
    command: Command, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command(*arguments)
    assert sentence in capsys.readouterr().err


async def test_a_deeply_nested_event_does_not_prevent_an_answer(site: Site, command: Command) -> None:
    about = "01K8J5Z0000000000000000007"
    deep = b"[" * 1010 + b"1" + b"]" * 1010
    batch = joined([event(1, SITE, subject=about), event(2, SITE, data={"mentions": about, "deep": "here"})])
    assert (await site.post(batch.replace(b'"here"', deep)))[0] == 200
    assert len(command("answer", about, "keep_off").strip()) == 26


async def test_a_damaged_row_does_not_end_the_list_of_the_others(
    site: Site, command: Command, connection: apsw.Connection
) -> None:
    await site.send([event(number, SITE) for number in range(4)])
    deep = '{"type":"t","subject":"s","data":' + "[" * 300 + "]" * 300 + "}"
    for sequence, body in ((2, deep), (3, "{")):  # damaged on disk
        connection.execute("UPDATE arrival SET body = ? WHERE sequence = ?", (body, sequence))
    connection.execute("INSERT INTO series VALUES (1, ?, 'a', 'b', NULL)", (SITE,))
    readings = ((1e300, 1.0), (float("inf"), float("inf")), (-1e300, '"x"'), (5.0, "{"), (6.0, 2.0))
    connection.executemany("INSERT INTO reading VALUES (1, ?, ?, 1)", readings)

    shown = [orjson.loads(line) for line in command("ledger", "--json").splitlines()]

    assert [arrival["problem"] for arrival in shown] == [None, Code.TOO_DEEP, Code.MALFORMED, None]
    assert len(command("ledger").splitlines()) == 4
    assert len(command("ledger", "--readings").splitlines()) == 5
    assert [orjson.loads(line)["value"] for line in command("ledger", "--readings", "--json").splitlines()][-1] is None
    assert len(command("answer", str(event(3, SITE)["subject"]), "keep_off").strip()) == 26


def test_an_unusable_database_is_reported_in_a_sentence(folder: Path, command: Command) -> None:
    folder.mkdir(exist_ok=True)
    (folder / DATABASE).write_bytes(b"garbage" * 1000)
    with pytest.raises(SystemExit, match="process-cosmos-cloud: "):
        command("sites")


async def test_the_file_is_opened_again_after_a_failed_write(folder: Path) -> None:
    folder.mkdir()
    database = Database(folder / DATABASE)
    await database.start()
    before = database._connection

    def fail(_connection: apsw.Connection) -> None:
        raise apsw.IOError("disk I/O error")

    with pytest.raises(DatabaseError):
        await database.write(fail)
    assert await database.read(lambda connection: connection.execute("SELECT count(*) FROM event").get) == 0
    assert database._connection is not before
    await database.close()


def test_a_database_of_a_newer_version_is_left_alone(folder: Path, command: Command) -> None:
    folder.mkdir()
    open_database(folder / DATABASE).pragma("user_version", 99)
    with pytest.raises(SystemExit, match="schema 99"):
        command("ledger")


async def test_a_damaged_database_is_a_database_error(folder: Path) -> None:
    folder.mkdir()
    (folder / DATABASE).write_bytes(b"not a database at all" * 100)
    with pytest.raises(DatabaseError):
        await Database(folder / DATABASE).start()


async def test_a_database_whose_existence_is_unknown_is_a_store_failure(site: Site, folder: Path) -> None:
    file = folder / DATABASE
    aside = file.rename(folder / "aside")
    file.symlink_to(file)  # a symbolic link to itself
    status, problem = await site.post(joined([event(1, SITE)]))
    assert (status, problem["code"]) == (503, "store_failed")
    aside.rename(file)
    assert await site.send([event(1, SITE)]) == ["accepted"]


async def test_a_database_error_fails_the_request_and_not_the_endpoint(site: Site, connection: apsw.Connection) -> None:
    connection.execute("ALTER TABLE arrival RENAME TO elsewhere")
    status, problem = await site.post(joined([event(1, SITE)]))
    assert (status, problem["code"]) == (503, "store_failed")

    connection.execute("ALTER TABLE elsewhere RENAME TO arrival")
    assert await site.send([event(1, SITE)]) == ["accepted"]


async def test_two_sites_may_use_the_same_event_id(site: Site, url: str, folder: Path) -> None:
    other = Site.new(OTHER, url)
    await other.enrol((await run_command(folder, "code")).strip())
    same = {"id": event(1, SITE)["id"]}
    assert await site.send([event(1, SITE)]) == ["accepted"]
    assert await other.send([event(2, OTHER, **same)]) == ["accepted"]
