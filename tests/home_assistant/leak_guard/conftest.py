"""Each test has a home of its own, in a folder of its own."""

from collections.abc import AsyncGenerator

import pytest
from homeassistant.core import HomeAssistant

from .house import LeakGuardHome, set_up_home


@pytest.fixture
def hass_config_dir(hass_tmp_config_dir: str) -> str:
    """Blueprints are copied into a folder that goes with the test."""
    return hass_tmp_config_dir


@pytest.fixture
async def home(hass: HomeAssistant) -> AsyncGenerator[LeakGuardHome]:
    """A home without Process Cosmos; what hangs in it ends with the test."""
    home = await set_up_home(hass)
    yield home
    if hass.services.has_service("automation", "turn_off"):
        await hass.services.async_call("automation", "turn_off", {"entity_id": "all"}, blocking=False)
    home.valve.let_go.set()
    await hass.async_block_till_done()
