"""The gateway as a process: it starts, pairs, serves TLS, stops, and loses nothing when killed."""

import asyncio
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientError, ServerFingerprintMismatch, WSServerHandshakeError

from process_cosmos_gateway.contract.alerts import (
    AlertState,
    CaughtUp,
    Change,
    Replica,
    Severity,
    Transition,
    TransitionKind,
)
from process_cosmos_gateway.contract.codec import MAX_FRAME, decode, encode
from process_cosmos_gateway.contract.destinations import (
    DiscardRejected,
    LinkState,
    ListRejected,
    RejectedEvents,
    RemoveDestination,
    SendAgain,
    SetCloud,
    SetWebhook,
    Status,
    Waiting,
)
from process_cosmos_gateway.contract.devices import Snapshot, Subscribe, WriteProperty
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.identifiers import Position, UlidFactory
from process_cosmos_gateway.contract.messages import FROM_GATEWAY
from process_cosmos_gateway.contract.pairing import OneTimeLine
from process_cosmos_gateway.contract.session import Committed, GatewayHello, Result

from .api.link import RUN
from .gateway_process import GatewayProcess, gateway_process, served_certificate

IDS = UlidFactory(lambda: 1_795_000_000_000, bytes)


@pytest.fixture
async def gateway(tmp_path: Path, unused_tcp_port: int) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(tmp_path, unused_tcp_port) as running:
        yield running


def opened(n: int, message: str = "Water under the sink") -> Transition:
    """Return transition ``n``, which opens an alert of its own."""
    alert = IDS()
    replica = Replica(
        id=alert,
        group=f"automation.leak_{n}",
        state=AlertState.OPEN,
        revision=1,
        answers_from=1,
        severity=Severity.CRITICAL,
        message=message,
        entities=("binary_sensor.sink",),
        answers=("Keep off",),
        count=1,
        until_in=86400.0,
    )
    change = Change(
        kind=TransitionKind.OPENED, alert=replica, event=IDS(), at=datetime(2026, 11, 22, tzinfo=UTC), requests=()
    )
    return Transition(position=Position(run=RUN, n=n), changes=(change,))


async def test_a_pairing_line_opens_sessions_over_tls_with_the_certificate_it_names(gateway: GatewayProcess) -> None:
    line = await gateway.pairing_line()
    assert line.url == gateway.url
    assert line.sha256 == sha256(await asyncio.to_thread(served_certificate, gateway.port)).hexdigest()
    paired = await gateway.paired()
    greeting = await gateway.greeting()
    assert greeting.site == paired.site
    assert greeting.cursor is None
    assert greeting.summaries == ()


async def test_a_pairing_line_of_another_gateway_sends_it_nothing(gateway: GatewayProcess) -> None:
    line = await gateway.pairing_line()
    with pytest.raises(ServerFingerprintMismatch):
        await gateway.pair(OneTimeLine(url=line.url, secret=line.secret, sha256="00" * 32))
    assert (await gateway.pair(line))[0] == 200


async def test_used_wrong_and_expired_pairing_lines_are_refused(gateway: GatewayProcess) -> None:
    line = await gateway.pairing_line()
    assert (await gateway.pair(line))[0] == 200
    used = await gateway.pair(line)
    wrong = await gateway.pair(OneTimeLine(url=line.url, secret="made-up-secret-0001", sha256=line.sha256))
    late = await gateway.pairing_line()
    offer = gateway.data / "pairing.json"
    offer.write_bytes(orjson.dumps({**orjson.loads(offer.read_bytes()), "expires": "2020-01-01T00:00:00Z"}))
    expired = await gateway.pair(late)
    assert [(status, body["code"]) for status, body in (used, wrong, expired)] == [(403, Code.PAIRING_REFUSED)] * 3


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"secret": 7, "instance": "home"}', b"x" * (1 << 20)],
    ids=["nothing", "half", "number", "mebibyte"],
)
async def test_a_broken_pairing_request_is_refused(gateway: GatewayProcess, body: bytes) -> None:
    async with gateway.http.post(f"{gateway.url}/v1/pair", data=body, ssl=False) as reply:
        assert reply.status in (400, 413)
    assert await gateway.is_well()


async def test_wrong_guesses_from_the_same_address_do_not_block_the_right_pairing_line(
    gateway: GatewayProcess,
) -> None:
    line = await gateway.pairing_line()
    guess = OneTimeLine(url=line.url, secret="made-up-secret-0001", sha256=line.sha256)
    statuses = [(await gateway.pair(guess))[0] for _ in range(30)]
    assert (statuses, (await gateway.pair(line))[0]) == ([403] * 30, 200)
    refused = sum("A pairing was refused" in line for line in gateway.log.read_text("utf-8").splitlines())
    assert 0 < refused <= 11, "the log has a rate of its own"


async def test_a_new_pairing_ends_the_old_session_and_its_token(gateway: GatewayProcess) -> None:
    async with gateway.session() as (link, _):
        old = gateway.token
        await gateway.paired()
        await link.end()
    with pytest.raises(WSServerHandshakeError):
        async with gateway.session(old):
            pass
    await gateway.greeting()


