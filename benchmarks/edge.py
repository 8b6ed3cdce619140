"""``edge``, ``edge_leak_guard``: from a device's message to a command, beside Home Assistant's own MQTT."""

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import quantiles

from process_cosmos_testbed.virtual_devices.device import Json

from .bench import Bench, Benchmark
from .edge_site import OFTEN, OURS, PEER, SELDOM, Workload, edge_site
from .figures import Goal, Outcome, at_most

_BLUEPRINT = "process_cosmos/leak_guard.yaml"


def _plain(sensor: str, switch: str) -> Json:
    """Return an automation in which the switch follows the sensor."""
    return {
        "triggers": [{"trigger": "state", "entity_id": sensor, "to": ["on", "off"]}],
        "conditions": [],
        "actions": [{"action": "switch.turn_{{ trigger.to_state.state }}", "target": {"entity_id": switch}}],
        "mode": "queued",
        "max": 1000,
    }


def _leak_guard(sensor: str, switch: str) -> Json:
    """Return *Leak guard* for a sensor that gets wet, and a switch that is turned off."""
    return {"use_blueprint": {"path": _BLUEPRINT, "input": {"sensors": [sensor], "valve": switch}}}


PLAIN = Workload(commanded=frozenset({True, False}), automation=_plain)
LEAK_GUARD = Workload(commanded=frozenset({True}), automation=_leak_guard)


async def run(bench: Bench, workload: Workload) -> Outcome:
    """Measure without load, under load, and under load with *steady reaction times*: 1,000 commands each."""
    number, blocks = bench.size(1_000, 40), bench.size(2, 1)
    async with edge_site(bench.folder("edge"), workload) as edge:
        quiet = await edge.quiet(number)
        waits: dict[str, list[float]] = {OURS: [], PEER: []}
        cpu: dict[str, list[float]] = {OURS: [], PEER: []}
        for _ in range(blocks):
            for base in (OURS, PEER):
                taken, used = await edge.loaded(base, number // blocks, SELDOM)
                waits[base] += taken
                cpu[base].append(used)
        await edge.steady()
        steady = [wait for _ in range(blocks) for wait in (await edge.loaded(OURS, number // blocks, OFTEN))[0]]
        collections = await edge.full_collections()
    figures = {
        base: {
            **_figures("quiet", quiet[base]),
            **_figures("loaded", waits[base]),
            "cpu_s_per_1000": sum(cpu[base]) / blocks,
        }
        for base in (OURS, PEER)
    }
    return Outcome(
        figures={**figures[OURS], **_figures("steady", steady), **collections}, peers={"mqtt": figures[PEER]}
    )


def _figures(name: str, waits: Sequence[float]) -> Mapping[str, float]:
    return {f"{name}_p50_ms": 1000 * quantiles(waits, n=2)[0], f"{name}_p99_ms": 1000 * quantiles(waits, n=100)[98]}


def times_peer(figure: str, most: float) -> Goal:
    """Return the goal that ``figure`` is at most this share of the peer's."""

    def met(outcome: Outcome) -> bool:
        return outcome.figures[figure] <= most * outcome.peers["mqtt"][figure]

    return Goal(figure, f"≤ {most:g} times mqtt", met)


_GOALS = (
    times_peer("quiet_p50_ms", 1.2),
    times_peer("quiet_p99_ms", 1.0),
    times_peer("loaded_p99_ms", 0.3),
    times_peer("cpu_s_per_1000", 1.0),
    at_most("steady_p99_ms", 50),
)

BENCHMARK = Benchmark(name="edge", run=partial(run, workload=PLAIN), goals=_GOALS)
LEAK_GUARD_BENCHMARK = Benchmark(name="edge_leak_guard", run=partial(run, workload=LEAK_GUARD), goals=_GOALS)
