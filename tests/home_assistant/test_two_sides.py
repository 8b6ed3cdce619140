"""Alerts on both real sides: Home Assistant, the gateway's process, and a webhook that listens."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.helpers import translation

from custom_components.process_cosmos.alerts.engine import Alerts
from custom_components.process_cosmos.alerts.errors import AlertRefusedError
from custom_components.process_cosmos.alerts.model import Alert
from custom_components.process_cosmos.alerts.policy import Level, Policy
from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import SetCloud, SetWebhook
from custom_components.process_cosmos.contract.identifiers import PHONE
from tests.brokers import free_port
from tests.cloud.endpoint import EndpointProcess, endpoint_process
from tests.gateway.destinations.parts import Call, Receiver, receiver, until
from tests.gateway.gateway_process import COMMAND, GatewayProcess, gateway_process

from .alerts.site import Phone, add_phone
from .test_real_gateway import set_up_with

HOOK = "destination:hook"
HOUR = timedelta(hours=1)
WITHIN = 20
HASTY = (
    "import sys; from process_cosmos_gateway.alerts import notification_requests, service; service.AWAY_AFTER = 1.0;"
    " notification_requests.ROUND_GAP = 0.1; from process_cosmos_gateway.__main__ import main; sys.exit(main())"
)
"""The gateway with less patience: a minute is too long for a test."""

ANSWERS = [
    {"name": "Open", "actions": [{"action": "pump.drain"}]},
    {"name": "Keep off"},
]


@dataclass(frozen=True, kw_only=True)
class House:
    """What the tests act on."""

    hass: HomeAssistant
    gateway: GatewayProcess
    hook: Receiver
    entry: ConfigEntry
    anna: Phone

    @property
    def alerts(self) -> Alerts:
        alerts: Alerts = self.entry.runtime_data.alerts
        return alerts

    def known(self, alert: str) -> Alert:
        known = self.alerts.get(alert)
        assert known
        return known

    async def raise_alert(self, **data: object) -> str:
        data = {"message": "Water in the cellar", "answers": ANSWERS, "group": "leak", **data}
        reply = await self.hass.services.async_call(DOMAIN, "alert", data, blocking=True, return_response=True)
        assert reply
        return str(reply["id"])

    async def delete(self) -> None:
        entries, options = self.hass.config_entries, {**self.entry.options, "destinations": ["hook"]}
        entries.async_update_entry(self.entry, options=options)
        await entries.async_remove(self.entry.entry_id)

    async def until_linked(self) -> None:
        await until(lambda: self.alerts.gateway_sync._worker is not None)

    def heard(self, kind: str) -> Sequence[dict[str, Any]]:
        """Return the data of the events of a kind that reached the webhook, once by id.

        What the gateway was killed over is delivered again, with the same id.
        """
        events = {event["id"]: event for call in self.hook.calls for event in (orjson.loads(call.body),)}
        return [event["data"] for event in events.values() if event["type"] == f"process_cosmos.alert.{kind}.v1"]

    @property
    def requested(self) -> Sequence[tuple[int, int, int]]:
        """Return (ring, level, round) of the asks that reached the webhook."""
        return [(data["revision"], data["level"], data["round"]) for data in self.heard("notification_requested")]

    def rounds(self, alert: str) -> set[int]:
        """Return the rounds of an alert the webhook was asked in."""
        return {data["round"] for data in self.heard("notification_requested") if data["alert"] == alert}


type Furnish = Callable[..., Any]


@pytest.fixture
def worker(hass: HomeAssistant) -> list[ServiceCall]:
    calls: list[ServiceCall] = []
    hass.services.async_register("pump", "drain", calls.append)
    return calls


@pytest.fixture
async def furnish(
    hass: HomeAssistant, notify_entity: str, socket_enabled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Furnish:
    """Make a house whose policy rings Anna's phone at once, and then has these levels."""

    @asynccontextmanager
    async def make(*levels: Level, program: Sequence[str | Path] = (COMMAND,)) -> AsyncIterator[House]:
        await translation.async_load_integrations(hass, {DOMAIN})
        anna = add_phone(hass, "Anna")
        policy = Policy(levels=(Level(after=timedelta(), people=(f"{PHONE}{anna.app_id}",)), *levels))
        monkeypatch.setattr("custom_components.process_cosmos.alerts.engine.policy_of", lambda _hass, _options: policy)
        async with gateway_process(tmp_path, free_port(), program=program) as gateway, receiver() as hook:
            entry = await set_up_with(hass, str(await gateway.pairing_line()))
            house = House(hass=hass, gateway=gateway, hook=hook, entry=entry, anna=anna)
            await house.until_linked()
            await entry.runtime_data.coordinator.async_request(SetWebhook(id="1", name="hook", url=f"{hook.url}/x"))
            yield house
            await hass.async_block_till_done()
            for loaded in hass.config_entries.async_loaded_entries(DOMAIN):
                await hass.config_entries.async_unload(loaded.entry_id)

    return make


