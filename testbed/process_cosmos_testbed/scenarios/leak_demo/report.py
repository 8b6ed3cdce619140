"""The report at the end of a run, in words a newcomer understands."""

from collections.abc import Iterator

from .result import Latency, Result

MOST_COMPLAINTS = 20


def table(result: Result) -> str:
    """Return the report of a run as text."""
    return "\n".join(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    yield ""
    yield f"What ran, on Home Assistant {result.home_assistant}"
    for phase in result.phases:
        figures = ", ".join(f"{name} {value}" for name, value in phase.figures.items())
        yield f"  {phase.number}  {phase.name:<66} {phase.seconds:6.1f} s  {figures}"
    yield ""
    yield "What really happened (counted by the observer, independently of what the gateway reports)"
    judgement = result.judgement
    for number, sentence in (
        (judgement.leaks, "leaks: a sensor turned wet"),
        (judgement.closings, "commands that closed a valve"),
        (judgement.closed_again, "of them a second one of the same moment, which changed nothing"),
        (judgement.alerts, "alerts opened, one a leak and the questions to people"),
        (judgement.notifications, "notifications on the two phones"),
        (judgement.answers_run, "effects of answers given by phone or at the cloud endpoint"),
        (judgement.device_events, "messages of devices that the broker acknowledged"),
        (judgement.marked_repeats, "of them accepted again after the kill, marked as possible repeats"),
    ):
        yield f"  {number!s:>7}  {sentence}"
    yield ""
    yield "How fast (from the sensor's message to the command at its valve)"
    for latency, sentence in (
        (Latency.of(result.edge), "with the cloud"),
        (Latency.of(result.edge_offline), "with the cloud cut off"),
    ):
        yield f"  half within {latency.p50} ms, 99 of 100 within {latency.p99} ms, all {latency.max} ms: {sentence}"
    yield f"  {result.drain_seconds} s to bring everything that waited to the cloud once the link was back"
    yield ""
    yield f"  {'Promise or fault':<56} {'wanted':>8} {'seen':>8}"
    for check in result.checks():
        yield f"  {check.name:<56} {check.wanted:>8} {check.seen:>8}  {'ok' if check.held else 'NOT HELD'}"
    for complaint in result.complaints[:MOST_COMPLAINTS]:
        yield f"  ! {complaint}"
    if len(result.complaints) > MOST_COMPLAINTS:
        yield f"  ! … and {len(result.complaints) - MOST_COMPLAINTS} more"
    yield ""
