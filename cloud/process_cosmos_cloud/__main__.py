"""The command line: ``process-cosmos-cloud serve | code | revoke | rotate-ca | sites | answer | ledger``."""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from process_cosmos_gateway.contract.bounds import MOST_SIGNED, write_json
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.durations import LONGEST_ACKNOWLEDGEMENT
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory, is_ulid, join_names
from process_cosmos_gateway.contract.pairing import LineError, OneTimeLine, parse_line
from process_cosmos_gateway.logs import set_up_logs

from .arrivals import ArrivalRow, find_sites, read_arrivals
from .authority import Authority
from .ca import TRUST_DAYS, rotate
from .codes import make_code
from .database import Connection, DatabaseError, SqlError, open_database
from .errors import CloudError
from .identity import describe_sites, revoke
from .inbox import add_item
from .readings import EARLIEST, LATEST, StoredReading, read_readings
from .serving import DATABASE, serving

FOLLOW_SECONDS = 0.2

MOST_DAYS = 3650
LONGEST_TEXT = 255
EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - listen addresses that cannot be names of a certificate


class UsageError(CloudError):
    """The command line is invalid; the message says what to change."""


def main() -> None:
    """Run one command; on failure exit with status 1 and a sentence."""
    arguments = _parser().parse_args()
    # SQLite creates the database and its log with the permissions that the umask leaves.
    os.umask(0o077)
    try:
        arguments.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments.command_fn(arguments)
    except (UsageError, DatabaseError, SqlError, OSError) as error:
        sys.exit(f"process-cosmos-cloud: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("process-cosmos-cloud", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command_fn: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text)
        command.set_defaults(command_fn=command_fn)
        folder = Path("cloud-data")
        command.add_argument("--data", type=Path, default=folder, help="folder of the database and keys (%(default)s)")
        return command

    serve = add("serve", _serve, "run the endpoint")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    serve.add_argument("--port", type=_whole(0, 65_535), default=8443, help="0: any free port (default: %(default)s)")
    serve.add_argument("--name", action="append", help="host name or IP address for the certificate; may be repeated")

    code = add("code", _code, "create a one-time code for one site, valid for 24 hours")
    code.add_argument(
        "--url", help="https://host:port under which sites reach the endpoint (default: as it was started)"
    )
    code.add_argument("--site", type=_id, help="valid for this site only; required if it is enrolled already")

    revoke_one = add("revoke", _revoke, "revoke the certificates of a site, or one of them")
    revoke_one.add_argument("what", metavar="SITE|SERIAL", help="as printed by the command sites")

    trust = "how long the old CA stays trusted (default: %(default)s)"
    rotate_ca = add("rotate-ca", _rotate_ca, "replace the CA by a new one; then restart the endpoint")
    rotate_ca.add_argument("--days", type=_whole(0, MOST_DAYS), default=TRUST_DAYS, help=trust)

    add("sites", _sites, "print every site with its certificates and refusals")

    answer = add("answer", _answer, "put an answer into a site's inbox")
    answer.add_argument("alert", type=_id, help="the id of the alert")
    what = answer.add_mutually_exclusive_group(required=True)
    what.add_argument("answer", nargs="?", type=_text, help="one of the answers the alert offers")
    what.add_argument("--acknowledge", type=_seconds, metavar="SECONDS", help="acknowledge it for this long instead")
    revision = "the revision it is meant for (default: the current one)"
    answer.add_argument("--revision", type=_whole(1, MOST_SIGNED), help=revision)
    answer.add_argument("--by", type=_text, default="cloud", help="who answers (default: %(default)s)")
    answer.add_argument("--site", type=_id, help="the site (default: the one that opened the alert)")

    ledger = add("ledger", _ledger, "print every arrival in order, including repeats")
    ledger.add_argument("--readings", action="store_true", help="print the readings of all batches instead, each once")
    ledger.add_argument("--json", action="store_true", help="print one JSON object per line")
    ledger.add_argument("--follow", action="store_true", help="keep printing new arrivals")
    later = "print only arrivals after this one"
    ledger.add_argument("--after", type=_whole(0, MOST_SIGNED), default=0, metavar="SEQUENCE", help=later)
    return parser


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Return an argparse type for integers from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


def _id(text: str) -> Ulid:
    if not is_ulid(text):
        raise argparse.ArgumentTypeError("must be an id of 26 characters, as the ledger prints it")
    return Ulid(text)


def _text(text: str) -> str:
    if len(text) > LONGEST_TEXT or not text.isprintable():
        raise argparse.ArgumentTypeError(f"can have at most {LONGEST_TEXT} printable characters")
    return text


def _seconds(text: str) -> float:
    if not 0 < float(text) <= LONGEST_ACKNOWLEDGEMENT:
        raise argparse.ArgumentTypeError(f"must be from 1 to {LONGEST_ACKNOWLEDGEMENT:.0f} seconds")
    return float(text)


def _serve(arguments: argparse.Namespace) -> None:
    set_up_logs("warning")
    asyncio.run(_serve_until_stopped(arguments))


async def _serve_until_stopped(arguments: argparse.Namespace) -> None:
    names = arguments.name or sorted({"127.0.0.1", "localhost", arguments.host} - EVERYWHERE)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(arguments.data, arguments.host, arguments.port, names) as url:
        print(f"listening at {url}", flush=True)  # noqa: T201 - the command's output
        await stop.wait()


def _code(arguments: argparse.Namespace) -> None:
    connection = open_database(arguments.data / DATABASE)
    url = arguments.url or connection.execute("SELECT value FROM setting WHERE name = 'url'").get
    if url is None:
        raise UsageError("pass --url https://host:port: this endpoint has not been started yet")
    sha256 = Authority(arguments.data).sha256
    with connection:
        line = OneTimeLine(url=url, secret=make_code(connection, time.time(), arguments.site), sha256=sha256)
        try:
            parse_line(str(line))
        except LineError as error:
            raise UsageError("--url must have the form https://host:port") from error
    print(line)  # noqa: T201 - the command's output


def _revoke(arguments: argparse.Namespace) -> None:
    connection = open_database(arguments.data / DATABASE)
    with connection:
        count = revoke(connection, arguments.what) if arguments.what.isascii() else 0
    if not count:
        raise UsageError("no such site or certificate; run process-cosmos-cloud sites to list them")
    print(f"{count} revoked")  # noqa: T201 - the command's output


def _rotate_ca(arguments: argparse.Namespace) -> None:
    before = Authority(arguments.data).sha256
    rotate(arguments.data, datetime.now(UTC), arguments.days)
    print(f"{before} was replaced by {Authority(arguments.data).sha256}; restart the endpoint")  # noqa: T201 - its output


def _sites(arguments: argparse.Namespace) -> None:
    for line in describe_sites(open_database(arguments.data / DATABASE)):
        print(line)  # noqa: T201 - the command's output


def _answer(arguments: argparse.Namespace) -> None:
    connection = open_database(arguments.data / DATABASE)
    site = arguments.site or _only_site_of(connection, arguments.alert)
    item = InboxItem(
        id=UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)(),
        cursor=0,
        alert=arguments.alert,
        by=arguments.by,
        age=0.0,
        revision=arguments.revision,
        answer=arguments.answer,
        acknowledge_for=arguments.acknowledge,
    )
    with connection:
        add_item(connection, site, item, time.time())
    print(item.id)  # noqa: T201 - the command's output


