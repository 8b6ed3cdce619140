"""The testbed's push service counts whatever people are told, and nothing else."""

import aiohttp

from process_cosmos_testbed.home_assistant.push_service import CLEAR, PushService

BUTTON = {"title": "Turn off", "action": "PROCESS_COSMOS/answer/3/01JDG0000000000000000000A1/0/x"}


async def test_notifications_count_with_buttons_or_without_and_clearing_one_does_not() -> None:
    service = PushService()
    async with service.listening(), aiohttp.ClientSession() as http:
        for message, data in (("Wet", {"tag": "a", "actions": [BUTTON]}), ("Wet", {}), (CLEAR, {"tag": "a"})):
            async with http.post(service.url("tablet"), json={"message": message, "data": data}) as reply:
                assert reply.status == 201
    assert [list(push.buttons) for push in service.notifications_of("tablet")] == [["Turn off"], []]
    assert service.notifications_of("phone") == []
