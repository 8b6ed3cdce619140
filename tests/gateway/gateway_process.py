"""A real gateway process, as the tests start, stop and kill it."""

import asyncio
import os
import re
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from aiohttp import ClientError, ClientSession, Fingerprint

from process_cosmos_gateway.contract.codec import parse
from process_cosmos_gateway.contract.messages import FromGateway
from process_cosmos_gateway.contract.pairing import OneTimeLine, Paired, PairingRequest, parse_line
from process_cosmos_gateway.contract.session import GatewayHello

from .api.link import SECONDS, Link, hello

COMMAND = Path(sys.executable).with_name("process-cosmos-gateway")


@dataclass
class GatewayProcess:
    """The gateway with its data in ``folder``, listening at ``port`` of 127.0.0.1; ``options`` are lines of TOML."""

    folder: Path
    port: int
    options: str = ""
    token: str = ""
    measured: bool = True
    """Whether coverage may come along: it takes memory and time of its own."""
    program: Sequence[str | Path] = (COMMAND,)
    """What is run; a test may shorten the gateway's patience."""
    http: ClientSession = field(init=False)

    def __post_init__(self) -> None:
        self.data = self.folder / "data"
        self.file = self.folder / "gateway.toml"
        self.log = self.folder / "gateway.log"
        self.file.write_text(f'data = "{self.data}"\nhost = "127.0.0.1"\nport = {self.port}\n{self.options}')
        self.url = f"https://127.0.0.1:{self.port}"

    async def start(self) -> float:
        """Return when it is well, and after how many seconds."""
        begin = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if self.measured or "COVERAGE" not in name}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.program, "run", "--options", self.file, stderr=log, env=environment
            )
        async with asyncio.timeout(SECONDS):
            while not await self.is_well():
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.01)
        return time.monotonic() - begin

    async def is_well(self) -> bool:
        """Ask whether it is well; nobody listening is a no."""
        try:
            async with self.http.get(f"{self.url}/health", ssl=False) as reply:
                return reply.status == 200
        except ClientError:
            return False

    async def stop(self) -> float:
        """Send SIGTERM; return after how many seconds it had ended by itself."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS):
            assert await self.process.wait() == 0, self.log.read_text()
        return time.monotonic() - begin

    async def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()
        await self.process.wait()

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        """Run another command of it beside it; return exit code, output, errors."""
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            COMMAND, *arguments, "--options", self.file, stdout=pipe, stderr=pipe
        )
        async with asyncio.timeout(SECONDS):
            output, errors = await child.communicate()
        return child.returncode or 0, output.decode(), errors.decode()

    async def pairing_line(self) -> OneTimeLine:
        """Return a fresh pairing line."""
        code, output, errors = await self.command("pair", "--host", "127.0.0.1")
        assert code == 0, errors
        return parse_line(output)

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
        """Open a session; yield it with the gateway's first word."""
        if not token and not self.token:
            await self.paired()
        headers = {"Authorization": f"Bearer {token or self.token}"}
        async with self.http.ws_connect(f"{self.url}/ws", headers=headers, ssl=False, max_msg_size=0) as socket:
            link = Link(socket)
            await link.send(hello(instance=instance))
            yield link, await link.next()

    async def greeting(self) -> GatewayHello:
        """Return how it greets."""
        async with self.session() as (_, greeting):
            assert isinstance(greeting, GatewayHello)
            return greeting

    def resident_megabytes(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found[1]) / 1024


@asynccontextmanager
async def gateway_process(
    folder: Path, port: int, options: str = "", *, measured: bool = True, program: Sequence[str | Path] = (COMMAND,)
) -> AsyncIterator[GatewayProcess]:
    """Start a gateway; if it still runs in the end it is stopped."""
    gateway = GatewayProcess(folder, port, options, measured=measured, program=program)
    async with ClientSession() as gateway.http:
        await gateway.start()
        try:
            yield gateway
        finally:
            if gateway.process.returncode is None:
                await gateway.stop()


def served_certificate(port: int) -> bytes:
    """Return the certificate (DER) somebody shows at ``port``."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))
