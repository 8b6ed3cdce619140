"""The site as its owner sets it up: the integration's own flows, two phones, an automation from the blueprint."""

from dataclasses import dataclass
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.onboarding import Phone, register_phone

from .house import House, until

DOMAIN = "process_cosmos"
BLUEPRINT = "process_cosmos/leak_guard.yaml"
KINDS = ["alert", "device"]
PHONES = ("ann", "ben")


class FlowError(Exception):
    """A flow did not go where it should; the message has what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entities:
    """The kitchen's entities, which come through the gateway."""

    sensor: str
    valve: str


async def add_integration(home: HomeAssistantClient, house: House, phones: list[Phone]) -> str:
    """Add the integration through its config flow: pairing line, who is told, the cloud; return the entry's id."""
    flow = Flow(home, "/api/config/config_entries/flow")
    await flow.begin(handler=DOMAIN)
    await flow.choose("pairing")
    await flow.fill("pairing", line=await house.pairing_line())
    await flow.fill("who", phones=[phone.device for phone in phones], notify_entities=[])
    await flow.choose("cloud")
    await flow.fill("cloud", code=await house.one_time_code(), kinds=KINDS)
    created = await flow.fill("finish", test_notification=False, install_blueprints=True)
    return str(created["result"]["entry_id"])


async def add_webhook(home: HomeAssistantClient, entry: str, url: str) -> None:
    """Add the second destination through the options flow."""
    flow = Flow(home, "/api/config/config_entries/options/flow")
    await flow.begin(handler=entry)
    await flow.choose("webhook")
    await flow.fill("webhook", url=url, kinds=KINDS)


async def add_phones(home: HomeAssistantClient, house: House) -> list[Phone]:
    """Register the phones; their push server is the ledger."""
    return [await register_phone(home, name, f"{house.ledger_url}/push/{name}") for name in PHONES]


async def find_entities(home: HomeAssistantClient) -> Entities:
    """Wait until the kitchen's sensor and valve have appeared, and return them."""

    async def find() -> Entities | None:
        entities = await home.command("config/entity_registry/list")
        ours = [entity["entity_id"] for entity in entities if entity["platform"] == DOMAIN]
        states = {state["entity_id"]: state for state in await home.get("/api/states")}
        sensors = [
            entity for entity in ours if states.get(entity, {}).get("attributes", {}).get("device_class") == "moisture"
        ]
        valves = [entity for entity in ours if entity.startswith("valve.")]
        usable = {entity for entity in (*sensors, *valves) if states[entity]["state"] in ("off", "open")}
        if sensors and valves and usable >= {sensors[0], valves[0]}:
            return Entities(sensor=sensors[0], valve=valves[0])
        return None

    return await until(find, "the kitchen's sensor and valve in Home Assistant", 30)


async def add_guard(home: HomeAssistantClient, name: str, sensor: str, valve: str) -> None:
    """Make an automation from the blueprint, as the editor saves it."""
    inputs = {"sensors": [sensor], "valve": valve, "dry_for": 0}
    use = {"path": BLUEPRINT, "input": inputs}
    await home.post(
        f"/api/config/automation/config/{name}", {"alias": name.replace("_", " ").capitalize(), "use_blueprint": use}
    )

    async def on() -> bool | None:
        return (await home.state(f"automation.{name}")) == "on" or None

    await until(on, f"automation.{name}", 20)


class Flow:
    """One run of a flow by Home Assistant's REST API: what a person sees, step by step."""

    def __init__(self, home: HomeAssistantClient, path: str) -> None:
        """Take Home Assistant and the path of this kind of flow."""
        self._home = home
        self._path = path
        self._step: dict[str, Any] = {}

    async def begin(self, handler: str, **context: str) -> None:
        """Open the flow; with ``entry_id`` it reconfigures that entry."""
        self._step = await self._home.post(self._path, {"handler": handler, **context})

    async def choose(self, option: str) -> None:
        """Choose from the menu that is shown."""
        if self._step["type"] != "menu" or option not in self._step["menu_options"]:
            raise FlowError(f"no menu with {option}: {self._step}")
        await self._go_on(next_step_id=option)

    async def fill(self, step: str, **answers: Any) -> dict[str, Any]:  # noqa: ANN401 - a form's JSON
        """Fill in the form that is shown, which must be ``step``; return what comes next."""
        if self._step["type"] != "form" or self._step["step_id"] != step:
            raise FlowError(f"not the form {step}: {self._step}")
        await self._go_on(**answers)
        if self._step.get("errors") or self._step["type"] == "abort":
            raise FlowError(f"{step} was refused: {self._step.get('errors') or self._step['reason']}")
        return self._step

    async def _go_on(self, **answers: Any) -> None:  # noqa: ANN401
        self._step = await self._home.post(f"{self._path}/{self._step['flow_id']}", answers)
