"""The ledger's process: watches everything, answers the play's questions, and judges when asked."""

import argparse
import asyncio
import secrets
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from .arrivals import follow_arrivals
from .book import Book
from .broker_log import Acknowledged, acknowledged_by
from .broker_watch import BrokerWatch
from .evidence import Arrival, Expected, Guard, Ring
from .home_watch import HomeWatch, Watched
from .judgement import Judgement, judge
from .receivers import Receivers

ARRIVES_WITHIN = 80.0
"""Seconds the gateway may take to notice that the link is back: it waits up to half a minute between tries."""


class Ledger:
    """Answers the questions of the play."""

    def __init__(self, book: Book, broker: BrokerWatch, broker_log: Path, tasks: asyncio.TaskGroup) -> None:
        """Take the book, the eye on the broker, the broker's own log, and where watching runs."""
        self._book = book
        self._broker = broker
        self._broker_log = broker_log
        self._tasks = tasks
        self._home: HomeWatch | None = None
        self._expected = Expected()
        self._mark = 0
        self._in_flight: tuple[str, frozenset[str]] = ("", frozenset())

    async def watch_home(self, wanted: dict[str, Any]) -> None:
        """Begin to watch Home Assistant; return when nothing can slip by any more."""
        watched = Watched(sensors=tuple(wanted["sensors"]), closings=wanted["closings"], effects=wanted["effects"])
        self._home = HomeWatch(wanted["url"], wanted["token"], watched, self._book)
        self._tasks.create_task(self._home.run(), name="home-watch")
        await self._home.watching.wait()

    async def watching_home(self, _: object) -> None:
        """Return when Home Assistant is watched (again)."""
        if self._home is not None:
            await self._home.watching.wait()

    async def expect(self, wanted: dict[str, Any]) -> None:
        """Learn what the play set up."""
        guards = tuple(Guard(**guard) for guard in wanted.pop("guards"))
        self._expected = Expected(**wanted, guards=guards)

    async def begin(self, _: object) -> None:
        """Count what happens from now on: the destinations are set up."""
        self._broker.begin()

    async def mark(self, _: object) -> None:
        """Remember this moment."""
        self._mark = len(self._book.records)

    async def until_arrival(self, wanted: dict[str, Any]) -> bool:
        """Return True when something has arrived at ``destination`` since the mark, False if nothing does."""
        return await self._book.until(lambda: bool(self._arrived(wanted["destination"])), ARRIVES_WITHIN)

    async def note_in_flight(self, wanted: dict[str, Any]) -> int:
        """Note the events that have arrived at ``destination`` since the mark, whose receipts are on their way back."""
        self._in_flight = (wanted["destination"], frozenset(self._arrived(wanted["destination"])))
        return len(self._in_flight[1])

    async def proven_in_flight(self, _: object) -> int:
        """Return how many of them arrived again: their receipts were lost with the one who waited for them."""
        destination, noted = self._in_flight
        times = Counter(
            record.id
            for record in self._book.records
            if isinstance(record, Arrival) and record.destination == destination and record.id in noted
        )
        return sum(number > 1 for number in times.values())

    async def rung_since_mark(self, wanted: dict[str, Any]) -> bool:
        """Return True when ``phones`` phones have rung since the mark, False if they do not."""

        def rang() -> bool:
            rings = (record for record in self._book.records[self._mark :] if isinstance(record, Ring))
            return len({notification.phone for notification in rings}) >= int(wanted["phones"])

        return await self._book.until(rang, ARRIVES_WITHIN)

    def _arrived(self, destination: str) -> set[str]:
        since = self._book.records[self._mark :]
        return {one.id for one in since if isinstance(one, Arrival) and one.destination == destination}

    async def judge(self, _: object) -> Judgement:
        """Weigh everything seen so far."""
        records = list(self._book.records)
        source = next((record.source for record in records if isinstance(record, Arrival)), "")
        gateway = source.removeprefix("/sites/")
        records += self._broker.events(await asyncio.to_thread(_acknowledged, gateway, self._broker_log))
        return await asyncio.to_thread(judge, records, self._expected)


def _acknowledged(gateway: str, broker_log: Path) -> Acknowledged:
    with broker_log.open(errors="replace") as lines:
        return acknowledged_by(gateway, lines)


async def run(arguments: argparse.Namespace) -> None:
    """Keep the ledger until the process is told to stop, which cancels everything that only watches."""
    if (own := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)
    book = Book(arguments.folder / "ledger.jsonl")
    broker = BrokerWatch(arguments.broker_port, book)
    await broker.start()
    async with asyncio.TaskGroup() as tasks:
        ledger = Ledger(book, broker, arguments.folder / "broker.log", tasks)
        questions = {
            "watch_home": ledger.watch_home,
            "watching_home": ledger.watching_home,
            "expect": ledger.expect,
            "begin": ledger.begin,
            "mark": ledger.mark,
            "rung_since_mark": ledger.rung_since_mark,
            "until_arrival": ledger.until_arrival,
            "note_in_flight": ledger.note_in_flight,
            "proven_in_flight": ledger.proven_in_flight,
            "judge": ledger.judge,
        }
        runner = web.AppRunner(Receivers(book, arguments.secret, questions).app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", arguments.port).start()
        tasks.create_task(follow_arrivals(arguments.folder / "arrivals.log", book), name="cloud-log")
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()
            broker.stop()
            book.close()


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser("process_cosmos_testbed.scenarios.leak_demo.ledger", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of the book, broker.log, arrivals.log")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--broker-port", type=int, required=True)
    parser.add_argument("--secret", default=secrets.token_hex(8), help="the secret part of the webhook's address")
    with suppress(asyncio.CancelledError):
        asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