def asking(call: Call | bytes) -> bool:
    body = call if isinstance(call, bytes) else call.body
    return bool(orjson.loads(body)["type"] == "process_cosmos.alert.notification_requested.v1")


async def answer_open(_request: web.Request, body: bytes) -> web.Response:
    """Answer every ask, and whatever else comes too."""
    return web.json_response({"answer": "Open"}) if asking(body) else web.Response(status=204)


async def test_the_second_level_reaches_the_webhook_when_it_is_due_and_the_outcome_comes_back(furnish: Furnish) -> None:
    async with furnish(Level(after=timedelta(seconds=1.5), destinations=(HOOK,), every=HOUR)) as house:
        called = time.monotonic()
        alert = await house.raise_alert()
        await until(lambda: house.requested)
        assert 1.4 <= next(call.at for call in house.hook.calls if asking(call)) - called < WITHIN
        assert house.requested == [(1, 1, 0)]
        assert len(house.heard("opened")) == 1  # every transition at once, beside the ask
        assert house.heard("notification_requested")[0]["answers"] == ["Open", "Keep off"]
        outcomes = house.alerts._journal.outcomes[house.known(alert).id]
        await until(lambda: (1, HOOK) in outcomes.tries)
        assert outcomes.tries[1, HOOK].reached
        assert len(house.anna.notifications) == 1


async def test_what_the_automation_gives_along_reaches_the_destination(furnish: Furnish) -> None:
    async with furnish(Level(after=timedelta(seconds=0.2), destinations=(HOOK,), every=HOUR)) as house:
        house.hass.states.async_set("sensor.meter", "17.5")
        meter = house.hass.states.get("sensor.meter")
        assert meter
        await house.raise_alert(data={"rooms": ["cellar"]}, attach=["sensor.meter", "sensor.gone"])
        house.hass.states.async_set("sensor.meter", "99")
        await until(lambda: house.heard("notification_requested"))
        for told in (house.heard("opened")[0], house.heard("notification_requested")[0]):
            assert told["data"] == {"rooms": ["cellar"]}
            known, gone = told["attached"]
            assert (known["entity"], known["state"]) == ("sensor.meter", "17.5")
            assert datetime.fromisoformat(known["since"]) == meter.last_changed
            assert (gone["entity"], gone["state"]) == ("sensor.gone", "unavailable")


async def test_an_acknowledgement_before_it_is_due_keeps_the_webhook_unasked_until_its_end(furnish: Furnish) -> None:
    async with furnish(Level(after=timedelta(seconds=1), destinations=(HOOK,), every=HOUR)) as house:
        await house.raise_alert()
        acknowledged = time.monotonic()
        await house.hass.services.async_call(DOMAIN, "acknowledge", {"group": "leak", "for": {"seconds": 2}}, True)
        await until(lambda: house.requested)
        assert house.requested == [(2, 1, 0)]
        assert next(call.at for call in house.hook.calls if asking(call)) - acknowledged >= 2.9
        assert [data["revision"] for data in house.heard("acknowledged")] == [2]
        assert len(house.anna.notifications) == 2


async def test_an_answer_in_the_webhooks_reply_runs_its_actions_once_whatever_is_killed(
    furnish: Furnish, worker: list[ServiceCall]
) -> None:
    async with furnish(Level(after=timedelta(seconds=0.3), destinations=(HOOK,), every=HOUR)) as house:
        house.hook.behave = answer_open
        alert = await house.raise_alert()
        await until(lambda: house.heard("outcome"))
        assert house.known(alert).by == "hook"
        with pytest.raises(AlertRefusedError, match="hook") as refused:
            await house.hass.services.async_call(DOMAIN, "answer", {"alert": alert, "answer": "Keep off"}, True)
        assert refused.value.code == "already_answered"
        await house.gateway.kill()
        await until(lambda: not house.alerts.gateway_sync._worker is not None)
        await house.hass.config_entries.async_reload(house.entry.entry_id)
        await house.gateway.start()
        await house.until_linked()
        again = await house.raise_alert()
        await until(lambda: len(worker) == 2)  # a new alert is asked and answered anew
        assert house.known(again).by == "hook"
        assert [data["outcome"] for data in house.heard("outcome") if data["alert"] == alert] == ["done"]


