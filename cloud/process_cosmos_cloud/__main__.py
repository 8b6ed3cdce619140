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
from process_cosmos_gateway.contract.codec import parse
from process_cosmos_gateway.contract.durations import LONGEST_ACKNOWLEDGEMENT
from process_cosmos_gateway.contract.errors import ContractError
from process_cosmos_gateway.contract.identifiers import Ulid, UlidFactory, is_ulid, join_names
from process_cosmos_gateway.contract.pairing import LineError, OneTimeLine, parse_line
from process_cosmos_gateway.logs import set_up_logs

from .arrivals import ArrivalRow, find_sites, read_arrivals
from .authority import Authority
from .ca import TRUST_DAYS, rotate
from .codes import make_code
from .database import Connection, DatabaseError, SqlError, open_database
from .identity import describe_sites, revoke
from .inbox import add_item
from .readings import EARLIEST, LATEST, StoredReading, read_readings
from .serving import DATABASE, serving

FOLLOW_SECONDS = 0.2

MOST_DAYS = 3650
LONGEST_TEXT = 255
EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - listen addresses that cannot be names of a certificate


class UsageError(Exception):
    """The command line is invalid; the message says what to change."""


def main() -> None:
    """Run one command; on failure exit with status 1 and a sentence."""
    arguments = _parser().parse_args()
    if "data" not in arguments:
        arguments.data = Path("cloud-data")
    # SQLite creates the database and its log with the permissions that the umask leaves.
    os.umask(0o077)
    try:
        arguments.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        arguments.command_fn(arguments)
    except (UsageError, DatabaseError, SqlError, OSError) as error:
        sys.exit(f"process-cosmos-cloud: {error}")


type _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no public name


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--data", type=Path, default=argparse.SUPPRESS, help="folder of the database and keys (default: ./cloud-data)"
    )
    parser = argparse.ArgumentParser("process-cosmos-cloud", description=__doc__, parents=[common])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", parents=[common], help="run the endpoint")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    serve.add_argument("--port", type=_whole(0, 65_535), default=8443, help="0: any free port (default: %(default)s)")
    serve.add_argument("--name", action="append", help="host name or IP address for the certificate; may be repeated")
    serve.set_defaults(command_fn=_serve)

    code = commands.add_parser("code", parents=[common], help="create a one-time code for one site, valid for 24 hours")
    code.add_argument(
        "--url", help="https://host:port under which the site reaches the endpoint (default: as it was started)"
    )
    code.add_argument("--site", help="valid for this site only; required if it is enrolled already")
    code.set_defaults(command_fn=_code)

    revoke_one = commands.add_parser(
        "revoke", parents=[common], help="revoke the certificates of a site, or one of them"
    )
    revoke_one.add_argument("what", metavar="SITE|SERIAL", help="as printed by the command sites")
    revoke_one.set_defaults(command_fn=_revoke)

    rotate_ca = commands.add_parser(
        "rotate-ca", parents=[common], help="replace the CA by a new one; then restart the endpoint"
    )
    rotate_ca.add_argument(
        "--days",
        type=_whole(0, MOST_DAYS),
        default=TRUST_DAYS,
        help="how long the old CA stays trusted (default: %(default)s)",
    )
    rotate_ca.set_defaults(command_fn=_rotate_ca)

    sites = commands.add_parser("sites", parents=[common], help="print every site with its certificates and refusals")
    sites.set_defaults(command_fn=_sites)

    _add_answer(commands, common)
    _add_ledger(commands, common)
    return parser


def _add_answer(commands: _Commands, common: argparse.ArgumentParser) -> None:
    answer = commands.add_parser("answer", parents=[common], help="put an answer into a site's inbox")
    answer.add_argument("alert", help="the id of the alert")
    what = answer.add_mutually_exclusive_group(required=True)
    what.add_argument("answer", nargs="?", help="one of the answers the alert offers")
    what.add_argument("--acknowledge", type=float, metavar="SECONDS", help="acknowledge it for this long instead")
    answer.add_argument(
        "--revision", type=_whole(1, MOST_SIGNED), help="the revision it is meant for (default: the current one)"
    )
    answer.add_argument("--by", default="cloud", help="who answers (default: %(default)s)")
    answer.add_argument("--site", help="the site (default: the one that opened the alert)")
    answer.set_defaults(command_fn=_answer)


def _add_ledger(commands: _Commands, common: argparse.ArgumentParser) -> None:
    ledger = commands.add_parser("ledger", parents=[common], help="print every arrival in order, including repeats")
    ledger.add_argument("--readings", action="store_true", help="print the readings of all batches instead, each once")
    ledger.add_argument("--json", action="store_true", help="print one JSON object per line")
    ledger.add_argument("--follow", action="store_true", help="keep printing new arrivals")
    ledger.add_argument(
        "--after", type=_whole(0, MOST_SIGNED), default=0, metavar="SEQUENCE", help="print only arrivals after this one"
    )
    ledger.set_defaults(command_fn=_ledger)


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Return an argparse type for integers from ``least`` to ``most``."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}")
        return int(text)

    return read


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
    if arguments.site is not None and not is_ulid(arguments.site):
        raise UsageError("--site must be a site's id")
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
    if not is_ulid(arguments.alert):
        raise UsageError("the alert's id has 26 characters, as the ledger prints it")
    if arguments.site is not None and not is_ulid(arguments.site):
        raise UsageError("--site must be a site's id")
    connection = open_database(arguments.data / DATABASE)
    site = arguments.site or _only_site_of(connection, arguments.alert)
    item = _item(arguments)
    with connection:
        add_item(
            connection,
            identifier=item.id,
            site=site,
            alert=item.alert,
            by=item.by,
            now=time.time(),
            revision=item.revision,
            answer=item.answer,
            acknowledge_for=item.acknowledge_for,
        )
    print(item.id)  # noqa: T201 - the command's output


def _only_site_of(connection: Connection, alert: str) -> Ulid:
    sites = find_sites(connection, alert)
    if len(sites) > 1:
        raise UsageError(f"pass --site: {', '.join(sites)} have this alert; {sites[0]} was the first")
    if not sites:
        raise UsageError("no site has reported this alert; pass --site")
    return sites[0]


def _item(arguments: argparse.Namespace) -> InboxItem:
    """Return the inbox item, validated with the parser of the site that will fetch it."""
    given = {
        "id": UlidFactory(lambda: time.time_ns() // 1_000_000, os.urandom)(),
        "cursor": 0,
        "alert": arguments.alert,
        "by": arguments.by,
        "age": 0.0,
        "revision": arguments.revision,
        "answer": arguments.answer,
        "acknowledge_for": arguments.acknowledge,
    }
    texts = [text for text in (arguments.by, arguments.answer) if text is not None]
    if any(len(text) > LONGEST_TEXT or not text.isprintable() for text in texts):
        raise UsageError(f"the answer and --by can have at most {LONGEST_TEXT} printable characters")
    if arguments.acknowledge is not None and not 0 < arguments.acknowledge <= LONGEST_ACKNOWLEDGEMENT:
        raise UsageError(f"--acknowledge must be from 1 to {LONGEST_ACKNOWLEDGEMENT:.0f} seconds")
    try:
        return parse(InboxItem, given)
    except ContractError as error:
        raise UsageError(str(error)) from error


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
