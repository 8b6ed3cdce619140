"""Malformed input from Home Assistant, the gateway and the record log: one bad value affects no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import probatio as vol
import pytest
from homeassistant.exceptions import ServiceValidationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from custom_components.process_cosmos.actions.settings_transfer import _parse_settings
from custom_components.process_cosmos.alerts.calls import AlertRequest
from custom_components.process_cosmos.alerts.record_frames import encode_frame
from custom_components.process_cosmos.alerts.records import Content
from custom_components.process_cosmos.alerts.safe_duration import duration
from custom_components.process_cosmos.contract.alerts import Severity
from custom_components.process_cosmos.contract.codec import Json, decode
from custom_components.process_cosmos.contract.errors import ContractError
from custom_components.process_cosmos.contract.messages import FROM_GATEWAY
from tests.home_assistant.alerts.gateway import Gateway
from tests.home_assistant.alerts.site import Site
from tests.home_assistant.test_record_log import open_log, write_log
from tests.support.hostile import documents, is_json

RECORD = b'[["01JD0000000000000000000001",7,{"type":"note","text":HERE}]]'


@pytest.fixture
def gateway(linked: Site) -> Gateway:
    return Gateway(linked)


def content(**changes: object) -> Content:
    usual: dict[str, Any] = {"message": "Water", "severity": Severity.CRITICAL, "give_up_after": 3600.0}
    return Content(**{**usual, **changes})


async def test_half_a_surrogate_reaches_disk_and_gateway_as_a_replacement(linked: Site, gateway: Gateway) -> None:
    call = AlertRequest(content=content(message="Water \ud83d"), group="attic \ud83d")
    raised = await linked.alerts.async_raise_alert(call)
    await linked.reload()
    assert linked.known(raised.id).content.message == "Water \ufffd"
    await gateway.connect()
    assert gateway.replica[raised.id].message == "Water \ufffd"


@settings(max_examples=20, deadline=None, suppress_health_check=[*HealthCheck])
@given(texts=st.lists(documents, max_size=5))
async def test_only_the_unreadable_record_is_skipped(
    tmp_path_factory: pytest.TempPathFactory, texts: Sequence[bytes]
) -> None:
    path = tmp_path_factory.mktemp("memory") / "site.memory"
    await write_log(path, "before")
    with path.open("ab") as file:
        for text in texts:
            for payload in (
                b"[" + text + b"]",
                b'[["01JD0000000000000000000001",7,{"type":"note","text":' + text + b"}]]",
            ):
                file.write(encode_frame(payload))
    again = await open_log(path)
    assert again.texts[:2] == ["start", "before"]
    await again.record_log.async_close()


async def test_a_file_with_an_unreadable_record_is_copied_before_it_is_rewritten(path: Path) -> None:
    await write_log(path, "before")
    payload = b'[["01JD0000000000000000000001",7,{"type":"no such record"}]]'
    with path.open("ab") as file:
        file.write(encode_frame(payload))
    original = path.read_bytes()
    again = await open_log(path)
    await again.record_log.async_compact(again.record_log.entries)
    [aside] = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == original


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site.memory"


FRAMES = (
    b'{"type":"value_changed","sequence":1,"device":"d","property":"p","value":HERE,"age":HERE}',
    b'{"type":"snapshot","sequence":HERE,"devices":HERE}',
    b'{"type":"propose","id":"i","alert":"01JD0000000000000000000001","revision":HERE,"answer":null,"age":HERE,"by":"x"}',
    b'{"type":"missed_changes","since":HERE}',
    b"HERE",
)


@given(text=documents, frame=st.sampled_from(FRAMES))
def test_a_message_of_the_gateway_is_parsed_or_raises_a_contract_error(text: bytes, frame: bytes) -> None:
    try:
        message = decode(frame.replace(b"HERE", text), FROM_GATEWAY)
    except ContractError:
        return
    for name in ("age", "since"):
        assert duration(getattr(message, name, 0.0)).total_seconds() >= 0


def test_the_messages_are_parsed_with_valid_values() -> None:
    for frame, text in zip(FRAMES, (b"1", b"[]", b"1", b"1", b'{"type":"heartbeat"}'), strict=True):
        frame = frame.replace(b'"sequence":HERE', b'"sequence":1')  # noqa: PLW2901 - the same frame
        decode(frame.replace(b"HERE", text), FROM_GATEWAY)


@given(text=documents.filter(is_json))
def test_settings_are_imported_or_refused(text: bytes) -> None:
    value: Json = orjson.loads(text)
    for key in ("version", "title", "phones", "notify_entities", "destinations", "blueprints"):
        document = {"version": 1, key: value}
        try:
            _parse_settings(document)
        except ServiceValidationError, vol.Invalid:
            continue
