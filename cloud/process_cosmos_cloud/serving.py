"""The running endpoint: authority, database and listener put together."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from .authority import Authority
from .connections import date_connections
from .database import Database
from .server import Endpoint

DATABASE = "cloud.sqlite"
SHUTDOWN_SECONDS = 2.0


@asynccontextmanager
async def serving(folder: Path, host: str, port: int, names: Sequence[str]) -> AsyncIterator[str]:
    """Serve from ``folder`` for as long as the block runs; gives the URL, with the port that was free for 0.

    ``names``: host names and IP addresses the certificate is for; the first one stands in the URL.
    """
    authority = Authority(folder)
    database = Database(folder / DATABASE)
    await database.start()
    runner = web.AppRunner(Endpoint(database, authority).app(), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        tls = authority.server_context(names)
        date_connections(tls)
        await web.TCPSite(runner, host, port, ssl_context=tls).start()
        name = f"[{names[0]}]" if ":" in names[0] else names[0]
        url = f"https://{name}:{runner.addresses[0][1]}"
        save = "INSERT OR REPLACE INTO setting (name, value) VALUES ('url', ?)"
        await database.write(lambda connection: connection.execute(save, (url,)))
        yield url
    finally:
        await runner.cleanup()
        await database.close()
