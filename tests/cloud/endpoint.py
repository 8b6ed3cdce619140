"""The cloud endpoint as a process, and a client for its sites that shares no code with the gateway."""

import asyncio
import hashlib
import ssl
import sys
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import aiohttp
import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from process_cosmos_gateway.contract.pairing import parse_line

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
PATIENCE = 20.0


async def run_command(folder: Path, *arguments: str) -> str:
    """Run one command of the endpoint's command line; return its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "process_cosmos_cloud",
        *arguments,
        "--data",
        str(folder),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


@dataclass
class EndpointProcess:
    """``process-cosmos-cloud serve`` as a process; ``port`` stays the same after a restart."""

    folder: Path
    port: int = 0
    url: str = ""
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the process and wait until it listens."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "process_cosmos_cloud",
            "serve",
            "--data",
            str(self.folder),
            "--port",
            str(self.port),
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        self.url = line.decode().split()[-1]
        self.port = int(self.url.rpartition(":")[2])

    async def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """Stop the process (SIGTERM); return its exit code."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), PATIENCE)

    async def code(self, *arguments: str) -> str:
        """Return a new one-time code."""
        return (await run_command(self.folder, "code", *arguments)).strip()

    async def answer(self, *arguments: str) -> str:
        """Add an inbox item with the command ``answer``; return its id."""
        return (await run_command(self.folder, "answer", *arguments)).strip()

    async def ledger(self, *arguments: str) -> list[dict[str, Any]]:
        """Return all arrivals, as the command ``ledger`` prints them."""
        return [
            orjson.loads(line)
            for line in (await run_command(self.folder, "ledger", "--json", *arguments)).split("\n")[:-1]
        ]


@asynccontextmanager
async def endpoint_process(folder: Path) -> AsyncIterator[EndpointProcess]:
    """Run the endpoint as a process inside the block."""
    endpoint = EndpointProcess(folder)
    await endpoint.start()
    try:
        yield endpoint
    finally:
        await endpoint.stop()


def event(number: int, site: str, **changes: object) -> dict[str, object]:
    """Return one CloudEvent; ``number`` determines its id and subject."""
    return {
        "specversion": "1.0",
        "id": f"01K{number:023d}",
        "source": f"/sites/{site}",
        "type": "process_cosmos.alert.opened.v1",
        "subject": f"01J{number:023d}",
        "time": "2026-11-22T10:00:00Z",
        "datacontenttype": "application/json",
        "data": {"number": number},
        **changes,
    }


def said(receipt: Any, count: int) -> list[str]:  # noqa: ANN401 - JSON
    """Return the result of each of ``count`` events according to a receipt."""
    rejected = [item["index"] for item in receipt["rejected"]]
    return [
        "rejected" if index in rejected else "duplicate" if index in receipt["duplicates"] else "accepted"
        for index in range(count)
    ]


def joined(events: Sequence[object]) -> bytes:
    """Return a batch, joined as the gateway does it."""
    return b"[" + b",\n".join(orjson.dumps(item) for item in events) + b"]"


