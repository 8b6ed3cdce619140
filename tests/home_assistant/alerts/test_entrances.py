"""What Home Assistant hands over, the gateway says, or the record log holds: one bad value costs none of the others."""

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
from custom_components.process_cosmos.alerts.durations import duration
from custom_components.process_cosmos.alerts.record_frames import framed
from custom_components.process_cosmos.alerts.records import Content
from custom_components.process_cosmos.contract.alerts import Severity, TransitionKind
from custom_components.process_cosmos.contract.bounds import MAX_DATA_DEPTH, is_deeper
from custom_components.process_cosmos.contract.codec import Json, decode
from custom_components.process_cosmos.contract.errors import ContractError
from custom_components.process_cosmos.contract.messages import FROM_GATEWAY
from tests.home_assistant.alerts.gateway import Gateway
from tests.home_assistant.alerts.site import Site
from tests.home_assistant.test_record_log import opened, written
from tests.hostile import LEVELS, documents, is_json, nested

RECORD = b'[["01JD0000000000000000000001",7,{"type":"note","text":HERE}]]'


@pytest.fixture
def gateway(linked: Site) -> Gateway:
    return Gateway(linked)


def content(**changes: object) -> Content:
    usual: dict[str, Any] = {"message": "Water", "severity": Severity.CRITICAL, "give_up_after": 3600.0}
    return Content(**{**usual, **changes})


@pytest.mark.parametrize("levels", [level for level in LEVELS if level < 1000])
async def test_a_record_of_an_older_version_with_deep_data_blocks_no_event(
    linked: Site, gateway: Gateway, levels: int
) -> None:
    deep = content(data=nested(levels).decode())
    raised = await linked.alerts.async_raise_alert(AlertRequest(content=deep, group="deep"))
    await linked.raise_alert()
    await linked.reload()
    await gateway.connect()
    assert gateway.caught_up
    assert gateway.log == [TransitionKind.OPENED, TransitionKind.OPENED]
    data = gateway.replica[raised.id].data
    assert is_deeper(data, MAX_DATA_DEPTH - 1)
    assert not is_deeper(data, MAX_DATA_DEPTH)


async def test_half_a_surrogate_reaches_disk_and_gateway_as_a_replacement(linked: Site, gateway: Gateway) -> None:
    call = AlertRequest(content=content(message="Water \ud83d"), group="attic \ud83d")
    raised = await linked.alerts.async_raise_alert(call)
    await linked.reload()
    assert linked.known(raised.id).content.message == "Water \ufffd"
    await gateway.connect()
    assert gateway.replica[raised.id].message == "Water \ufffd"


@settings(max_examples=20, deadline=None, suppress_health_check=[*HealthCheck])
@given(texts=st.lists(documents, max_size=5))
async def test_a_record_that_cannot_be_read_is_left_out_by_itself(
    tmp_path_factory: pytest.TempPathFactory, texts: Sequence[bytes]
) -> None:
    path = tmp_path_factory.mktemp("memory") / "site.memory"
    await written(path, "before")
    with path.open("ab") as file:
        for text in texts:
            for payload in (
                b"[" + text + b"]",
                b'[["01JD0000000000000000000001",7,{"type":"note","text":' + text + b"}]]",
            ):
                file.write(framed(payload))
    again = await opened(path)
    assert again.texts[:2] == ["start", "before"]
    await again.memory.async_close()


async def test_a_file_with_a_record_nobody_can_read_is_kept_aside_before_it_is_written_anew(path: Path) -> None:
    await written(path, "before")
    payload = b'[["01JD0000000000000000000001",7,{"type":"no such record"}]]'
    with path.open("ab") as file:
        file.write(framed(payload))
    content_before = path.read_bytes()
    again = await opened(path)
    await again.memory.async_compact(again.memory.entries)
    [aside] = path.parent.glob("*.damaged-*")
    assert aside.read_bytes() == content_before


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
def test_a_frame_of_the_gateway_is_read_or_breaks_the_contract(text: bytes, frame: bytes) -> None:
    try:
        message = decode(frame.replace(b"HERE", text), FROM_GATEWAY)
    except ContractError:
        return
    for name in ("age", "since"):
        assert duration(getattr(message, name, 0.0)).total_seconds() >= 0


def test_the_frames_are_read_when_nothing_is_wrong_with_them() -> None:
    for frame, text in zip(FRAMES, (b"1", b"[]", b"1", b"1", b'{"type":"receipt"}'), strict=True):
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
