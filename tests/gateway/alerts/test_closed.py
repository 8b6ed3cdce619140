"""What is closed stays closed, whatever a Home Assistant out of a backup says of it."""

from process_cosmos_gateway.contract.alerts import AlertState, TransitionKind

from .parts import Gateway, key, request


async def test_what_is_closed_stays_closed(site: Gateway) -> None:
    await site.records_change(TransitionKind.OPENED, [])
    await site.records_change(TransitionKind.RESOLVED, state=AlertState.RESOLVED)
    await site.records_change(TransitionKind.UPDATED, [request(key(revision=2))], revision=2)
    assert await site.requested() == []
    assert await site.types() == ["opened", "resolved"]
    _, [summary] = await site.alerts.cursor_and_summaries()
    assert (summary.state, summary.message) == (AlertState.RESOLVED, "")


async def test_destinations_hear_once_that_it_is_over_and_again_if_it_ended_otherwise(site: Gateway) -> None:
    await site.records_change(TransitionKind.OPENED, [])
    for _ in range(2):  # the second time out of a backup of Home Assistant, in which it was alive
        await site.records_change(TransitionKind.RESOLVED, state=AlertState.RESOLVED)
    assert await site.types() == ["opened", "resolved"]
    await site.records_change(TransitionKind.ANSWERED, state=AlertState.ANSWERED, by="Eve", answer="keep_off")
    await site.records_change(TransitionKind.OUTCOME, state=AlertState.ANSWERED, by="Eve", answer="keep_off")
    await site.records_change(TransitionKind.RECONCILED, state=AlertState.RESOLVED)
    assert await site.types() == ["opened", "resolved", "answered", "outcome", "reconciled"]
