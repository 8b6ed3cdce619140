"""What a site on trial takes the gateway's word for."""

from pathlib import Path

from process_cosmos_gateway.contract.destinations import Drop, Priority, Status, Waiting
from process_cosmos_testbed.faults.site import Site


def status(**drops: int) -> Status:
    counted = tuple(Drop(priority=Priority(name), reason="quota", count=count) for name, count in drops.items())
    total = sum(drops.values())
    return Status(links=(), waiting=Waiting(), rejected=0, dropped=total, broker_connected=True, drops=counted)


def test_drops_are_excused_by_priority_and_only_since_the_fault_began(tmp_path: Path) -> None:
    site = Site(tmp_path, {})
    assert site.dropped() == {}
    site.home_assistant.status = status(change=2, reading=5)
    assert site.dropped() == {Priority.CHANGE: 2, Priority.READING: 5}
    site.begin("1 F1")
    assert site.dropped() == {Priority.CHANGE: 0, Priority.READING: 0}
    site.home_assistant.status = status(change=3, reading=5)
    assert site.dropped() == {Priority.CHANGE: 1, Priority.READING: 0}


def test_nothing_excuses_a_lost_urgent_event(tmp_path: Path) -> None:
    site = Site(tmp_path, {})
    site.home_assistant.status = status(urgent=1)
    assert not any(site.dropped().values())
