"""Alerts across Home Assistant, a real gateway process and a real webhook."""

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
from process_cosmos_testbed.processes import free_port
from process_cosmos_testbed.services import COMMAND
from tests.cloud.endpoint import EndpointProcess, endpoint_process
from tests.gateway.destinations.parts import Call, Receiver, receiver
from tests.gateway.gateway_process import GatewayProcess, gateway_process
from tests.support.waiting import until

from .alerts.site import Phone, add_phone
from .test_real_gateway import set_up_with

HOOK = "destination:hook"
HOUR = timedelta(hours=1)
TIMEOUT = 20
IMPATIENT = (
    "import sys; from process_cosmos_gateway.alerts import notification_requests, service; service.AWAY_AFTER = 1.0;"
    " notification_requests.ROUND_GAP = 0.1; from process_cosmos_gateway.__main__ import main; sys.exit(main())"
)
"""Gateway program with shorter timeouts, for tests."""

ANSWERS = [{"name": "Open", "actions": [{"action": "pump.drain"}]}, {"name": "Keep off"}]


@dataclass(frozen=True, kw_only=True)
class LinkedSite:
    """Site with a running gateway, a webhook and one phone."""

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

    def received(self, kind: str) -> Sequence[dict[str, Any]]:
        """Return the data of the events of a kind that reached the webhook, each id once.

        An event whose delivery was interrupted by a kill is delivered again with the same id.
        """
        events = {event["id"]: event for call in self.hook.calls for event in (orjson.loads(call.body),)}
        return [event["data"] for event in events.values() if event["type"] == f"process_cosmos.alert.{kind}.v1"]

    @property
    def requested(self) -> Sequence[tuple[int, int, int]]:
        """Return (revision, level, round) of the notification requests that reached the webhook."""
        return [(data["revision"], data["level"], data["round"]) for data in self.received("notification_requested")]

    def rounds(self, alert: str) -> set[int]:
        """Return the rounds of an alert in which the webhook got a notification request."""
        return {data["round"] for data in self.received("notification_requested") if data["alert"] == alert}


type StartSite = Callable[..., Any]


@pytest.fixture
def worker(hass: HomeAssistant) -> list[ServiceCall]:
    calls: list[ServiceCall] = []
    hass.services.async_register("pump", "drain", calls.append)
    return calls


