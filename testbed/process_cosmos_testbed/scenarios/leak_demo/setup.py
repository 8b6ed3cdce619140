"""The site's set-up as its owner does it: the integration's own flows, two phones, automations from the blueprint."""

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.flows import DOMAIN, OPTIONS, Flow
from process_cosmos_testbed.home_assistant.onboarding import Phone, register_phone
from process_cosmos_testbed.processes import until

from .site import DemoSite

BLUEPRINT = "process_cosmos/leak_guard.yaml"
KINDS = ["alert", "device"]
PHONES = ("ann", "ben")


async def add_integration(home: HomeAssistantClient, site: DemoSite, phones: list[Phone]) -> str:
    """Add the integration: pairing line, recipients, the cloud endpoint; return the id of its entry."""
    flow = Flow(home)
    await flow.begin()
    await flow.choose("pairing")
    await flow.fill("pairing", line=await site.gateway.new_pairing_line())
    await flow.fill("who", phones=[phone.device for phone in phones], notify_entities=[])
    await flow.choose("cloud")
    await flow.fill("cloud", code=await site.one_time_code(), kinds=KINDS)
    created = await flow.fill("finish", test_notification=False, install_blueprints=True)
    return str(created["result"]["entry_id"])


async def add_webhook(home: HomeAssistantClient, entry: str, url: str) -> None:
    """Add the second destination through the options flow."""
    flow = Flow(home, OPTIONS)
    await flow.begin(entry)
    await flow.choose("webhook")
    await flow.fill("webhook", url=url, kinds=KINDS)


async def add_phones(home: HomeAssistantClient, site: DemoSite) -> list[Phone]:
    """Register the phones at the observer's push service."""
    return [await register_phone(home, name, site.observer.push_service.url(name)) for name in PHONES]


async def find_entities(home: HomeAssistantClient) -> tuple[str, str]:
    """Wait until the kitchen's sensor and valve, which come from the gateway, are usable, and return them."""

    async def find() -> tuple[str, str] | None:
        entities = await home.command("config/entity_registry/list")
        ours = [entity["entity_id"] for entity in entities if entity["platform"] == DOMAIN]
        states = {state["entity_id"]: state for state in await home.get("/api/states")}
        sensors = [
            each for each in ours if states.get(each, {}).get("attributes", {}).get("device_class") == "moisture"
        ]
        valves = [each for each in ours if each.startswith("valve.")]
        usable = {each for each in (*sensors, *valves) if states[each]["state"] in ("off", "open")}
        if sensors and valves and usable >= {sensors[0], valves[0]}:
            return sensors[0], valves[0]
        return None

    return await until(find, "usable sensor and valve of the kitchen in Home Assistant", 30, every=0.05)


async def add_guard(home: HomeAssistantClient, name: str, sensor: str, valve: str) -> None:
    """Create an automation from the blueprint, as the editor saves it."""
    use = {"path": BLUEPRINT, "input": {"sensors": [sensor], "valve": valve, "dry_for": 0}}
    alias = name.replace("_", " ").capitalize()
    await home.post(f"/api/config/automation/config/{name}", {"alias": alias, "use_blueprint": use})

    async def is_on() -> bool:
        return await home.state(f"automation.{name}") == "on"

    # Home Assistant replies before it has loaded the automation.
    await until(is_on, f"automation.{name}", 20)
