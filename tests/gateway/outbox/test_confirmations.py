"""Whatever is confirmed, in whatever order: exactly the rest goes on waiting."""

from itertools import permutations

from process_cosmos_gateway.contract.destinations import Waiting
from process_cosmos_gateway.outbox import Delivered, Outbox
from process_cosmos_gateway.store import Store

from .parts import ALL, accept, drain, event, names


async def test_what_was_not_confirmed_still_waits_in_whatever_order_the_rest_was(outbox: Outbox) -> None:
    await outbox.register("webhook", ALL)
    for confirmed in (order for number in range(1, 5) for order in permutations(range(5), number)):
        await accept(outbox, *(event(str(number), key=f"key {number}") for number in range(5)))
        deliveries = await outbox.deliveries("webhook", 10)
        await outbox.settle("webhook", [(deliveries[number], Delivered()) for number in confirmed])
        rest = [str(number) for number in range(5) if number not in confirmed]
        assert (confirmed, names(await outbox.deliveries("webhook", 10))) == (confirmed, rest)
        assert (await outbox.depths()).waiting == Waiting(urgent=len(rest))
        assert await drain(outbox, "webhook") == rest


async def test_an_event_withdrawn_on_its_way_is_not_counted_for_one_that_was_not_sent(
    store: Store, outbox: Outbox
) -> None:
    await outbox.register("webhook", ALL)
    asked = event("notification_requested", key="a", only="webhook")
    await accept(outbox, asked, event("not sent", key="a"), event("sent", key="b"))
    first, _, last = await outbox.deliveries("webhook", 10)
    await store.write(lambda transaction: outbox.withdraw(transaction, asked.id, "webhook"))
    await outbox.settle("webhook", [(first, Delivered()), (last, Delivered())])
    assert await drain(outbox, "webhook") == ["not sent"]
    assert (await outbox.depths()).waiting == Waiting()