@dataclass
class Site:
    """A client that acts as a site, with no code of the gateway."""

    site: str
    url: str
    key: ec.EllipticCurvePrivateKey
    certificate: str = ""
    ca: str = ""
    token: str | None = None
    epoch: str | None = None
    address: str | None = None
    """The local address used for renewals."""

    def copy(self) -> Site:
        """Return a copy of the site, as a copied disk would hold it."""
        return replace(self)

    @classmethod
    def new(cls, site: str, url: str) -> Site:
        """Return a site with a key, but no certificate yet."""
        return cls(site, url, ec.generate_private_key(ec.SECP256R1()))

    def request(self, name: str | None = None) -> str:
        """Return a certificate request (PEM)."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or self.site)])
        csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(self.key, hashes.SHA256())
        return csr.public_bytes(serialization.Encoding.PEM).decode()

    async def enrol(self, code: str, **changes: object) -> tuple[int, Any]:
        """Enrol with a code; return status and reply."""
        body = {"secret": parse_line(code).secret, "site": self.site, "csr": self.request(), **changes}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False)) as session,
            session.post(f"{self.url}/v1/enroll", data=orjson.dumps(body)) as response,
        ):
            reply = await response.json(content_type=None)
        if response.status == 200:
            self.certificate, self.ca = reply["certificate"], reply["ca"]
        return response.status, reply

    def tls(self) -> ssl.SSLContext:
        """Return a TLS context with the client certificate and the CA from enrolment."""
        context = ssl.create_default_context(cadata=self.ca)
        with NamedTemporaryFile("w") as file:
            file.write(self.key_pem() + self.certificate)
            file.flush()
            context.load_cert_chain(file.name)
        return context

    def key_pem(self) -> str:
        """Return the private key (PEM)."""
        form = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()

    async def post(self, body: bytes | BytesIO, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """Post a body to /v1/events; return status and reply."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls())) as session,
            session.post(f"{self.url}/v1/events", data=body, headers=headers or BATCH) as response,
        ):
            return response.status, await response.json(content_type=None)

    async def send(self, events: Sequence[object]) -> list[str]:
        """Send a batch and keep the reply's token, as a gateway does; return the result of each event."""
        status, reply = await self.present(joined(events))
        assert status == 200, reply
        self.token = reply["token"]
        return said(reply, len(events))

    async def present(self, body: bytes) -> tuple[int, Any]:
        """Post a body with the site's token and epoch, without keeping the reply's token."""
        shown = {"Process-Cosmos-Token": self.token, "Process-Cosmos-Epoch": self.epoch}
        return await self.post(body, BATCH | {name: value for name, value in shown.items() if value is not None})

    async def renew(self, **changes: str) -> tuple[int, Any]:
        """Renew the certificate with a new key; return status and reply."""
        fresh = Site.new(self.site, self.url)
        csr = fresh.request()
        proof = self.key.sign(csr.encode(), ec.ECDSA(hashes.SHA256())).hex()
        body = {"certificate": self.certificate, "csr": csr, "proof": proof, **changes}
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=ssl.create_default_context(cadata=self.ca),
                    local_addr=(self.address, 0) if self.address else None,
                )
            ) as session,
            session.post(f"{self.url}/v1/renew", data=orjson.dumps(body)) as response,
        ):
            reply = await response.json(content_type=None)
        if response.status == 200:
            self.key, self.certificate, self.ca = fresh.key, reply["certificate"], reply["ca"]
        return response.status, reply

    @property
    def serial(self) -> str:
        """The serial number of the certificate, as the endpoint prints it."""
        return f"{x509.load_pem_x509_certificate(self.certificate.encode()).serial_number:x}"

    async def inbox(self, after: int = 0) -> list[dict[str, Any]]:
        """Poll the inbox once; return its items."""
        status, page = await self.poll(after)
        assert status == 200
        items: list[dict[str, Any]] = page["items"]
        return items

    async def poll(self, after: int | str, **more: str) -> tuple[int, Any]:
        """Poll the inbox once; return status and reply."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls())) as session,
            session.get(f"{self.url}/v1/inbox", params={"after": after, **more}) as response,
        ):
            return response.status, await response.json(content_type=None)


def altered(pem: str, old: str, new: str) -> str:
    """Return a PEM certificate or request in which some DER bytes (hexadecimal) are replaced."""
    begin, *lines, end = pem.strip().split("\n")
    der = b64decode("".join(lines)).replace(bytes.fromhex(old), bytes.fromhex(new), 1)
    return f"{begin}\n{b64encode(der).decode()}\n{end}\n"


def key_sha256(ca_pem: str) -> str:
    """Return the SHA-256 of a CA's public key, as contained in codes."""
    public = x509.load_pem_x509_certificate(ca_pem.encode()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(public.public_bytes(serialization.Encoding.DER, form)).hexdigest()


@asynccontextmanager
async def swallowing_replies(port: int) -> AsyncIterator[int]:
    """Proxy ``port`` so that requests arrive and replies are lost; yield the proxy's port.

    In TLS 1.3 a client sends twice before it needs a reply: dropping everything that comes back after the second chunk
    completes the handshake and loses the reply.
    """

    async def serve(client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        back = asyncio.create_task(first_flight(reader, client_writer))
        chunks = 0
        while chunk := await client_reader.read(1 << 16):
            chunks += 1
            if chunks == 2:
                back.cancel()
            writer.write(chunk)
        writer.close()

    async def first_flight(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    server.close_clients()