@pytest.mark.parametrize("first", ["phone", "webhook", "nobody"])
async def test_of_two_answers_at_the_same_time_one_runs_and_the_other_is_told_who_won(
    furnish: Furnish, worker: list[ServiceCall], first: str
) -> None:
    replying = asyncio.Event()

    async def reply_late(_request: web.Request, body: bytes) -> web.Response:
        if not asking(body):
            return web.Response(status=204)
        await replying.wait()
        return web.json_response({"answer": "Open"})

    async with furnish(Level(after=timedelta(seconds=0.2), destinations=(HOOK,), every=HOUR)) as house:
        house.hook.behave = reply_late
        alert = await house.raise_alert()
        await until(lambda: house.requested and house.anna.notifications)
        button = house.anna.button("Open")
        for who in {"phone": ("phone", "webhook"), "webhook": ("webhook", "phone")}.get(first, ("phone+webhook",)):
            if "webhook" in who:
                replying.set()
            if "phone" in who:
                house.anna.press(button)
            await until(lambda: not house.known(alert).alive)
        await until(lambda: house.heard("answered") and house.heard("outcome"))
        winner = house.known(alert).by
        assert winner in {"phone": ("Anna",), "webhook": ("hook",), "nobody": ("Anna", "hook")}[first]
        assert [data["by"] for data in house.heard("answered")] == [winner]
        if winner == "hook":
            await until(lambda: house.anna.refusals)
            assert house.anna.refusals == ["already_answered"]
            assert "hook" in house.anna.notices[-1]
        else:
            records = house.alerts._journal.state.proposals
            await until(lambda: records)
            assert list(records.values()) == ["already_answered"]
        assert len(worker) == 1


@pytest.mark.parametrize("first", ["phone", "cloud", "nobody"])
async def test_of_answers_from_phone_and_cloud_at_the_same_time_one_runs_and_the_other_is_told_who_won(
    furnish: Furnish, worker: list[ServiceCall], first: str, tmp_path: Path
) -> None:
    async with furnish() as house, endpoint_process(tmp_path / "cloud") as cloud:
        await house.entry.runtime_data.coordinator.async_request(
            SetCloud(id="2", name="cloud", code=await cloud.code())
        )
        alert = await house.raise_alert()
        await until(lambda: house.anna.notifications)
        button = house.anna.button("Open")
        for who in {"phone": ("phone", "cloud"), "cloud": ("cloud", "phone")}.get(first, ("cloud+phone",)):
            if "cloud" in who:
                await cloud.answer(alert, "Open", "--by", "Eve", "--revision", "1")
            if "phone" in who:
                house.anna.press(button)
            await until(lambda: not house.known(alert).alive)
        winner = house.known(alert).by
        assert winner in {"phone": ("Anna",), "cloud": ("Eve",), "nobody": ("Anna", "Eve")}[first]
        if winner == "Eve":
            await until(lambda: house.anna.refusals)
            assert house.anna.refusals == ["already_answered"]
            assert "Eve" in house.anna.notices[-1]
        else:
            records = house.alerts._journal.state.proposals
            await until(lambda: records)
            assert list(records.values()) == ["already_answered"]
        async with asyncio.timeout(WITHIN):
            while not (told := await answered_by(cloud)):
                pass
        assert told == [winner], "and so the cloud knows who won"
        assert len(worker) == 1


async def answered_by(cloud: EndpointProcess) -> Sequence[str]:
    """Return who answered, as the cloud was told."""
    answered = "process_cosmos.alert.answered.v1"
    return [arrival["data"]["by"] for arrival in await cloud.ledger() if arrival["type"] == answered]


async def test_the_webhook_is_asked_in_full_while_home_assistant_is_away(
    furnish: Furnish, worker: list[ServiceCall]
) -> None:
    levels = (
        Level(after=HOUR, destinations=(HOOK,), every=timedelta(seconds=2), rounds=3),
        Level(after=timedelta(seconds=5), destinations=(HOOK,), every=HOUR, rounds=1),
    )
    async with furnish(*levels, program=(sys.executable, "-c", HASTY)) as house:
        alert = await house.raise_alert()
        await until(lambda: house.heard("opened"))
        assert house.requested == []
        await house.hass.config_entries.async_unload(house.entry.entry_id)
        await until(lambda: (1, 2, 0) in house.requested)
        # Each once and in order; of rounds that were missed until Home Assistant counted as away, only the newest.
        assert house.requested == sorted(set(house.requested))
        assert (1, 1, 2) in house.requested
        await house.hass.config_entries.async_setup(house.entry.entry_id)
        await house.until_linked()
        outcomes = house.alerts._journal.outcomes[house.known(alert).id]
        await until(lambda: outcomes.reached.keys() >= {(1, HOOK), (2, HOOK)})
        assert worker == []


