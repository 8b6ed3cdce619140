"""The alerts' clock does not jump while somebody waits to be told."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from custom_components.process_cosmos.alerts.steady_clock import SteadyClock

BEGIN = datetime(2026, 11, 22, 20, tzinfo=UTC)


@dataclass
class Machine:
    wall: datetime = BEGIN
    monotonic: float = 1000.0

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.monotonic)

    def tick(self, seconds: float, wall: float | None = None) -> None:
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds if wall is None else wall)


def test_it_shows_the_wall_time_and_follows_small_corrections() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.tick(10)
    assert clock.now() == BEGIN + timedelta(seconds=10)
    for _ in range(10):
        machine.tick(10, wall=40)
        assert clock.now() == machine.wall


def test_a_jump_of_the_wall_clock_moves_nothing_until_it_is_trusted() -> None:
    for jump in (-3600.0, 3600.0, -10 * 365 * 86400.0, 10 * 365 * 86400.0):
        machine = Machine()
        clock = machine.clock()
        machine.tick(5, wall=jump)
        assert clock.now() == BEGIN + timedelta(seconds=5)
        machine.tick(5)
        assert clock.now() == BEGIN + timedelta(seconds=10)
        clock.trust_the_wall()
        assert clock.now() == machine.wall


def test_a_wall_clock_older_than_what_is_on_disk_is_not_believed() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.not_before(BEGIN - timedelta(days=1))
    assert clock.now() == BEGIN
    clock.not_before(BEGIN + timedelta(days=1))
    machine.tick(5)
    assert clock.now() == BEGIN + timedelta(days=1, seconds=5)
