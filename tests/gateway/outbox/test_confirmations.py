"""Confirmations in any order: exactly the unconfirmed events stay pending."""

from itertools import permutations

from process_cosmos_gateway.contract.destinations import Waiting
from process_cosmos_gateway.outbox import Delivered, Outbox
from process_cosmos_gateway.store import Store

from .parts import ALL, accept, drain, event, names


async def test_unconfirmed_events_stay_pending_whatever_the_order_of_confirmations(outbox: Outbox) -> None:
    await outbox.register("webhook", ALL)
    for confirmed in (order for number in range(1, 5) for order in permutations(range(5), number)):
        await accept(outbox, *(event(str(number), key=f"key {number}") for number in range(5)))
        deliveries = await outbox.deliveries("webhook", 10)
        await outbox.settle("webhook", [(deliveries[number], Delivered()) for number in confirmed])
        remaining = [str(number) for number in range(5) if number not in confirmed]
        assert (confirmed, names(await outbox.deliveries("webhook", 10))) == (confirmed, remaining)
        assert (await outbox.depths()).waiting == Waiting(urgent=len(remaining))
        assert await drain(outbox, "webhook") == remaining


async def test_withdrawing_an_event_in_flight_does_not_settle_an_unsent_one(store: Store, outbox: Outbox) -> None:
    await outbox.register("webhook", ALL)
    request = event("notification_requested", key="a", only="webhook")
    await accept(outbox, request, event("not sent", key="a"), event("sent", key="b"))
    first, _, last = await outbox.deliveries("webhook", 10)
    await store.write(lambda transaction: outbox.withdraw(transaction, request.id, "webhook"))
    await outbox.settle("webhook", [(first, Delivered()), (last, Delivered())])
    assert await drain(outbox, "webhook") == ["not sent"]
    assert (await outbox.depths()).waiting == Waiting()