@pytest.fixture
async def start_site(
    hass: HomeAssistant, notify_entity: str, socket_enabled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> StartSite:
    """Return a function that starts a site whose policy notifies Anna's phone at once, then has the given levels."""

    @asynccontextmanager
    async def make(*levels: Level, program: Sequence[str | Path] = (COMMAND,)) -> AsyncIterator[LinkedSite]:
        await translation.async_load_integrations(hass, {DOMAIN})
        anna = add_phone(hass, "Anna")
        policy = Policy(levels=(Level(after=timedelta(), people=(f"{PHONE}{anna.app_id}",)), *levels))
        monkeypatch.setattr("custom_components.process_cosmos.alerts.engine.policy_of", lambda _hass, _options: policy)
        async with gateway_process(tmp_path, free_port(), program=program) as gateway, receiver() as hook:
            entry = await set_up_with(hass, str(await gateway.pairing_line()))
            site = LinkedSite(hass=hass, gateway=gateway, hook=hook, entry=entry, anna=anna)
            await site.until_linked()
            await entry.runtime_data.coordinator.connection.async_request(
                SetWebhook(id="1", name="hook", url=f"{hook.url}/x")
            )
            yield site
            await hass.async_block_till_done()
            for loaded in hass.config_entries.async_loaded_entries(DOMAIN):
                await hass.config_entries.async_unload(loaded.entry_id)

    return make


def is_notification_request(call: Call | bytes) -> bool:
    body = call if isinstance(call, bytes) else call.body
    return bool(orjson.loads(body)["type"] == "process_cosmos.alert.notification_requested.v1")


async def answer_open(_request: web.Request, body: bytes) -> web.Response:
    """Answer every notification request; accept other events."""
    return web.json_response({"answer": "Open"}) if is_notification_request(body) else web.Response(status=204)


async def test_the_second_level_reaches_the_webhook_when_due_and_its_outcome_is_recorded(start_site: StartSite) -> None:
    async with start_site(Level(after=timedelta(seconds=1.5), destinations=(HOOK,), every=HOUR)) as site:
        called = time.monotonic()
        alert = await site.raise_alert()
        await until(lambda: site.requested)
        assert 1.4 <= next(call.at for call in site.hook.calls if is_notification_request(call)) - called < TIMEOUT
        assert site.requested == [(1, 1, 0)]
        assert len(site.received("opened")) == 1  # transitions are sent at once, regardless of requests
        assert site.received("notification_requested")[0]["answers"] == ["Open", "Keep off"]
        outcomes = site.alerts._journal.outcomes[site.known(alert).id]
        await until(lambda: (1, HOOK) in outcomes.attempts)
        assert outcomes.attempts[1, HOOK].reached
        assert len(site.anna.notifications) == 1


async def test_data_and_attached_states_reach_the_destination(start_site: StartSite) -> None:
    async with start_site(Level(after=timedelta(seconds=0.2), destinations=(HOOK,), every=HOUR)) as site:
        site.hass.states.async_set("sensor.meter", "17.5")
        meter = site.hass.states.get("sensor.meter")
        assert meter
        await site.raise_alert(data={"rooms": ["cellar"]}, attach=["sensor.meter", "sensor.gone"])
        site.hass.states.async_set("sensor.meter", "99")
        await until(lambda: site.received("notification_requested"))
        for events in (site.received("opened")[0], site.received("notification_requested")[0]):
            assert events["data"] == {"rooms": ["cellar"]}
            known, gone = events["attached"]
            assert (known["entity"], known["state"]) == ("sensor.meter", "17.5")
            assert datetime.fromisoformat(known["since"]) == meter.last_changed
            assert (gone["entity"], gone["state"]) == ("sensor.gone", "unavailable")


async def test_an_acknowledgement_postpones_the_webhooks_request_to_its_end(start_site: StartSite) -> None:
    async with start_site(Level(after=timedelta(seconds=1), destinations=(HOOK,), every=HOUR)) as site:
        await site.raise_alert()
        acknowledged = time.monotonic()
        await site.hass.services.async_call(DOMAIN, "acknowledge", {"group": "leak", "for": {"seconds": 2}}, True)
        await until(lambda: site.requested)
        assert site.requested == [(2, 1, 0)]
        assert next(call.at for call in site.hook.calls if is_notification_request(call)) - acknowledged >= 2.9
        assert [data["revision"] for data in site.received("acknowledged")] == [2]
        assert len(site.anna.notifications) == 2


async def test_an_answer_in_the_webhooks_reply_runs_its_actions_once_despite_restarts(
    start_site: StartSite, worker: list[ServiceCall]
) -> None:
    async with start_site(Level(after=timedelta(seconds=0.3), destinations=(HOOK,), every=HOUR)) as site:
        site.hook.behave = answer_open
        alert = await site.raise_alert()
        await until(lambda: site.received("outcome"))
        assert site.known(alert).by == "hook"
        with pytest.raises(AlertRefusedError, match="hook") as refused:
            await site.hass.services.async_call(DOMAIN, "answer", {"alert": alert, "answer": "Keep off"}, True)
        assert refused.value.code == "already_answered"
        await site.gateway.kill()
        await until(lambda: not site.alerts.gateway_sync._worker is not None)
        await site.hass.config_entries.async_reload(site.entry.entry_id)
        await site.gateway.start()
        await site.until_linked()
        again = await site.raise_alert()
        await until(lambda: len(worker) == 2)  # the new alert is requested and answered separately
        assert site.known(again).by == "hook"
        assert [data["outcome"] for data in site.received("outcome") if data["alert"] == alert] == ["done"]


@pytest.mark.parametrize("first", ["phone", "webhook", "nobody"])
async def test_of_simultaneous_answers_from_phone_and_webhook_one_runs_and_the_other_is_refused(
    start_site: StartSite, worker: list[ServiceCall], first: str
) -> None:
    replying = asyncio.Event()

    async def reply_late(_request: web.Request, body: bytes) -> web.Response:
        if not is_notification_request(body):
            return web.Response(status=204)
        await replying.wait()
        return web.json_response({"answer": "Open"})

    async with start_site(Level(after=timedelta(seconds=0.2), destinations=(HOOK,), every=HOUR)) as site:
        site.hook.behave = reply_late
        alert = await site.raise_alert()
        await until(lambda: site.requested and site.anna.notifications)
        button = site.anna.button("Open")
        for who in {"phone": ("phone", "webhook"), "webhook": ("webhook", "phone")}.get(first, ("phone+webhook",)):
            if "webhook" in who:
                replying.set()
            if "phone" in who:
                site.anna.press(button)
            await until(lambda: not site.known(alert).alive)
        await until(lambda: site.received("answered") and site.received("outcome"))
        winner = site.known(alert).by
        assert winner in {"phone": ("Anna",), "webhook": ("hook",), "nobody": ("Anna", "hook")}[first]
        assert [data["by"] for data in site.received("answered")] == [winner]
        if winner == "hook":
            await until(lambda: site.anna.refusals)
            assert site.anna.refusals == ["already_answered"]
            assert "hook" in site.anna.notices[-1]
        else:
            records = site.alerts._journal.state.proposals
            await until(lambda: records)
            assert list(records.values()) == ["already_answered"]
        assert len(worker) == 1


@pytest.mark.parametrize("first", ["phone", "cloud", "nobody"])
async def test_of_simultaneous_answers_from_phone_and_cloud_one_runs_and_the_other_is_refused(
    start_site: StartSite, worker: list[ServiceCall], first: str, tmp_path: Path
) -> None:
    async with start_site() as site, endpoint_process(tmp_path / "cloud") as cloud:
        await site.entry.runtime_data.coordinator.connection.async_request(
            SetCloud(id="2", name="cloud", code=await cloud.code())
        )
        alert = await site.raise_alert()
        await until(lambda: site.anna.notifications)
        button = site.anna.button("Open")
        for who in {"phone": ("phone", "cloud"), "cloud": ("cloud", "phone")}.get(first, ("cloud+phone",)):
            if "cloud" in who:
                await cloud.answer(alert, "Open", "--by", "Eve", "--revision", "1")
            if "phone" in who:
                site.anna.press(button)
            await until(lambda: not site.known(alert).alive)
        winner = site.known(alert).by
        assert winner in {"phone": ("Anna",), "cloud": ("Eve",), "nobody": ("Anna", "Eve")}[first]
        if winner == "Eve":
            await until(lambda: site.anna.refusals)
            assert site.anna.refusals == ["already_answered"]
            assert "Eve" in site.anna.notices[-1]
        else:
            records = site.alerts._journal.state.proposals
            await until(lambda: records)
            assert list(records.values()) == ["already_answered"]
        async with asyncio.timeout(TIMEOUT):
            while not (events := await answered_by(cloud)):
                pass
        assert events == [winner], "the cloud is notified of the winner"
        assert len(worker) == 1


async def answered_by(cloud: EndpointProcess) -> Sequence[str]:
    """Return who answered, according to the events at the cloud."""
    answered = "process_cosmos.alert.answered.v1"
    return [arrival["data"]["by"] for arrival in await cloud.ledger() if arrival["type"] == answered]


async def test_the_webhook_gets_all_requests_while_home_assistant_is_away(
    start_site: StartSite, worker: list[ServiceCall]
) -> None:
    levels = (
        Level(after=HOUR, destinations=(HOOK,), every=timedelta(seconds=2), rounds=3),
        Level(after=timedelta(seconds=5), destinations=(HOOK,), every=HOUR, rounds=1),
    )
    async with start_site(*levels, program=(sys.executable, "-c", IMPATIENT)) as site:
        alert = await site.raise_alert()
        await until(lambda: site.received("opened"))
        assert site.requested == []
        await site.hass.config_entries.async_unload(site.entry.entry_id)
        await until(lambda: (1, 2, 0) in site.requested)
        # Each once and in order; of the rounds missed before Home Assistant counted as away, only the newest.
        assert site.requested == sorted(set(site.requested))
        assert (1, 1, 2) in site.requested
        await site.hass.config_entries.async_setup(site.entry.entry_id)
        await site.until_linked()
        outcomes = site.alerts._journal.outcomes[site.known(alert).id]
        await until(lambda: outcomes.reached.keys() >= {(1, HOOK), (2, HOOK)})
        assert worker == []


async def test_an_answer_while_home_assistant_is_away_pauses_requests_and_runs_on_its_return(
    start_site: StartSite, worker: list[ServiceCall]
) -> None:
    async def answer_the_leak(request: web.Request, body: bytes) -> web.Response:
        about_leak = orjson.loads(body)["data"]["message"] == "Water in the cellar"
        return await answer_open(request, body) if about_leak else web.Response(status=204)

    levels = (Level(after=HOUR, destinations=(HOOK,), every=timedelta(seconds=1)),)
    async with start_site(*levels, program=(sys.executable, "-c", IMPATIENT)) as site:
        site.hook.behave = answer_the_leak
        leak = await site.raise_alert()
        smoke = await site.raise_alert(group="smoke", message="Smoke")
        await until(lambda: len(site.received("opened")) == 2)
        await site.hass.config_entries.async_unload(site.entry.entry_id)
        await until(lambda: site.rounds(leak))
        await site.gateway.kill()
        await site.gateway.start()
        await until(lambda: len(site.rounds(smoke)) > 3)
        assert len(site.rounds(leak)) == 1  # a repeated delivery after the kill has the same id
        await site.hass.config_entries.async_setup(site.entry.entry_id)
        await until(lambda: site.received("outcome"))
        assert site.known(leak).by == "hook"
        assert len(worker) == 1
        assert len(site.rounds(leak)) == 1


async def test_requests_of_an_open_alert_continue_after_a_kill_of_the_gateway(start_site: StartSite) -> None:
    async with start_site(Level(after=timedelta(seconds=2), destinations=(HOOK,), every=HOUR)) as site:
        await site.raise_alert()
        await until(lambda: site.received("opened"))
        await site.gateway.kill()
        await site.raise_alert(message="Water everywhere")  # while it is away
        await site.gateway.start()
        await until(lambda: site.received("updated"))
        await site.until_linked()
        await site.hass.services.async_call(DOMAIN, "resolve", {"group": "leak"}, True)
        await until(lambda: site.received("resolved"))
        assert [data["revision"] for data in (*site.received("opened"), *site.received("updated"))] == [1, 2]
        second = await site.raise_alert()
        await until(lambda: any(data["alert"] == second for data in site.received("notification_requested")))


async def test_deleting_a_site_closes_its_alerts_and_notifies_destinations(start_site: StartSite) -> None:
    async with start_site(Level(after=HOUR, destinations=(HOOK,), every=HOUR)) as site:
        first = await site.raise_alert()
        second = await site.raise_alert(group="smoke", message="Smoke")
        await until(lambda: len(site.received("opened")) == 2)
        await site.delete()
        assert {data["alert"] for data in site.received("resolved")} == {first, second}
        assert {data["by"] for data in site.received("resolved")} == {site.entry.title}
        assert await alerts_of_the_next_site(site) == ()


async def test_an_unreachable_destination_does_not_block_a_removal(
    start_site: StartSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom_components.process_cosmos.alerts.removal._DELIVERED_WITHIN", 0.2)
    async with start_site() as site:
        await site.hook.stop()
        await site.raise_alert()
        await site.delete()
        assert await alerts_of_the_next_site(site) == ()


async def test_alerts_left_open_at_an_unreachable_app_are_closed_by_the_next_site(start_site: StartSite) -> None:
    async with start_site(Level(after=HOUR, destinations=(HOOK,), every=HOUR)) as site:
        left = await site.raise_alert()
        await until(lambda: site.received("opened"))
        await site.gateway.kill()
        await site.hass.config_entries.async_remove(site.entry.entry_id)
        site.anna.sent.clear()
        await site.gateway.start()
        assert await alerts_of_the_next_site(site) == ()
        await until(lambda: site.received("resolved"))
        assert [data["alert"] for data in site.received("resolved")] == [left]
        assert site.anna.notifications == []


async def alerts_of_the_next_site(site: LinkedSite) -> Sequence[Alert]:
    """Set up a new site with the same app; return its alive alerts once both sides agree."""
    entry = await set_up_with(site.hass, str(await site.gateway.pairing_line()))
    assert entry.entry_id != site.entry.entry_id
    alerts: Alerts = entry.runtime_data.alerts
    await until(lambda: alerts.gateway_sync._worker is not None)
    alive: Sequence[Alert] = alerts.alive
    return alive
