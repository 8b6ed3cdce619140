"""Home Assistant's config flows by its REST API, step by step as the frontend shows them."""

from dataclasses import dataclass, field
from typing import Any

from process_cosmos_testbed.processes import TestbedError

from .client import HomeAssistantClient

DOMAIN = "process_cosmos"
CONFIG = "/api/config/config_entries/flow"
OPTIONS = "/api/config/config_entries/options/flow"


class FlowError(TestbedError):
    """A flow did not reach the expected step; the message has its reply."""


@dataclass(slots=True)
class Flow:
    """One run of a config or options flow, by its path."""

    _home: HomeAssistantClient
    _path: str = CONFIG
    _step: dict[str, Any] = field(default_factory=dict)

    async def begin(self, handler: str = DOMAIN, **context: str) -> None:
        """Open the flow; with ``entry_id`` it reconfigures that entry."""
        self._step = await self._home.post(self._path, {"handler": handler, **context})

    async def choose(self, option: str) -> dict[str, Any]:
        """Choose from the menu that is shown; return the next step."""
        if self._step["type"] != "menu" or option not in self._step["menu_options"]:
            raise FlowError(f"no menu with {option}: {self._step}")
        await self._continue(next_step_id=option)
        return self._step

    async def fill(self, step: str, **answers: Any) -> dict[str, Any]:  # noqa: ANN401 - a form's JSON
        """Submit the form that is shown, which must be ``step``; return the next step."""
        if self._step["type"] != "form" or self._step["step_id"] != step:
            raise FlowError(f"not the form {step}: {self._step}")
        await self._continue(**answers)
        if self._step.get("errors") or self._step["type"] == "abort":
            raise FlowError(f"{step} was refused: {self._step.get('errors') or self._step['reason']}")
        return self._step

    async def _continue(self, **answers: Any) -> None:  # noqa: ANN401
        self._step = await self._home.post(f"{self._path}/{self._step['flow_id']}", answers)