async def test_after_subscribing_the_current_state_is_sent(gateway: GatewayProcess) -> None:
    async with gateway.session() as (link, _):
        await link.send(CaughtUp(), Subscribe(id="1", run=RUN))
        result, snapshot, status = [await link.next() for _ in range(3)]
        assert result == Result(id="1")
        assert isinstance(snapshot, Snapshot)
        assert snapshot.devices == ()
        assert status == Status(links=(), waiting=Waiting(), rejected=0, dropped=0, broker_connected=False)


async def test_an_impossible_request_is_refused_with_its_code(gateway: GatewayProcess) -> None:
    requests: dict[SetWebhook | SetCloud | RemoveDestination | WriteProperty, Code] = {
        WriteProperty(id="1", device="unknown", property="open", value=True): Code.UNKNOWN_DEVICE,
        SetWebhook(id="2", name="hook", url="no address"): Code.URL_INVALID,
        SetCloud(id="3", name="cloud", code="no code"): Code.CODE_MALFORMED,
        RemoveDestination(id="4", name="unknown"): Code.UNKNOWN_DESTINATION,
    }
    async with gateway.session() as (link, _):
        await link.send(CaughtUp())
        for request, code in requests.items():
            await link.send(request)
            result = await link.next()
            assert isinstance(result, Result)
            assert result.problem
            assert (result.id, result.problem.code) == (request.id, code)


async def test_rejected_events_are_listed_sent_again_and_discarded(gateway: GatewayProcess) -> None:
    async with gateway.session() as (link, _):
        await link.send(ListRejected(id="1"))
        assert await link.next() == RejectedEvents(id="1", events=())
        await link.send(SendAgain(id="2"))
        assert await link.next() == Result(id="2")
        await link.send(DiscardRejected(id="3"))
        assert await link.next() == Result(id="3")


async def test_frames_of_one_mebibyte_go_through_and_longer_ones_end_the_session(gateway: GatewayProcess) -> None:
    async with gateway.session() as (link, _):
        await link.socket.send_bytes(encode(opened(1, "x" * 65_536)).ljust(MAX_FRAME))
        assert await link.next() == Committed(position=Position(run=RUN, n=1))
        await link.socket.send_bytes(b"x" * (MAX_FRAME + 1))
        await link.end()
    assert (await gateway.greeting()).cursor == Position(run=RUN, n=1)


