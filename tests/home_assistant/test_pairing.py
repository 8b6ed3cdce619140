"""Pairing lines, pasted in the set-up or later, and messages about malformed ones."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from homeassistant.config_entries import ConfigFlowResult
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.pairing import PairingLine
from tests.support.waiting import until

from .contract_gateway import OTHER_SITE, SECRET, SITE, TOKEN, ContractGateway
from .setting_up import NEITHER, WEBHOOK, begin, choose, choose_recipients, filled, submit

pytestmark = pytest.mark.usefixtures("flow_ends")


async def test_a_pairing_line_creates_a_site_with_a_pinned_certificate(
    hass: HomeAssistant, tls_gateway: ContractGateway
) -> None:
    result = await submit(hass, await begin(hass, "pairing"), {"line": f"  {tls_gateway.line}\n"})
    result = await choose(hass, await choose_recipients(hass, result), "finish")
    result = await submit(hass, result, NEITHER)
    assert result["result"].unique_id == SITE
    assert result["data"] == {
        "site": SITE,
        "url": tls_gateway.url,
        "token": TOKEN,
        "sha256": tls_gateway.sha256,
    }
    await until(lambda: result["result"].runtime_data.coordinator.connection.session)


async def test_a_line_from_the_apps_own_page_needs_no_certificate(
    hass: HomeAssistant, gateway: ContractGateway
) -> None:
    result = await submit(hass, await begin(hass, "pairing"), {"line": f"{gateway.url}#{SECRET[:9]}"})
    assert result["errors"] == {"line": "line_cut"}
    line = PairingLine(url=gateway.url, secret=SECRET)
    result = await choose(
        hass, await choose_recipients(hass, await submit(hass, result, {"line": f"{line} \n"})), "finish"
    )
    result = await submit(hass, result, NEITHER)
    assert result["data"] == {"site": SITE, "url": gateway.url, "token": TOKEN, "sha256": None}
    await until(lambda: result["result"].runtime_data.coordinator.connection.session)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda line: line[:-1], "line_cut"),
        (lambda line: line.split("#")[0], "line_cut"),
        (lambda line: line.split(".")[0] + "." + line.split(".", 1)[1].split(".")[0], "line_cut"),
        (lambda line: line + "ab", "line_long"),
        (lambda line: line + line, "line_long"),
        (lambda line: line[:-3] + "é" + line[-2:], "line_character"),
        (lambda line: line[:-3] + "G" + line[-2:], "line_character"),
        (lambda line: line.removeprefix("https:"), "line_beginning"),
        (lambda line: line.replace("127.0.0.1:", "127.0.0.1:9"), "line_address"),
        (lambda line: line.replace("127.0.0.1", "127.0.0,1"), "line_address"),
        (lambda line: line.replace("pairing-secret", "a-used-secret"), "pairing_refused"),
        (lambda line: line.split(".")[0] + ".0.0.1:1#" + line.split("#")[1], "cannot_connect"),
        (lambda line: line[:-64] + "ab" * 32, "identity_mismatch"),
    ],
)
async def test_a_malformed_pairing_line_is_explained_and_can_be_corrected(
    hass: HomeAssistant,
    tls_gateway: ContractGateway,
    spoil: Callable[[str], str],
    code: str,
) -> None:
    result = await submit(hass, await begin(hass, "pairing"), {"line": spoil(tls_gateway.line)})
    assert result["errors"] == {"line": code}
    result = await submit(hass, result, {"line": tls_gateway.line})
    assert result["step_id"] == "who"


async def test_a_line_that_was_refused_stays_in_its_field(hass: HomeAssistant) -> None:
    result = await submit(hass, await begin(hass, "pairing"), {"line": "hello"})
    assert result["errors"] == {"line": "line_beginning"}
    assert filled(result) == {"line": "hello"}


@pytest.mark.parametrize("with_it", [" {}\n", "`{}`", '"{}"', "\u00a0{}"])
async def test_blanks_line_breaks_and_quotes_around_a_line_are_ignored(
    hass: HomeAssistant, tls_gateway: ContractGateway, with_it: str
) -> None:
    line = tls_gateway.line
    broken = with_it.format(f"{line[:40]}\n   {line[40:60]} {line[60:]}")
    result = await submit(hass, await begin(hass, "pairing"), {"line": broken})
    assert result["step_id"] == "who"


async def test_a_pairing_line_pasted_after_the_recipients_continues_from_there(
    hass: HomeAssistant, tls_gateway: ContractGateway
) -> None:
    result = await choose(hass, await choose_recipients(hass, await begin(hass, "without_app")), "pairing")
    result = await submit(hass, result, {"line": tls_gateway.line})
    assert result["step_id"] == "elsewhere"


async def test_a_pairing_line_adds_the_app_to_the_site_without_one(
    hass: HomeAssistant, people_only: MockConfigEntry, tls_gateway: ContractGateway
) -> None:
    result = await submit(hass, await begin(hass, "pairing"), {"line": tls_gateway.line})
    result = await choose(hass, result, "webhook")
    result = await submit(hass, result, WEBHOOK)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "joined")
    await hass.async_block_till_done()
    assert hass.config_entries.async_entries(DOMAIN) == [people_only]
    assert people_only.unique_id == SITE
    assert people_only.data["url"] == tls_gateway.url
    assert people_only.options["notify_entities"] == ["notify.hall"]
    assert people_only.options["destinations"] == ["webhook"]


async def test_a_pairing_line_of_a_configured_site_updates_it(
    hass: HomeAssistant, tls_gateway: ContractGateway, site: MockConfigEntry
) -> None:
    site.add_to_hass(hass)
    result = await submit(hass, await begin(hass, "pairing"), {"line": tls_gateway.line})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")
    assert site.data["url"] == tls_gateway.url


async def test_a_new_pairing_line_ends_the_reauthentication(
    hass: HomeAssistant, site: MockConfigEntry, tls_gateway: ContractGateway
) -> None:
    site.add_to_hass(hass)
    result = await site.start_reauth_flow(hass)
    assert result["step_id"] == "reauth_confirm"
    result = await submit(hass, result, {"line": tls_gateway.line})
    assert result["reason"] == "reauth_successful"
    assert site.data["sha256"] == tls_gateway.sha256
    await hass.async_block_till_done()


@pytest.mark.parametrize("begin_flow", [MockConfigEntry.start_reauth_flow, MockConfigEntry.start_reconfigure_flow])
async def test_another_app_serves_the_site_after_confirmation(
    hass: HomeAssistant,
    site: MockConfigEntry,
    tls_gateway: ContractGateway,
    begin_flow: Callable[[MockConfigEntry, HomeAssistant], Awaitable[ConfigFlowResult]],
) -> None:
    site.add_to_hass(hass)
    hass.config_entries.async_update_entry(site, options={**site.options, "destinations": ["webhook"]})
    tls_gateway.site, tls_gateway.hello = OTHER_SITE, replace(tls_gateway.hello, site=OTHER_SITE)
    result = await submit(hass, await begin_flow(site, hass), {"line": tls_gateway.line})
    assert result["step_id"] == "other_gateway"
    assert site.unique_id == SITE
    result = await submit(hass, result, {})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "moved")
    assert site.unique_id == site.data["site"] == OTHER_SITE
    assert (site.options["notify_entities"], site.options["destinations"]) == (["notify.hall"], [])
    await until(lambda: tls_gateway.sessions)


async def test_the_app_of_another_site_is_refused(
    hass: HomeAssistant, site: MockConfigEntry, people_only: MockConfigEntry, tls_gateway: ContractGateway
) -> None:
    site.add_to_hass(hass)
    hass.config_entries.async_update_entry(
        people_only, unique_id=OTHER_SITE, data=dict(site.data) | {"site": OTHER_SITE}
    )
    tls_gateway.site = OTHER_SITE
    result = await submit(hass, await site.start_reconfigure_flow(hass), {"line": tls_gateway.line})
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "already_configured")
    assert site.data["site"] == SITE


async def test_a_gateway_with_a_new_address_is_reconfigured_with_a_new_line(
    hass: HomeAssistant, site: MockConfigEntry, tls_gateway: ContractGateway
) -> None:
    site.add_to_hass(hass)
    result = await site.start_reconfigure_flow(hass)
    assert result["step_id"] == "reconfigure"
    result = await submit(hass, result, {"line": tls_gateway.line})
    assert result["reason"] == "reconfigure_successful"
    assert site.data["url"] == tls_gateway.url
    await hass.async_block_till_done()


async def test_reconfiguring_adds_an_app_to_a_site_without_one(
    hass: HomeAssistant, people_only: MockConfigEntry, tls_gateway: ContractGateway
) -> None:
    result = await submit(hass, await people_only.start_reconfigure_flow(hass), {"line": tls_gateway.line})
    result = await choose(hass, result, "finish")
    assert result["reason"] == "joined"
    assert people_only.unique_id == SITE
    await hass.async_block_till_done()
