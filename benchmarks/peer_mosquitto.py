"""A Mosquitto that bridges to another one over mutual TLS: what waited for the link leaves, and nothing is synced."""

import asyncio
import getpass
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import trustme

from process_cosmos_testbed.processes import ManagedProcess, accepts, free_ports

from .load import ENCODED

PROGRAM = shutil.which("mosquitto")
_TOPIC = b"bench/events"
_CHUNK = 1 << 18


async def bridge_rate(folder: Path, number: int) -> float:
    """Return how many messages of 300 bytes a second cross the bridge, with ``number`` waiting for it."""
    near_port, far_port, tls_port = free_ports(3)
    _write_certificates(folder)
    near, far = ManagedProcess("near", folder), ManagedProcess("far", folder)
    try:
        await _start(near, folder, near_port, _bridge(folder, tls_port))
        await _publish(near_port, number)
        near.signal(signal.SIGSTOP)  # nothing may cross before somebody counts
        await _start(far, folder, far_port, _listener(folder, tls_port))
        return await _rate(far_port, number, near)
    finally:
        near.signal(signal.SIGCONT)
        await near.stop()
        await far.stop()


async def _start(process: ManagedProcess, folder: Path, port: int, more: str) -> None:
    configuration = folder / f"{process.name}.conf"
    common = f"user {getpass.getuser()}\nlog_dest stderr\nlog_type error\nmax_queued_messages 0\nset_tcp_nodelay true\n"
    configuration.write_text(
        f"{common}max_inflight_messages 1000\nlistener {port} 127.0.0.1\nallow_anonymous true\n{more}"
    )
    await process.launch(str(PROGRAM), "-c", configuration)
    await process.until_ready(lambda: accepts(port), "an open port")


def _bridge(folder: Path, port: int) -> str:
    return (
        f"connection bench\naddress 127.0.0.1:{port}\ntopic bench/# out 1\ncleansession false\nrestart_timeout 1\n"
        f"bridge_cafile {folder}/ca.pem\nbridge_certfile {folder}/client.pem\nbridge_keyfile {folder}/client.key\n"
        "notifications false\n"
    )


def _listener(folder: Path, port: int) -> str:
    return (
        f"listener {port} 127.0.0.1\nrequire_certificate true\nallow_anonymous true\n"
        f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
    )


def _write_certificates(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, identity in (("server", "127.0.0.1"), ("client", "bridge.example")):
        certificate = authority.issue_cert(identity)
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
        for part in certificate.cert_chain_pems:
            part.write_to_path(folder / f"{name}.pem", append=True)


def _packet(kind: int, body: bytes) -> bytes:
    """Return an MQTT 3.1.1 control packet: written by hand, so that a client library is no part of the figure."""
    length, rest = b"", len(body)
    while True:
        rest, low = divmod(rest, 128)
        length += bytes([low | (128 if rest else 0)])
        if not rest:
            return bytes([kind]) + length + body


def _text(text: bytes) -> bytes:
    return len(text).to_bytes(2) + text


async def _connect(port: int, client: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(_packet(0x10, _text(b"MQTT") + b"\x04\x02\x00\x00" + _text(client)))
    await reader.readexactly(4)
    return reader, writer


async def _publish(port: int, number: int) -> None:
    """Publish with QoS 1; return when the near broker has acknowledged all."""
    reader, writer = await _connect(port, b"producer")
    message = b"x" * (ENCODED - len(_TOPIC))
    acknowledged = asyncio.create_task(reader.readexactly(4 * number))
    for count in range(number):
        writer.write(_packet(0x32, _text(_TOPIC) + (count % 65_535 + 1).to_bytes(2) + message))
        if count % 500 == 0:
            await writer.drain()
    await acknowledged
    writer.close()


async def _rate(port: int, number: int, near: ManagedProcess) -> float:
    """Count what arrives behind the bridge by its bytes."""
    reader, writer = await _connect(port, b"consumer")
    writer.write(_packet(0x82, b"\x00\x01" + _text(b"bench/#") + b"\x00"))
    await reader.readexactly(5)
    near.signal(signal.SIGCONT)
    size = len(_packet(0x30, _text(_TOPIC) + b"x" * (ENCODED - len(_TOPIC))))
    got, begun, ended = 0, 0.0, 0.0
    with suppress(TimeoutError):
        while got < number * size:
            some = await asyncio.wait_for(reader.read(_CHUNK), 30)
            ended = time.perf_counter()
            begun = begun or ended
            got += len(some)
    writer.close()
    if got < number * size * 0.999:
        raise TimeoutError(f"{got // size} of {number} messages crossed the bridge")
    return got / size / (ended - begun)