async def test_garbage_at_the_port_is_harmless(gateway: GatewayProcess) -> None:
    async with gateway.session() as (link, _):
        for garbage in (b"\x00" * 4096, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\xff" * 100, b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(garbage)
            writer.write_eof()
            await reader.read()
            writer.close()
        await tls_garbage(gateway.port)
        await link.send(opened(1))
        assert await link.next() == Committed(position=Position(run=RUN, n=1))
    assert "Traceback" not in gateway.log.read_text()


async def tls_garbage(port: int) -> None:
    """Complete a TLS handshake, then send garbage."""
    anything = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anything.check_hostname = False
    anything.verify_mode = ssl.CERT_NONE
    for garbage in (b"\xff" * 10_000, b"GET /ws HTTP/1.1\r\nUpgrade: x\r\n\r\n", b"POST /v1/pair HTTP/9\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anything)
        writer.write(garbage)
        assert (await reader.read(1000)).startswith(b"HTTP/1.")
        writer.close()


async def test_there_is_no_plain_http(gateway: GatewayProcess) -> None:
    with pytest.raises(ClientError):
        await gateway.http.get(f"http://127.0.0.1:{gateway.port}/health")


async def flood(
    gateway: GatewayProcess, records: Sequence[Transition], strike: Callable[[], Coroutine[None, None, object]]
) -> int:
    """Send ``records`` without waiting and call ``strike`` in between; return the number of the last confirmed one."""
    async with gateway.session() as (link, _):
        sending = asyncio.create_task(link.send(*records))
        confirmed = 0
        while confirmed < len(records) // 4:
            receipt = await link.next()
            assert isinstance(receipt, Committed)
            assert receipt.position
            confirmed = receipt.position.n
        striking = asyncio.create_task(strike())
        async for frame in link.socket:
            receipt = decode(frame.data, FROM_GATEWAY)
            if isinstance(receipt, Committed):
                confirmed = receipt.position.n
        await striking
        await asyncio.gather(sending, return_exceptions=True)
    return confirmed


RECORDS = [opened(n) for n in range(1, 401)]


async def nothing_confirmed_is_lost(gateway: GatewayProcess, confirmed: int) -> None:
    """Restart the gateway; assert that it has everything confirmed, and accepts the rest again."""
    await gateway.start()
    async with gateway.session() as (link, greeting):
        assert isinstance(greeting, GatewayHello)
        assert greeting.cursor
        applied = greeting.cursor.n
        assert confirmed <= applied < 400, "nothing was in flight"
        assert sorted(head.position.n for head in greeting.summaries) == list(range(1, applied + 1))
        await link.send(*RECORDS[applied - 1 :], CaughtUp())
        for n in range(applied, 401):
            assert await link.next() == Committed(position=Position(run=RUN, n=n))
    assert len((await gateway.greeting()).summaries) == 400


async def test_confirmed_records_survive_a_kill_and_the_rest_is_accepted_again(gateway: GatewayProcess) -> None:
    await nothing_confirmed_is_lost(gateway, await flood(gateway, RECORDS, gateway.kill))


async def test_sigterm_stops_it_within_five_seconds_without_losses(gateway: GatewayProcess) -> None:
    async def stop() -> None:
        await gateway.stop(limit=5)

    await nothing_confirmed_is_lost(gateway, await flood(gateway, RECORDS, stop))


async def test_after_a_kill_it_is_back_and_the_pairing_with_it(tmp_path: Path, unused_tcp_port: int) -> None:
    async with gateway_process(tmp_path, unused_tcp_port, measured=False) as gateway:
        site = (await gateway.greeting()).site
        await gateway.kill()
        await gateway.start()
        assert (await gateway.greeting()).site == site


async def test_a_second_gateway_on_the_same_data_is_refused(gateway: GatewayProcess) -> None:
    code, _, errors = await gateway.command("run")
    assert code == 1
    assert errors.startswith(f"start_folder_taken: Another gateway uses the data folder {gateway.data}. ")


@pytest.mark.parametrize("name", ["a file", "x" * 300, "a file/below"])
async def test_an_impossible_data_folder_is_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    gateway = GatewayProcess(tmp_path, 1)
    gateway.file.write_text(f'data = "{tmp_path / name}"\n')
    code, _, errors = await gateway.command("run")
    assert code == 1
    assert errors.splitlines()[-1].startswith(f"start_folder_invalid: {tmp_path / name} cannot be the data folder (")


async def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        gateway = GatewayProcess(tmp_path, port)
        code, _, errors = await gateway.command("run")
    assert code == 1
    assert errors.splitlines()[-1].startswith(f"start_port_taken: Another program listens on port {port}. ")


async def test_every_mistake_in_the_options_is_printed_without_values(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, 1, 'colour = "canary"\nmqtt_password = "canary"\nmqtt_ca = "/canary"\n')
    code, output, errors = await gateway.command("run")
    assert (code, output) == (2, "")
    assert errors.splitlines() == [
        "options_invalid: Some options are invalid. Correct them and start again:",
        "colour: unknown option",
        "mqtt_ca: must be an existing file",
        "mqtt_password: requires mqtt_username",
        "mqtt_ca: requires mqtt_host",
    ]


async def test_a_broken_certificate_is_reported_with_advice(gateway: GatewayProcess) -> None:
    await gateway.stop()
    (gateway.data / "gateway.pem").write_text("half")
    for command in ("run", "pair", "health"):
        code, output, errors = await gateway.command(command)
        assert (code, output) == (1, "")
        assert "Remove the file" in errors.splitlines()[-1]
    (gateway.data / "gateway.pem").unlink()
    await gateway.start()
    await gateway.paired()


async def test_health_returns_an_exit_code(gateway: GatewayProcess) -> None:
    assert await gateway.command("health") == (0, "", "")
    await gateway.stop()
    code, _, errors = await gateway.command("health")
    assert (code, errors) == (1, "command_failed: The gateway does not answer (ConnectionRefusedError).\n")


async def test_only_its_user_can_read_its_files(gateway: GatewayProcess) -> None:
    await gateway.paired()
    await gateway.pairing_line()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in gateway.data.iterdir()}
    assert modes.keys() >= {"gateway.pem", "gateway.sqlite", "home_assistant.json", "pairing.json"}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(gateway.data.stat().st_mode) == 0o700


async def test_secrets_of_broker_and_destinations_never_reach_the_log(tmp_path: Path, unused_tcp_port: int) -> None:
    broker = 'log_level = "debug"\nmqtt_host = "127.0.0.1"\nmqtt_port = 1\n'
    login = 'mqtt_username = "me"\nmqtt_password = "canary"\n'
    async with gateway_process(tmp_path, unused_tcp_port, broker + login) as gateway:
        async with gateway.session() as (link, _):
            await link.send(CaughtUp(), Subscribe(id="1", run=RUN))
            webhook = SetWebhook(
                id="2", name="hook", url="http://127.0.0.1:1/canary?x=canary", header="X-Key", header_value="canary"
            )
            await link.send(webhook, opened(1, "canary"))
            while True:
                message = await link.next()
                if isinstance(message, Status) and any(link.state is LinkState.OFFLINE for link in message.links):
                    break
            assert "canary" not in repr(message)
        await gateway.stop()
        assert "debug" in gateway.file.read_text()
        assert gateway.log.stat().st_size > 0
        assert "canary" not in gateway.log.read_text()


async def test_neither_tokens_nor_secrets_are_logged_or_stored(gateway: GatewayProcess) -> None:
    line = await gateway.pairing_line()
    await gateway.pair(line)
    await gateway.paired()
    await gateway.greeting()
    await gateway.stop()
    written = gateway.log.read_bytes() + b"".join(path.read_bytes() for path in gateway.data.iterdir())
    assert b"gateway" in written
    assert line.secret.encode() not in written
    assert gateway.token.encode() not in written
