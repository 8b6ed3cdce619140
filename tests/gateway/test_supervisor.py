"""The Supervisor's client: uses its broker, and announces the app until a Home Assistant has connected."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import Any, cast

import pytest
from aiohttp import ClientSession

from process_cosmos_gateway.api.ingress.page import StatusPage
from process_cosmos_gateway.app import run
from process_cosmos_gateway.contract.pairing import parse_pairing_line
from process_cosmos_gateway.contract.session import GatewayHello
from process_cosmos_gateway.options import BrokerOptions, parse_options
from process_cosmos_gateway.supervisor import Supervisor
from process_cosmos_testbed.services import COMMAND
from tests.support.supervisor.apps import App, State
from tests.support.supervisor.fake import BROKER, TOKEN, FakeSupervisor
from tests.support.waiting import until

from .api.link import SECONDS, Link, hello


@pytest.fixture
async def fake() -> AsyncIterator[tuple[FakeSupervisor, str]]:
    supervisor = FakeSupervisor(apps=[App.ours(State.STARTED, TOKEN)])
    async with supervisor.listening() as url:
        yield supervisor, url


async def test_the_supervisors_broker_is_used_with_our_topics(fake: tuple[FakeSupervisor, str]) -> None:
    supervisor, url = fake
    supervisor.mqtt = BROKER
    async with aclosing(Supervisor(TOKEN, ("things/#",), url)) as client:
        broker = await client.broker()
    assert broker == BrokerOptions(
        host="core-mosquitto", port=1883, username="addons", password="made up", topics=("things/#",)
    )


@pytest.mark.parametrize("mqtt", [None, {}, {"host": "core-mosquitto", "port": "many"}, []])
async def test_an_absent_or_invalid_broker_is_none(fake: tuple[FakeSupervisor, str], mqtt: object) -> None:
    supervisor, url = fake
    supervisor.mqtt = cast("Any", mqtt)
    async with aclosing(Supervisor(TOKEN, (), url)) as client:
        assert await client.broker() is None


async def test_an_unreachable_supervisor_yields_no_broker(unused_tcp_port: int) -> None:
    async with aclosing(Supervisor(TOKEN, (), f"http://127.0.0.1:{unused_tcp_port}/")) as client:
        assert await client.broker() is None


@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ({}, "supervisor_no_broker: The Supervisor has no MQTT broker. For devices, install the Mosquitto broker app"),
        ({"broken": True}, "supervisor_failed: The Supervisor replied 502 without valid data. The request is repeated"),
        ({"refusal": (500, "Boom")}, "supervisor_failed: The Supervisor replied 500: Boom. The request is repeated"),
        (
            {"refusal": (400, "System is not ready with state: setup")},
            "supervisor_failed: The Supervisor replied 400: System is not ready with state: setup. The request",
        ),
        ({"refusal": (401, "")}, "supervisor_refused: The Supervisor rejects the token of this app. Restart the app"),
        ({"refusal": (403, "")}, "supervisor_refused: The Supervisor rejects the token of this app. Restart the app"),
        ({"late": True}, "supervisor_away: The Supervisor does not answer (TimeoutError). The request is repeated"),
        ({"mqtt": {"host": 7}}, "supervisor_failed: The description of the MQTT broker by the Supervisor is invalid."),
    ],
)
async def test_a_failure_is_logged_once_with_a_code_and_advice(
    fake: tuple[FakeSupervisor, str], caplog: pytest.LogCaptureFixture, trouble: dict[str, Any], line: str
) -> None:
    supervisor, url = fake
    for name, value in trouble.items():
        setattr(supervisor, name, value)
    caplog.set_level("INFO", "process_cosmos_gateway")
    async with aclosing(Supervisor(TOKEN, (), url, timeout=0.05)) as client:
        for _ in range(3):
            assert await client.broker() is None
        (said,) = caplog.messages
        assert said.startswith(line)
        supervisor.late = supervisor.broken = False
        supervisor.refusal, supervisor.mqtt = None, BROKER
        assert await client.broker()
        supervisor.broken = True
        assert await client.broker() is None
        assert len(caplog.messages) == 2


@pytest.mark.parametrize("nonsense", ["[]", "null", "7", '{"data": [1]}', '{"data": {}}', "<html>"])
async def test_a_request_with_an_invalid_reply_is_repeated(fake: tuple[FakeSupervisor, str], nonsense: str) -> None:
    supervisor, url = fake
    supervisor.mqtt = BROKER
    supervisor.nonsense = nonsense
    connected = asyncio.Event()
    async with aclosing(Supervisor(TOKEN, (), url, poll_seconds=0.005)) as client, asyncio.TaskGroup() as tasks:
        assert await client.broker() is None
        tasks.create_task(client.announce({"port": 8735}, connected))
        await until(lambda: supervisor.said.count("POST /discovery") > 1)
        supervisor.nonsense = None
        await until(lambda: supervisor.passed_on)
        assert await client.broker() is not None
        connected.set()


async def test_a_changed_broker_is_detected_and_a_failed_request_is_no_change(fake: tuple[FakeSupervisor, str]) -> None:
    supervisor, url = fake
    supervisor.mqtt = BROKER
    async with aclosing(Supervisor(TOKEN, (), url, poll_seconds=0.001)) as client, asyncio.TaskGroup() as tasks:
        used = await client.broker()
        watching = tasks.create_task(client.wait_for_broker_change(used))
        await until(lambda: len(supervisor.said) > 3)
        supervisor.broken = True
        await until(lambda: len(supervisor.said) > 6)
        assert not watching.done()
        supervisor.broken = False
        supervisor.mqtt = {**BROKER, "password": "another"}
        async with asyncio.timeout(SECONDS):
            await watching


async def test_the_announcement_is_repeated_until_a_connection(fake: tuple[FakeSupervisor, str]) -> None:
    supervisor, url = fake
    connected = asyncio.Event()
    async with aclosing(Supervisor(TOKEN, (), url, poll_seconds=0.001)) as client, asyncio.TaskGroup() as tasks:
        supervisor.broken = True
        tasks.create_task(client.announce({"port": 8735}, connected))
        await until(lambda: len(supervisor.said) > 1)
        supervisor.broken = False
        await until(lambda: len(supervisor.passed_on) > 2)
        connected.set()
    assert {message["port"] for message in supervisor.passed_on} == {8735}


async def test_an_announcement_equal_to_an_earlier_one_is_forwarded(fake: tuple[FakeSupervisor, str]) -> None:
    supervisor, url = fake
    for times in (1, 2):
        connected = asyncio.Event()
        async with aclosing(Supervisor(TOKEN, (), url)) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(client.announce({"port": 8735}, connected))
            await until(partial(supervisor.has_passed_on, times))
            connected.set()


async def test_as_an_app_it_serves_the_supervisors_home_assistant_without_tls(
    fake: tuple[FakeSupervisor, str], tmp_path: Path, unused_tcp_port: int
) -> None:
    supervisor, url = fake
    given = {"data": str(tmp_path), "host": "127.0.0.1", "port": unused_tcp_port}
    options = parse_options(given, supervisor_token=TOKEN)
    async with asyncio.TaskGroup() as tasks, ClientSession() as http:
        running = tasks.create_task(run(options, partial(Supervisor, url=url)))
        await until(lambda: supervisor.passed_on)
        (config,) = supervisor.passed_on
        assert config.keys() == {"host", "port", "site", "token", "mark"}
        base = f"http://127.0.0.1:{config['port']}"
        async with http.post(f"{base}/v1/pair") as reply:
            assert reply.status == 400
        async with http.get(base) as reply:
            assert reply.status == 403
        headers = {"Authorization": f"Bearer {config['token']}"}
        async with http.ws_connect(f"{base}/ws", headers=headers) as socket:
            link = Link(socket)
            await link.send(hello(instance="whichever"))
            greeting = await link.next()
            assert isinstance(greeting, GatewayHello)
            assert greeting.site == config["site"]
            os.kill(os.getpid(), signal.SIGTERM)
            await link.end()
        async with asyncio.timeout(SECONDS):
            await running


async def test_as_an_app_its_page_gives_a_line_that_opens_a_session_of_its_own(
    fake: tuple[FakeSupervisor, str], tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, url = fake
    monkeypatch.setitem(cast("Any", StatusPage.__init__).__kwdefaults__, "peer", "127.0.0.1")
    given = {"data": str(tmp_path), "host": "127.0.0.1", "port": unused_tcp_port}
    options = parse_options(given, supervisor_token=TOKEN)
    base = f"http://127.0.0.1:{unused_tcp_port}"
    async with asyncio.TaskGroup() as tasks, ClientSession() as http:
        tasks.create_task(run(options, partial(Supervisor, url=url)))
        await until(lambda: supervisor.passed_on)
        async with http.get(base) as reply:
            assert f"site {supervisor.passed_on[0]['site']}" in await reply.text()
        async with http.post(f"{base}/pair") as reply:
            (text,) = re.findall("<code>(.*)</code>", await reply.text())
        line = parse_pairing_line(text)
        assert line.url == f"http://{gethostname()}:{unused_tcp_port}"
        async with http.post(f"{base}/v1/pair", json={"secret": line.secret, "instance": "home"}) as reply:
            paired = (await reply.json())["token"]
        for token in (paired, supervisor.passed_on[0]["token"]):
            async with http.ws_connect(f"{base}/ws", headers={"Authorization": f"Bearer {token}"}) as socket:
                link = Link(socket)
                await link.send(hello(instance="home"))
                assert isinstance(await link.next(), GatewayHello)
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("trouble", ["broken", "late"])
async def test_an_app_starts_although_the_supervisor_fails_and_announces_itself_later(
    fake: tuple[FakeSupervisor, str], tmp_path: Path, unused_tcp_port: int, trouble: str
) -> None:
    supervisor, url = fake
    setattr(supervisor, trouble, True)
    given = {"data": str(tmp_path), "host": "127.0.0.1", "port": unused_tcp_port}
    options = parse_options(given, supervisor_token=TOKEN)
    async with asyncio.TaskGroup() as tasks, ClientSession() as http:
        tasks.create_task(run(options, partial(Supervisor, url=url, poll_seconds=0.1, timeout=0.05)))
        await until(lambda: "POST /discovery" in supervisor.said)
        async with http.get(f"http://127.0.0.1:{unused_tcp_port}/health") as reply:
            assert reply.status == 200
        assert not supervisor.passed_on
        setattr(supervisor, trouble, False)
        await until(lambda: supervisor.passed_on)
        os.kill(os.getpid(), signal.SIGTERM)


async def test_a_pairing_line_from_inside_the_container_names_no_certificate(tmp_path: Path) -> None:
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"data": str(tmp_path)}))
    pair = (COMMAND, "pair", "--options", file, "--host", "a1b2c3d4-process-cosmos")
    environment = {**os.environ, "SUPERVISOR_TOKEN": TOKEN}
    child = await asyncio.create_subprocess_exec(*pair, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await child.communicate()
    line = parse_pairing_line(output.decode())
    assert (line.url, line.sha256) == ("http://a1b2c3d4-process-cosmos:8735", None)


async def test_with_another_broker_the_app_restarts_with_the_same_identity(
    fake: tuple[FakeSupervisor, str], tmp_path: Path, unused_tcp_port: int
) -> None:
    supervisor, url = fake
    given = {"data": str(tmp_path), "host": "127.0.0.1", "port": unused_tcp_port}
    options = parse_options(given, supervisor_token=TOKEN)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run(options, partial(Supervisor, url=url, poll_seconds=0.01)))
        await until(lambda: supervisor.passed_on)
        first = supervisor.passed_on[0]
        supervisor.mqtt = {**BROKER, "host": "127.0.0.1", "port": unused_tcp_port}
        begun = supervisor.said.count("POST /discovery")
        await until(lambda: supervisor.said.count("POST /discovery") > begun + 3)
        assert {**supervisor.passed_on[-1], "mark": first["mark"]} == first
        os.kill(os.getpid(), signal.SIGTERM)
