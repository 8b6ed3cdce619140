"""Runs the endpoint: connects authority, database and listener."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from process_cosmos_gateway.listener import LISTENER, Listener

from .authority import Authority
from .database import Database
from .server import Endpoint

DATABASE = "cloud.sqlite"
SHUTDOWN_SECONDS = 2.0


@asynccontextmanager
async def serving(folder: Path, host: str, port: int, names: Sequence[str]) -> AsyncIterator[str]:
    """Serve the data in ``folder`` inside the block; yield the URL. Port 0: any free port.

    ``names``: host names and IP addresses of the certificate; the first one is used in the URL.
    """
    authority = Authority(folder)
    database = Database(folder / DATABASE)
    await database.start()
    application = Endpoint(database, authority).app()
    listener = application[LISTENER] = Listener(application, closing_seconds=SHUTDOWN_SECONDS)
    try:
        async with listener.listen(host, port, authority.server_context(names)):
            name = f"[{names[0]}]" if ":" in names[0] else names[0]
            url = f"https://{name}:{listener.port}"
            save = "INSERT OR REPLACE INTO setting (name, value) VALUES ('url', ?)"
            await database.write(lambda connection: connection.execute(save, (url,)))
            yield url
    finally:
        await database.close()
