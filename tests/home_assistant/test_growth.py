"""A gateway that is newer than the integration, or whose frames cannot be read."""

from dataclasses import replace

import orjson
import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN, UNREACHABLE_AFTER, VERSION
from custom_components.process_cosmos.contract import codec
from custom_components.process_cosmos.contract.alerts import Propose
from custom_components.process_cosmos.contract.codec import encode
from custom_components.process_cosmos.contract.destinations import ListRejected
from custom_components.process_cosmos.contract.devices import Subscribe
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.contract.messages import FROM_GATEWAY, FROM_HOME_ASSISTANT
from custom_components.process_cosmos.contract.session import Refused, Result
from custom_components.process_cosmos.gateway import connection as connection_module
from custom_components.process_cosmos.gateway.client import RequestRefusedError
from custom_components.process_cosmos.issues.frame_issue import CLEARED_AFTER
from tests.support.waiting import until
from tests.wire.growth import GOLDEN, grown
from tests.wire.second_schema import Conduct, Play, Sing

from .conftest import set_up
from .contract_gateway import IDLE, ContractGateway
from .links import send_status
from .test_link import issues, pass_time

OPENINGS = {"gateway_hello", "refused"}
SENT = [name for name in GOLDEN if name.partition(".")[0] in FROM_GATEWAY.keys() - OPENINGS]
BAD_STATUS = b'{"type":"status","links":[{"name":7}],"waiting":{},"rejected":0,"dropped":0,"broker_connected":true}'
BAD_PATH = "status.links[0].name: must be a string"


def shown(hass: HomeAssistant, entry: MockConfigEntry, issue: str) -> ir.IssueEntry | None:
    return ir.async_get(hass).async_get_issue(DOMAIN, f"{issue}_{entry.entry_id}")


@pytest.fixture(autouse=True)
def _quick_reconnection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "next_delay", lambda _failures, _jitter: 0.02)


def test_every_message_of_the_gateway_is_among_those_sent() -> None:
    assert {name.partition(".")[0] for name in SENT} == FROM_GATEWAY.keys() - OPENINGS


@pytest.mark.parametrize("name", SENT)
async def test_the_session_continues_after_a_message_with_unknown_members_and_values(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, name: str
) -> None:
    await gateway.send_raw(orjson.dumps(grown(name).document).decode())
    await send_status(gateway, linked, replace(IDLE, rejected=7))
    await hass.async_block_till_done()
    assert linked.runtime_data.coordinator.connection.session.ignored == 0
    assert gateway.sessions == 1
    assert not issues(hass) & {"frame_invalid", "frame_app_older", "frame_app_newer"}


