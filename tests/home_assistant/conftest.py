"""Home Assistant's own pytest plugin, with this repository's custom_components."""

# First of all: the plugin brings a package custom_components of its own, and the first import wins.
import custom_components  # noqa: F401, I001 - imported for its effect
import pytest


@pytest.fixture(autouse=True)
def _this_repositorys_integration(enable_custom_integrations: None) -> None:
    """Let Home Assistant load custom integrations."""