async def test_an_answer_given_while_home_assistant_is_away_pauses_the_asks_and_runs_when_it_is_back(
    furnish: Furnish, worker: list[ServiceCall]
) -> None:
    async def answer_the_leak(request: web.Request, body: bytes) -> web.Response:
        about_leak = orjson.loads(body)["data"]["message"] == "Water in the cellar"
        return await answer_open(request, body) if about_leak else web.Response(status=204)

    levels = (Level(after=HOUR, destinations=(HOOK,), every=timedelta(seconds=1)),)
    async with furnish(*levels, program=(sys.executable, "-c", HASTY)) as house:
        house.hook.behave = answer_the_leak
        leak = await house.raise_alert()
        smoke = await house.raise_alert(group="smoke", message="Smoke")
        await until(lambda: len(house.heard("opened")) == 2)
        await house.hass.config_entries.async_unload(house.entry.entry_id)
        await until(lambda: house.rounds(leak))
        await house.gateway.kill()
        await house.gateway.start()
        await until(lambda: len(house.rounds(smoke)) > 3)
        assert len(house.rounds(leak)) == 1  # perhaps delivered again with the same id, if killed before its commit
        await house.hass.config_entries.async_setup(house.entry.entry_id)
        await until(lambda: house.heard("outcome"))
        assert house.known(leak).by == "hook"
        assert len(worker) == 1
        assert len(house.rounds(leak)) == 1


async def test_what_was_open_before_the_gateway_was_killed_is_asked_by_the_next_one(furnish: Furnish) -> None:
    async with furnish(Level(after=timedelta(seconds=2), destinations=(HOOK,), every=HOUR)) as house:
        await house.raise_alert()
        await until(lambda: house.heard("opened"))
        await house.gateway.kill()
        await house.raise_alert(message="Water everywhere")  # while it is away
        await house.gateway.start()
        await until(lambda: house.heard("updated"))
        await house.until_linked()
        await house.hass.services.async_call(DOMAIN, "resolve", {"group": "leak"}, True)
        await until(lambda: house.heard("resolved"))
        assert [data["revision"] for data in (*house.heard("opened"), *house.heard("updated"))] == [1, 2]
        second = await house.raise_alert()
        await until(lambda: any(data["alert"] == second for data in house.heard("notification_requested")))


async def test_a_site_that_is_deleted_closes_its_alerts_and_destinations_hear_so(furnish: Furnish) -> None:
    async with furnish(Level(after=HOUR, destinations=(HOOK,), every=HOUR)) as house:
        first = await house.raise_alert()
        second = await house.raise_alert(group="smoke", message="Smoke")
        await until(lambda: len(house.heard("opened")) == 2)
        await house.delete()
        assert {data["alert"] for data in house.heard("resolved")} == {first, second}
        assert {data["by"] for data in house.heard("resolved")} == {house.entry.title}
        assert await alerts_of_the_next_site(house) == ()


async def test_an_away_destination_holds_up_no_removal(furnish: Furnish, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("custom_components.process_cosmos.alerts.removal._DELIVERED_WITHIN", 0.2)
    async with furnish() as house:
        await house.hook.stop()
        await house.raise_alert()
        await house.delete()
        assert await alerts_of_the_next_site(house) == ()


async def test_what_a_site_left_open_at_an_app_that_was_away_is_closed_by_the_next_one(furnish: Furnish) -> None:
    async with furnish(Level(after=HOUR, destinations=(HOOK,), every=HOUR)) as house:
        left = await house.raise_alert()
        await until(lambda: house.heard("opened"))
        await house.gateway.kill()
        await house.hass.config_entries.async_remove(house.entry.entry_id)
        house.anna.sent.clear()
        await house.gateway.start()
        assert await alerts_of_the_next_site(house) == ()
        await until(lambda: house.heard("resolved"))
        assert [data["alert"] for data in house.heard("resolved")] == [left]
        assert house.anna.notifications == []


async def alerts_of_the_next_site(house: House) -> Sequence[Alert]:
    """Set a new site up with the same app; return what is alive there once both sides agree."""
    entry = await set_up_with(house.hass, str(await house.gateway.pairing_line()))
    assert entry.entry_id != house.entry.entry_id
    alerts: Alerts = entry.runtime_data.alerts
    await until(lambda: alerts.gateway_sync._worker is not None)
    alive: Sequence[Alert] = alerts.alive
    return alive
