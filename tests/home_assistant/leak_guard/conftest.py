"""Fixtures: a simulated home in a temporary folder for each test."""

from collections.abc import AsyncGenerator

import pytest
from homeassistant.core import HomeAssistant

from .house import LeakGuardHome, set_up_home


@pytest.fixture
def hass_config_dir(hass_tmp_config_dir: str) -> str:
    """A temporary configuration folder, into which blueprints are copied."""
    return hass_tmp_config_dir


@pytest.fixture
async def home(hass: HomeAssistant) -> AsyncGenerator[LeakGuardHome]:
    """A home without Process Cosmos; hanging valves are released after the test."""
    home = await set_up_home(hass)
    yield home
    if hass.services.has_service("automation", "turn_off"):
        await hass.services.async_call("automation", "turn_off", {"entity_id": "all"}, blocking=False)
    home.valve.let_go.set()
    await hass.async_block_till_done()
