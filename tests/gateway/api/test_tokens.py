"""Tokens of local programs: authentication at the endpoints, and the commands that manage them."""

import asyncio
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import WSServerHandshakeError

from process_cosmos_gateway.api.local_programs import admission
from process_cosmos_gateway.api.local_programs.tokens import (
    Tokens,
    TokensUnreadableError,
    make_token,
    programs,
    read_tokens,
    revoke_token,
)
from process_cosmos_gateway.contract.local_programs import MOST_CONNECTIONS
from process_cosmos_gateway.errors import StartError
from process_cosmos_testbed.services import COMMAND

from .endpoints import PROGRAM, Endpoints, publish
from .link import SECONDS
from .services import ServerHarness
from .test_change_feed import HandClock


@pytest.mark.parametrize("path", ["/metrics", "/ws/events"])
async def test_home_assistants_token_is_refused_at_the_programs_endpoints(endpoints: Endpoints, path: str) -> None:
    headers = {"Authorization": f"Bearer {endpoints.home_token}"}
    await (await endpoints.http.ws_connect(f"{endpoints.url}/ws", headers=headers)).close()
    async with endpoints.http.get(f"{endpoints.url}{path}", headers=headers) as reply:
        assert (reply.status, (await reply.json())["code"]) == (401, "unauthorized")


async def test_a_programs_token_is_refused_for_sessions(server: ServerHarness, tmp_path: Path) -> None:
    with pytest.raises(WSServerHandshakeError, match="401"):
        await server.connect(make_token(tmp_path, PROGRAM, HandClock()))


async def test_a_program_whose_token_is_revoked_is_disconnected_and_refused(endpoints: Endpoints) -> None:
    producer = await endpoints.producer()
    assert await producer.codes(publish(1)) == [None]
    revoke_token(endpoints.folder, PROGRAM)
    async with asyncio.timeout(SECONDS):
        message = await producer.socket.receive()
    assert message.data in (1001, None)
    with pytest.raises(WSServerHandshakeError, match="401"):
        await endpoints.producer()


