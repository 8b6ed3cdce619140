"""The judge notices every kind of failure: a check that cannot fail proves nothing."""

from dataclasses import replace

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_testbed.scenarios.leak_demo.evidence import (
    ActionRun,
    AlertOpened,
    DeviceEvent,
    EventArrival,
    Expected,
    Leak,
    Notified,
    Record,
    ValveCommand,
)
from process_cosmos_testbed.scenarios.leak_demo.judge import DemoJudgement, judge

PHONES = ("ann", "ben")
DESTINATIONS = ("cloud", "webhook")
SENSOR, VALVE = "sensor", "valve"
WET = (SENSOR, "wet")


def notified_of(alert: str) -> list[Record]:
    """Return what a kept promise about one alert looks like to the judge."""
    return [
        AlertOpened(alert=alert),
        *(Notified(phone=phone, alert=alert, key=f"{alert}/1") for phone in PHONES),
        *(arrived(to, alert, kind) for kind in ("opened", "resolved") for to in DESTINATIONS),
    ]


def arrived(destination: str, alert: str, kind: str) -> EventArrival:
    event = f"{alert}-{('opened', 'updated', 'resolved', 'answered').index(kind)}"
    return EventArrival(destination=destination, id=event, type=f"process_cosmos.alert.{kind}.v1", subject=alert)


def reported(destination: str, number: int, value: Value) -> EventArrival:
    return EventArrival(
        destination=destination,
        id=f"device-{number}",
        type="process_cosmos.device.changed.v1",
        subject=SENSOR,
        device=WET,
        value=value,
    )


def leak(alert: str) -> list[Record]:
    return [Leak(sensor=SENSOR), ValveCommand(valve=VALVE, closes=True), *notified_of(alert)]


def verdict(
    *records: Record,
    effects: dict[str, int] | None = None,
    other_alerts: int = 0,
    calls: dict[str, int] | None = None,
) -> DemoJudgement:
    expected = Expected(
        phones=PHONES,
        destinations=DESTINATIONS,
        guards={SENSOR: VALVE},
        effects=effects or {},
        other_alerts=other_alerts,
        calls=calls or {},
    )
    return judge(records, expected)


def figures(result: DemoJudgement) -> tuple[int, int, int]:
    return result.lost, result.duplicates, result.order_violations


def test_kept_promises_are_judged_clean() -> None:
    result = verdict(*leak("E1"), *leak("E2"))
    assert figures(result) == (0, 0, 0)
    assert (result.accepted, result.arrived, result.leaks, result.closings, result.notifications) == (2, 2, 2, 2, 4)
    assert result.complaints == []


def test_a_leak_that_closes_no_valve_is_lost() -> None:
    assert figures(verdict(Leak(sensor=SENSOR), *notified_of("E1"))) == (1, 0, 0)


def test_a_leak_that_closes_the_valve_twice_is_a_duplicate_effect() -> None:
    result = verdict(*leak("E1"), ValveCommand(valve=VALVE, closes=True, at=1.0), *leak("E2"))
    assert figures(result) == (0, 1, 0)


def test_two_commands_of_the_same_moment_are_one_closing_and_a_third_is_not() -> None:
    again = ValveCommand(valve=VALVE, closes=True, at=0.02)
    result = verdict(*leak("E1"), again, *leak("E2"))
    assert (figures(result), result.closed_again) == ((0, 0, 0), 1)
    assert figures(verdict(*leak("E1"), again, again, *leak("E2"))) == (0, 1, 0)


def test_a_valve_closed_without_any_leak_is_a_duplicate_effect() -> None:
    assert figures(verdict(ValveCommand(valve=VALVE, closes=True), *leak("E1"))) == (0, 1, 0)


def test_a_command_that_opens_the_valve_is_no_closing() -> None:
    reopened = ValveCommand(valve=VALVE, closes=False)
    assert figures(verdict(*leak("E1"), reopened, effects={"valve opened": 1})) == (0, 0, 0)
    assert figures(verdict(*leak("E1"), reopened)) == (0, 1, 0)


def test_a_leak_without_an_alert_of_its_own_is_lost() -> None:
    result = verdict(*leak("E1"), Leak(sensor=SENSOR), ValveCommand(valve=VALVE, closes=True))
    assert figures(result) == (1, 0, 0)


def test_an_alert_that_nobody_expected_is_a_duplicate() -> None:
    assert figures(verdict(*leak("E1"), *notified_of("E2"))) == (0, 1, 0)
    assert figures(verdict(*leak("E1"), *notified_of("E2"), other_alerts=1)) == (0, 0, 0)


def test_a_phone_that_never_rings_is_lost() -> None:
    records = [record for record in leak("E1") if not (isinstance(record, Notified) and record.phone == "ben")]
    assert figures(verdict(*records)) == (1, 0, 0)


def test_a_phone_that_rings_twice_with_one_key_is_a_duplicate_effect() -> None:
    again = Notified(phone="ann", alert="E1", key="E1/1", at=1)
    assert figures(verdict(*leak("E1"), again)) == (0, 1, 0)


def test_the_next_round_of_a_ring_is_no_duplicate() -> None:
    next_round = Notified(phone="ann", alert="E1", key="E1/1", at=300)
    assert figures(verdict(*leak("E1"), next_round)) == (0, 0, 0)


