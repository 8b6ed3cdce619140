"""All benchmarks, in the order they run."""

from . import accept
from .bench import Benchmark

BENCHMARKS: tuple[Benchmark, ...] = (accept.BENCHMARK,)
