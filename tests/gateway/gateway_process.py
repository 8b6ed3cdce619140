"""A real gateway process that tests start, stop, kill, pair and connect to."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from aiohttp import ClientSession, Fingerprint

from process_cosmos_gateway.contract.codec import parse
from process_cosmos_gateway.contract.messages import FromGateway
from process_cosmos_gateway.contract.pairing import OneTimeLine, Paired, PairingRequest, parse_line
from process_cosmos_gateway.contract.session import GatewayHello
from process_cosmos_testbed import services
from process_cosmos_testbed.services import COMMAND

from .api.link import SECONDS, Link, hello


class GatewayProcess(services.GatewayProcess):
    """A gateway with its data in ``folder``/data; it is stopped by the test or at the end of ``gateway_process``.

    ``measured``: whether coverage may run in the process; it needs memory and time of its own. ``program``: the command
    to run; a test may use one with shorter time limits.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        options: str = "",
        *,
        measured: bool = True,
        program: Sequence[str | Path] = (COMMAND,),
    ) -> None:
        super().__init__(folder, port, options)
        self.data = folder / "data"
        self.program = (*program, "run")
        self.environment = {name: value for name, value in os.environ.items() if measured or "COVERAGE" not in name}
        self.token = ""
        self.http: ClientSession
        self.write_options()

    async def stop(self, limit: float = SECONDS) -> int:
        """Send SIGTERM; the process must end by itself with exit code 0."""
        code = await super().stop(limit)
        assert code == 0, self.log.read_text()
        return code

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run another command with the same options; return exit code, output, errors."""
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            COMMAND, *arguments, "--options", self.file, stdout=pipe, stderr=pipe
        )
        async with asyncio.timeout(SECONDS):
            output, errors = await child.communicate()
        return child.returncode or 0, output.decode(), errors.decode()

    async def pairing_line(self) -> OneTimeLine:
        """Return a new pairing line."""
        return parse_line(await self.new_pairing_line())

    async def pair(self, line: OneTimeLine, instance: str = "home") -> tuple[int, dict[str, str]]:
        """Use a pairing line; return status and body of the reply."""
        body = orjson.dumps(PairingRequest(secret=line.secret, instance=instance))
        pinned = Fingerprint(bytes.fromhex(line.sha256))
        async with self.http.post(f"{line.url}/v1/pair", data=body, ssl=pinned) as reply:
            return reply.status, orjson.loads(await reply.read())

    async def paired(self) -> Paired:
        """Pair as Home Assistant does."""
        status, body = await self.pair(await self.pairing_line())
        assert status == 200
        paired = parse(Paired, body)
        self.token = paired.token
        return paired

    @asynccontextmanager
    async def session(
        self, token: str | None = None, instance: str = "home"
    ) -> AsyncIterator[tuple[Link, FromGateway]]:
        """Open a session; yield it with the gateway's first message."""
        if not token and not self.token:
            await self.paired()
        headers = {"Authorization": f"Bearer {token or self.token}"}
        async with self.http.ws_connect(f"{self.url}/ws", headers=headers, ssl=False, max_msg_size=0) as socket:
            link = Link(socket)
            await link.send(hello(instance=instance))
            yield link, await link.next()

    async def greeting(self) -> GatewayHello:
        """Return the gateway's greeting of a new session."""
        async with self.session() as (_, greeting):
            assert isinstance(greeting, GatewayHello)
            return greeting


@asynccontextmanager
async def gateway_process(
    folder: Path, port: int, options: str = "", *, measured: bool = True, program: Sequence[str | Path] = (COMMAND,)
) -> AsyncIterator[GatewayProcess]:
    """Run a gateway inside the context, and stop it at the end if it still runs."""
    gateway = GatewayProcess(folder, port, options, measured=measured, program=program)
    async with ClientSession() as gateway.http:
        await gateway.start()
        try:
            yield gateway
        finally:
            if gateway.running:
                await gateway.stop()


def served_certificate(port: int) -> bytes:
    """Return the certificate (DER) presented at ``port``."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))
