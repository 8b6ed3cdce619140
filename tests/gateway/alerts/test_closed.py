"""Closed alerts stay closed, whatever a restored Home Assistant sends about them."""

from process_cosmos_gateway.contract.alerts import AlertState, TransitionKind

from .parts import Gateway, key, request


async def test_a_closed_alert_stays_closed(site: Gateway) -> None:
    await site.records_change(TransitionKind.OPENED, [])
    await site.records_change(TransitionKind.RESOLVED, state=AlertState.RESOLVED)
    await site.records_change(TransitionKind.UPDATED, [request(key(revision=2))], revision=2)
    assert await site.requested() == []
    assert await site.types() == ["opened", "resolved"]
    _, [summary] = await site.alerts.cursor_and_summaries()
    assert (summary.state, summary.message) == (AlertState.RESOLVED, "")


async def test_a_repeated_closing_is_not_sent_again_unless_it_differs(site: Gateway) -> None:
    await site.records_change(TransitionKind.OPENED, [])
    for _ in range(2):  # the second time from a restored Home Assistant, in whose backup the alert was alive
        await site.records_change(TransitionKind.RESOLVED, state=AlertState.RESOLVED)
    assert await site.types() == ["opened", "resolved"]
    await site.records_change(TransitionKind.ANSWERED, state=AlertState.ANSWERED, by="Eve", answer="keep_off")
    await site.records_change(TransitionKind.OUTCOME, state=AlertState.ANSWERED, by="Eve", answer="keep_off")
    await site.records_change(TransitionKind.RECONCILED, state=AlertState.RESOLVED)
    assert await site.types() == ["opened", "resolved", "answered", "outcome", "reconciled"]