def test_a_ring_proves_an_alert_that_the_ledger_did_not_see_opening() -> None:
    records = [record for record in leak("E1") if not isinstance(record, AlertOpened)]
    result = verdict(*records)
    assert (result.accepted, figures(result)) == (1, (0, 0, 0))


def test_the_actions_of_an_answer_run_exactly_once() -> None:
    run = ActionRun(effect="pump")
    assert figures(verdict(run, effects={"pump": 1})) == (0, 0, 0)
    assert figures(verdict(effects={"pump": 1})) == (1, 0, 0)
    assert figures(verdict(run, run, effects={"pump": 1})) == (0, 1, 0)
    assert figures(verdict(run)) == (0, 1, 0)


def test_an_alert_missing_at_one_destination_is_lost_and_not_counted_as_arrived() -> None:
    records = [r for r in leak("E1") if not (isinstance(r, EventArrival) and r.destination == "webhook")]
    result = verdict(*records, *leak("E2"))
    assert figures(result) == (2, 0, 0)  # its opening, its closing
    assert (result.accepted, result.arrived) == (2, 1)


def test_a_transition_that_reached_only_one_destination_is_lost() -> None:
    records = leak("E1")
    records.remove(arrived("webhook", "E1", "resolved"))
    assert figures(verdict(*records)) == (1, 0, 0)


def test_calls_of_one_alert_are_all_counted_at_every_destination() -> None:
    def called(times: int) -> list[Record]:
        return [replace(one, count=times) if isinstance(one, EventArrival) else one for one in leak("E1")]

    assert figures(verdict(*called(20), calls={"E1": 20})) == (0, 0, 0)
    assert figures(verdict(*called(19), calls={"E1": 20})) == (2, 0, 0)
    assert figures(verdict(*called(21), calls={"E1": 20})) == (0, 2, 0)


def test_a_repeat_with_the_same_id_is_absorbed() -> None:
    result = verdict(*leak("E1"), replace(arrived("cloud", "E1", "opened"), fresh=False))
    assert figures(result) == (0, 0, 0)
    assert result.repeats_absorbed == 1


def test_the_same_opening_under_two_ids_is_a_duplicate() -> None:
    other = EventArrival(destination="cloud", id="E1-9", type="process_cosmos.alert.opened.v1", subject="E1")
    records = leak("E1")
    records.insert(4, other)
    assert verdict(*records).duplicates == 1


def test_an_event_the_receiver_took_twice_as_new_is_a_duplicate() -> None:
    again = EventArrival(
        destination="cloud",
        id="E1-0",
        type="process_cosmos.alert.opened.v1",
        subject="E1",
        fresh=True,
    )
    assert figures(verdict(*leak("E1"), again)) == (0, 1, 0)


def test_a_closing_before_its_opening_is_out_of_order() -> None:
    records = [r for r in leak("E1") if not (isinstance(r, EventArrival) and r.destination == "cloud")]
    result = verdict(*records, arrived("cloud", "E1", "resolved"), arrived("cloud", "E1", "opened"))
    assert (result.lost, result.duplicates) == (0, 0)
    assert result.order_violations > 0


def test_device_events_arrive_once_and_in_order() -> None:
    accepted = [DeviceEvent(device=WET, value=value) for value in (1, 2, 3)]

    def arriving(*values: int) -> list[Record]:
        return [reported(to, number, number) for to in DESTINATIONS for number in values]

    clean = verdict(*accepted, *arriving(1, 2, 3))
    assert figures(clean) == (0, 0, 0)
    assert (clean.accepted, clean.arrived) == (3, 3)
    lost = verdict(*accepted, *arriving(1, 3))
    assert figures(lost) == (1, 0, 0)
    assert [each for each in lost.complaints if "missing at" in each] == [
        f"lost: 1 missing at {to}: change sensor/wet #2" for to in DESTINATIONS
    ]
    assert verdict(*accepted, *arriving(1, 3)).arrived == 2
    assert verdict(*accepted, *arriving(1, 3, 2)).order_violations > 0


def test_a_device_event_that_says_it_may_be_a_repeat_counts_apart_and_does_not_disturb_the_order() -> None:
    accepted = [DeviceEvent(device=WET, value=value) for value in (1, 2)]
    again = replace(reported("cloud", 9, 1), marked=True)
    arrived = [reported(to, number, number) for to in DESTINATIONS for number in (1, 2)]
    result = verdict(*accepted, *arrived, again)
    assert figures(result) == (0, 0, 0)
    assert result.marked_repeats == 1
    assert figures(verdict(*accepted, *arrived[1:], again))[0] == 0, "marked, it may be the only one that arrived"


def test_more_marked_repeats_than_one_commit_are_duplicates() -> None:
    again = replace(reported("cloud", 9, 1), marked=True)
    repeats = [replace(again, id=f"again-{number}") for number in range(501)]
    arrived = [reported(to, 1, 1) for to in DESTINATIONS]
    assert figures(verdict(DeviceEvent(device=WET, value=1), *arrived, *repeats)) == (0, 1, 0)


def test_a_device_event_under_two_ids_is_a_duplicate() -> None:
    accepted = DeviceEvent(device=WET, value=1)
    result = verdict(accepted, *(reported(to, number, 1) for to in DESTINATIONS for number in (1, 2)))
    assert figures(result) == (0, 2, 0)
