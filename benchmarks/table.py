"""All benchmarks, in the order they run."""

from . import accept, accept_ws, alarm, disk, drain, drain_1m, edge, edge_1000_devices, growth, idle, start_1m
from .bench import Benchmark

BENCHMARKS: tuple[Benchmark, ...] = (
    accept.BENCHMARK,
    accept_ws.BENCHMARK,
    alarm.BENCHMARK,
    edge.BENCHMARK,
    edge.LEAK_GUARD_BENCHMARK,
    edge_1000_devices.BENCHMARK,
    drain.BENCHMARK,
    drain_1m.BENCHMARK,
    start_1m.BENCHMARK,
    idle.BENCHMARK,
    disk.BENCHMARK,
    growth.BENCHMARK,
)
