"""Clock of the alerts, which ignores jumps of the wall clock."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from custom_components.process_cosmos.alerts.steady_clock import SteadyClock

START = datetime(2026, 11, 22, 20, tzinfo=UTC)


@dataclass
class Machine:
    wall: datetime = START
    monotonic: float = 1000.0

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.monotonic)

    def tick(self, seconds: float, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds if wall is None else wall)


def test_the_clock_follows_small_corrections_of_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.tick(10)
    assert clock.now() == START + timedelta(seconds=10)
    for _ in range(10):
        machine.tick(10, wall=40)
        assert clock.now() == machine.wall


def test_a_jump_of_the_wall_clock_is_ignored_until_it_is_adopted() -> None:
    for jump in (-3600.0, 3600.0, -10 * 365 * 86400.0, 10 * 365 * 86400.0):
        machine = Machine()
        clock = machine.clock()
        machine.tick(5, wall=jump)
        assert clock.now() == START + timedelta(seconds=5)
        machine.tick(5)
        assert clock.now() == START + timedelta(seconds=10)
        clock.adopt_wall_time()
        assert clock.now() == machine.wall


def test_the_clock_continues_from_a_recorded_time_ahead_of_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.advance_to(START - timedelta(days=1))
    assert clock.now() == START
    clock.advance_to(START + timedelta(days=1))
    machine.tick(5)
    assert clock.now() == START + timedelta(days=1, seconds=5)