def _only_site_of(connection: Connection, alert: str) -> Ulid:
    sites = find_sites(connection, alert)
    if len(sites) > 1:
        raise UsageError(f"pass --site: {', '.join(sites)} have this alert; {sites[0]} was the first")
    if not sites:
        raise UsageError("no site has reported this alert; pass --site")
    return sites[0]


def _ledger(arguments: argparse.Namespace) -> None:
    connection = open_database(arguments.data / DATABASE)
    if arguments.readings:
        for reading in read_readings(connection):
            print(write_json(reading).decode() if arguments.json else _reading_line(reading))  # noqa: T201 - its output
        return
    for arrival in _arrivals(connection, arguments.after, follow=arguments.follow):
        print(write_json(arrival).decode() if arguments.json else _line(arrival), flush=True)  # noqa: T201 - its output


def _arrivals(connection: Connection, after: int, *, follow: bool) -> Iterator[ArrivalRow]:
    """Yield the log, endlessly with ``follow``. No cursor stays open while it waits."""
    while True:
        page = tuple(read_arrivals(connection, after))
        yield from page
        if page:
            after = page[-1].sequence
        elif follow:
            time.sleep(FOLLOW_SECONDS)
        else:
            return


def _reading_line(reading: StoredReading) -> str:
    is_date = EARLIEST <= reading.time <= LATEST  # a damaged row may hold any number
    moment = datetime.fromtimestamp(reading.time, UTC).isoformat() if is_date else f"{reading.time:g} s"
    mark = "  (conflict)" if reading.conflict else ""
    name = join_names(reading.device, reading.property)
    return f"{moment}  {reading.site}  {name}  {reading.value} {reading.unit or ''}{mark}"


def _line(arrival: ArrivalRow) -> str:
    kind = arrival.problem or arrival.type.removeprefix("process_cosmos.").removesuffix(".v1")
    repeat = "  (again)" if arrival.duplicate else ""
    batch = f"  [{arrival.readings} readings]" if arrival.readings else ""
    return f"{arrival.sequence:>8}  {arrival.time}  {arrival.site}  {kind:<22} {arrival.subject}{batch}{repeat}"


if __name__ == "__main__":
    main()
