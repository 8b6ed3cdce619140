"""The cellar: a sensor and a valve of Home Assistant's own, which need no gateway."""

HOME_ASSISTANT_ENTITIES = """\
counter:
  cellar_valve_closings: {name: Closings of the cellar valve}
  pump_restarts: {name: Restarts of the pump}
  neighbour_called: {name: Calls to the neighbour}
input_boolean:
  cellar_water: {name: Water in the cellar}
  cellar_valve_open: {name: Cellar valve open, initial: true}
template:
  - binary_sensor:
      - name: Cellar floor
        unique_id: cellar_floor
        device_class: moisture
        state: "{{ is_state('input_boolean.cellar_water', 'on') }}"
  - switch:
      - name: Cellar valve
        unique_id: cellar_valve
        state: "{{ is_state('input_boolean.cellar_valve_open', 'on') }}"
        turn_on:
          - {action: input_boolean.turn_on, target: {entity_id: input_boolean.cellar_valve_open}}
        turn_off:
          - {action: input_boolean.turn_off, target: {entity_id: input_boolean.cellar_valve_open}}
          - {action: counter.increment, target: {entity_id: counter.cellar_valve_closings}}
"""
"""A sensor and a valve of Home Assistant's own, and counters: of each closing, and of the effects of answers."""

CELLAR_SENSOR = "binary_sensor.cellar_floor"
CELLAR_VALVE = "switch.cellar_valve"
CELLAR_WATER = "input_boolean.cellar_water"
CELLAR_CLOSINGS = "counter.cellar_valve_closings"
CELLAR_OPEN = "input_boolean.cellar_valve_open"

EFFECTS = {"counter.pump_restarts": "pump restarted", "counter.neighbour_called": "neighbour called"}
"""The effects of answers, by the counter that counts them."""