async def test_a_link_in_an_unknown_state_is_shown_as_unknown(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    document = orjson.loads(GOLDEN["status"])
    document["links"] = [{**document["links"][0], "state": "of_the_future"}]
    await gateway.send_raw(orjson.dumps(document).decode())
    await until(lambda: linked.runtime_data.coordinator.status.status.links)
    await hass.async_block_till_done()
    state = hass.states.get("sensor.process_cosmos_destination_status")
    assert state
    assert state.state == "unknown"


async def test_a_hello_with_unknown_members_and_values_opens_a_session(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {**grown("gateway_hello").document, "site": gateway.site}
    monkeypatch.setattr(
        "tests.home_assistant.contract_gateway.encode",
        lambda message: orjson.dumps(document) if message is gateway.hello else encode(message),
    )
    await set_up(hass, site)
    await until(lambda: site.runtime_data.coordinator.status)


async def test_messages_of_an_unknown_type_are_passed_over_and_logged_once(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        await gateway.send_raw('{"type": "sing"}')
    await send_status(gateway, linked, replace(IDLE, rejected=7))
    assert caplog.text.count("'sing'") == 1
    assert not shown(hass, linked, "frame_app_newer")


async def test_an_answer_of_an_unknown_kind_is_refused_and_is_no_acknowledgement(
    gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    propose = Propose(
        id="cloud/1", alert=Ulid("01JD0000000000000000000001"), revision=1, answer=None, age=0.0, by="Eve"
    )
    await gateway.send_raw(encode(propose)[:-1].decode() + ',"wake_everybody":true}')
    result = await gateway.wait_for_message(Result)
    assert result.problem
    assert (result.id, result.problem.code) == ("cloud/1", "unsupported")
    assert "propose.wake_everybody" in result.problem.message


@pytest.mark.parametrize(
    "case", [("9.8.7", "frame_app_newer"), ("0.0.9", "frame_app_older"), (VERSION, "frame_invalid")]
)
async def test_a_frame_that_cannot_be_read_is_an_issue_until_a_session_without_one(
    hass: HomeAssistant,
    gateway: ContractGateway,
    site: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
    case: tuple[str, str],
) -> None:
    app, issue = case
    gateway.hello = replace(gateway.hello, version=app)
    await set_up(hass, site)
    await until(lambda: site.runtime_data.coordinator.status)
    for _ in range(3):
        await gateway.send_raw(BAD_STATUS.decode())
    await send_status(gateway, site, replace(IDLE, rejected=7))
    entry = shown(hass, site, issue)
    assert entry
    placeholders = entry.translation_placeholders or {}
    assert BAD_PATH in placeholders["frame"]
    assert (app in placeholders["app"], placeholders["integration"]) == (True, VERSION)
    assert caplog.text.count("status.links[0].name") == 1
    await pass_time(hass, CLEARED_AFTER + 1)
    assert shown(hass, site, issue)
    await gateway.drop()
    await until(lambda: gateway.sessions == 2)
    await until(lambda: site.runtime_data.coordinator.connection.session)
    assert shown(hass, site, issue)
    await pass_time(hass, CLEARED_AFTER + 1)
    assert not shown(hass, site, issue)


async def test_a_snapshot_that_cannot_be_read_is_not_reported_as_a_silent_gateway(
    hass: HomeAssistant, gateway: ContractGateway, site: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.home_assistant.contract_gateway.encode",
        lambda message: encode(message).replace(b'"devices":[]', b'"devices":[7]'),
    )
    await set_up(hass, site)
    await until(lambda: gateway.received_of(Subscribe))
    await until(lambda: shown(hass, site, "frame_app_newer"))
    await pass_time(hass, UNREACHABLE_AFTER + 1)
    assert "gateway_unreachable" not in issues(hass)
    assert shown(hass, site, "frame_app_newer")


async def test_a_frame_that_the_gateway_cannot_read_is_an_issue_too(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.send(Refused(code="malformed", message="transition.position: is missing"))
    await until(lambda: shown(hass, linked, "frame_app_newer"))
    entry = shown(hass, linked, "frame_app_newer")
    assert entry
    assert "transition.position" in (entry.translation_placeholders or {})["frame"]
    await until(lambda: gateway.sessions == 2)
    await until(lambda: linked.runtime_data.coordinator.connection.session)
    await pass_time(hass, CLEARED_AFTER + 1)
    assert not shown(hass, linked, "frame_app_newer")


@pytest.mark.parametrize(
    "case",
    [
        ({"site": 7}, "frame_app_newer"),
        ({"version": 7}, "frame_invalid"),
        ({"site": 7, "schema": 9, "min_schema": 9}, "schema_too_new"),
        ({"site": 7, "schema": 0, "min_schema": 0}, "schema_too_old"),
    ],
)
async def test_a_hello_that_cannot_be_read_is_an_issue_of_its_own(
    hass: HomeAssistant,
    gateway: ContractGateway,
    site: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[dict[str, object], str],
) -> None:
    changes, issue = case
    document = {**orjson.loads(encode(gateway.hello)), **changes}
    monkeypatch.setattr(
        "tests.home_assistant.contract_gateway.encode",
        lambda message: orjson.dumps(document) if message is gateway.hello else encode(message),
    )
    await set_up(hass, site)
    await until(lambda: shown(hass, site, issue))
    await pass_time(hass, UNREACHABLE_AFTER + 1)
    assert issues(hass) == {issue}


async def test_a_request_whose_reply_cannot_be_read_fails_at_once(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.home_assistant.contract_gateway.encode",
        lambda message: (
            orjson.dumps({"type": "result", "id": message.id, "problem": 7})
            if isinstance(message, Result)
            else encode(message)
        ),
    )
    with pytest.raises(RequestRefusedError, match=r"result\.problem: must be an object"):
        await linked.runtime_data.coordinator.connection.async_send_request(ListRejected())
    assert shown(hass, linked, "frame_app_newer")


async def test_a_request_that_the_gateway_cannot_read_is_an_issue_and_a_refused_value_is_none(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"code": "malformed", "message": "A header needs a name and a value."}
    monkeypatch.setattr(
        "tests.home_assistant.contract_gateway.encode",
        lambda message: (
            orjson.dumps({"type": "result", "id": message.id, "problem": answer})
            if isinstance(message, Result)
            else encode(message)
        ),
    )
    for message, is_issue in ((answer["message"], False), ("list_rejected.after: must be a whole number", True)):
        answer["message"] = message
        with pytest.raises(RequestRefusedError):
            await linked.runtime_data.coordinator.connection.async_send_request(ListRejected())
        assert (shown(hass, linked, "frame_app_newer") is not None) is is_issue


async def test_every_request_has_an_id_of_its_own(gateway: ContractGateway, linked: MockConfigEntry) -> None:
    for _ in range(2):
        await linked.runtime_data.coordinator.connection.async_send_request(ListRejected())
    ids = [each.id for each in gateway.received_of(ListRejected)]
    ids += [each.id for each in gateway.received_of(Subscribe)]
    assert all(ids)
    assert len(set(ids)) == len(ids) == 3


@pytest.mark.parametrize("schema", [1, 2])
async def test_a_newer_integration_writes_by_the_schema_of_the_app(
    gateway: ContractGateway, linked: MockConfigEntry, monkeypatch: pytest.MonkeyPatch, schema: int
) -> None:
    monkeypatch.setattr(codec, "SCHEMA", 2)
    monkeypatch.setattr(
        "tests.home_assistant.contract_gateway.FROM_HOME_ASSISTANT",
        {**FROM_HOME_ASSISTANT, "play": Play, "sing": Sing, "conduct": Conduct},
    )
    gateway.hello = replace(gateway.hello, schema=schema)
    await gateway.drop()
    await until(lambda: gateway.sessions == 2)
    await until(lambda: linked.runtime_data.coordinator.connection.session)
    request = linked.runtime_data.coordinator.connection.async_send_request
    await linked.runtime_data.coordinator.connection.session.send(Sing())
    await request(Play(name="a"))
    for newer in (Play(name="a", repeat=True), Conduct()):
        if schema == 1:
            with pytest.raises(RequestRefusedError) as refused:
                await request(newer)
            assert refused.value.code == "schema_too_old"
        else:
            await request(newer)
    assert len(gateway.received_of(Play)) == schema
    assert len(gateway.received_of(Sing)) == len(gateway.received_of(Conduct)) == schema - 1
