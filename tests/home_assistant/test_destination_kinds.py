"""Each kind of destination has what its dialogs need."""

import json
from pathlib import Path

import pytest

from custom_components import process_cosmos
from custom_components.process_cosmos.config_flow import CosmosConfigFlow
from custom_components.process_cosmos.contract.destinations import DestinationKind
from custom_components.process_cosmos.flows import forms
from custom_components.process_cosmos.flows.options_flow import CosmosOptionsFlow


@pytest.mark.parametrize("kind", DestinationKind)
def test_a_kind_has_forms_steps_and_texts(kind: DestinationKind) -> None:
    texts = json.loads((Path(process_cosmos.__file__).parent / "translations/en.json").read_text())
    for flow, domain in ((CosmosConfigFlow, "config"), (CosmosOptionsFlow, "options")):
        assert hasattr(flow, f"async_step_{kind}")
        assert texts[domain]["step"][kind]["data"].keys() == {str(field) for field in forms.DESTINATIONS[kind].schema}
    assert hasattr(CosmosOptionsFlow, f"async_step_change_{kind}")
    changed = texts["options"]["step"][f"change_{kind}"]["data"]
    assert changed.keys() == {str(field) for field in forms.CHANGES[kind].schema}