async def test_a_connection_beyond_the_limit_is_refused_until_another_closes(endpoints: Endpoints) -> None:
    producers = [await endpoints.producer() for _ in range(MOST_CONNECTIONS)]
    async with endpoints.http.get(f"{endpoints.url}/ws/events", headers=endpoints.bearer()) as reply:
        assert (reply.status, (await reply.json())["code"]) == (503, "too_many_connections")
    async with endpoints.http.get(f"{endpoints.url}/metrics", headers=endpoints.bearer()) as reply:
        assert reply.status == 200
    await producers[0].socket.close()
    assert await (await endpoints.producer()).codes(publish(1)) == [None]
    for producer in producers:
        await producer.socket.close()


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Replace ``path`` by a link to itself, as file modes do not stop ``root`` from reading."""
    aside = path.with_name("aside")
    path.rename(aside)
    path.symlink_to(path)
    yield
    path.unlink()
    aside.rename(path)


@pytest.mark.parametrize("what", ["programs", f"programs/{PROGRAM}.json"])
async def test_unreadable_tokens_do_not_count_as_revoked(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    reads: list[Path] = []

    def read(folder: Path) -> Tokens:
        reads.append(folder)
        return read_tokens(folder)

    monkeypatch.setattr(admission, "read_tokens", read)
    producer = await endpoints.producer()
    with unreadable(endpoints.folder / what):
        for path in ("/metrics", "/ws/events", "/ws/events"):
            async with endpoints.http.get(f"{endpoints.url}{path}", headers=endpoints.bearer()) as reply:
                assert (reply.status, (await reply.json())["code"]) == (503, "store_failed")
        with pytest.raises(WSServerHandshakeError, match="503"):
            await endpoints.producer()
        before = len(reads)
        async with asyncio.timeout(SECONDS):
            while len(reads) < before + 2:  # noqa: ASYNC110 - a check without effect has no event
                await asyncio.sleep(0)
        assert await producer.codes(publish(1)) == [None]
    assert await (await endpoints.producer()).codes(publish(2)) == [None]
    logged = [record.getMessage() for record in caplog.records if "tokens" in record.getMessage()]
    assert [text.partition(".")[0] for text in logged] == [
        "store_failed: The tokens of local programs cannot be read",
        "The tokens of local programs can be read again; programs can connect",
    ]


def test_one_unreadable_token_does_not_lock_out_other_programs(tmp_path: Path) -> None:
    token = make_token(tmp_path, PROGRAM, HandClock())
    make_token(tmp_path, "grafana", HandClock())
    with unreadable(tmp_path / "programs/grafana.json"):
        assert read_tokens(tmp_path).is_known(token)
        with pytest.raises(TokensUnreadableError):
            read_tokens(tmp_path).is_known("another")
        with pytest.raises(TokensUnreadableError):
            programs(tmp_path)


def test_without_a_folder_no_program_has_a_token(tmp_path: Path) -> None:
    assert not read_tokens(tmp_path).is_known("")
    assert programs(tmp_path) == {}


def test_a_token_is_valid_until_revoked_and_only_its_hash_is_stored(tmp_path: Path) -> None:
    token = make_token(tmp_path, "grafana", HandClock())
    other = make_token(tmp_path, "node-red", HandClock())
    assert read_tokens(tmp_path).is_known(token)
    assert not read_tokens(tmp_path).is_known(token[:-1])
    assert not read_tokens(tmp_path).is_known("")
    [file, _] = sorted((tmp_path / "programs").iterdir())
    assert token not in file.read_text()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent)] == [0o600, 0o700]
    revoke_token(tmp_path, "grafana")
    assert not read_tokens(tmp_path).is_known(token)
    assert read_tokens(tmp_path).is_known(other)


def test_a_program_with_a_token_gets_no_second_one(tmp_path: Path) -> None:
    token = make_token(tmp_path, PROGRAM, HandClock())
    with pytest.raises(StartError, match="Revoke it first"):
        make_token(tmp_path, PROGRAM, HandClock())
    assert read_tokens(tmp_path).is_known(token)


@pytest.mark.parametrize("name", ["", "Node-RED", "../home_assistant", "a" * 65, "-a", "a.b"])
def test_an_invalid_name_is_refused(tmp_path: Path, name: str) -> None:
    other = tmp_path / "home_assistant.json"
    other.touch()
    (tmp_path / "programs").mkdir()
    for act in (lambda: make_token(tmp_path, name, HandClock()), lambda: revoke_token(tmp_path, name)):
        with pytest.raises(StartError, match="64 letters"):
            act()
    assert other.exists()


def test_a_broken_token_file_is_ignored(tmp_path: Path) -> None:
    token = make_token(tmp_path, PROGRAM, HandClock())
    (tmp_path / "programs" / "broken.json").write_text("{")
    assert list(programs(tmp_path)) == [PROGRAM]
    assert read_tokens(tmp_path).is_known(token)


async def run(folder: Path, *words: str) -> tuple[int | None, str]:
    """Run the ``token`` command; return its exit code and output."""
    options = folder / "gateway.toml"
    options.write_text(f'data = "{folder / "data"}"')
    process = await asyncio.create_subprocess_exec(
        COMMAND, "token", "--options", options, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_tokens_are_created_listed_and_revoked_by_commands(tmp_path: Path) -> None:
    code, token = await run(tmp_path, PROGRAM)
    assert code == 0
    assert read_tokens(tmp_path / "data").is_known(token.strip())
    code, listed = await run(tmp_path, "--list")
    assert (code, listed.split()[0]) == (0, PROGRAM)
    assert await run(tmp_path, "--revoke", PROGRAM) == (0, "")
    assert await run(tmp_path, "--revoke", PROGRAM) == (1, "command_failed: No program called watcher has a token.\n")
    assert await run(tmp_path, "--list") == (0, "")
    assert (await run(tmp_path))[0] == 2
