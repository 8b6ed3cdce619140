"""Local programs: ``URL TOKEN NUMBER IN_FLIGHT`` publishes over 16 connections, prints how many a second are taken."""

import asyncio
import sys
import time
from collections.abc import Iterator

import orjson
from aiohttp import ClientSession, ClientWebSocketResponse

from process_cosmos_testbed.processes import any_certificate

from .accept_ws import CONNECTIONS
from .load import events


async def main(url: str, token: str, number: int, in_flight: int) -> None:
    """Publish everything; a refusal ends it."""
    waiting = iter(
        [
            orjson.dumps(
                {
                    "type": "publish",
                    "id": str(count),
                    "event": event.id,
                    "event_type": "bench.event.v1",
                    "subject": event.subject,
                    "time": event.time,
                    "data": event.data,
                }
            )
            for count, event in enumerate(events(number))
        ]
    )
    async with ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
        sockets = [await http.ws_connect(url, ssl=any_certificate(), compress=0) for _ in range(CONNECTIONS)]
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for socket in sockets:
                tasks.create_task(_publish(socket, waiting, in_flight))
        print(number / (time.perf_counter() - begun))


async def _publish(socket: ClientWebSocketResponse, waiting: Iterator[bytes], in_flight: int) -> None:
    """Keep ``in_flight`` messages without a result until nothing is left."""
    unanswered = 0
    while True:
        while unanswered < in_flight and (frame := next(waiting, None)):
            await socket.send_bytes(frame)
            unanswered += 1
        if not unanswered:
            return
        results = orjson.loads((await socket.receive()).data)
        if refused := [result for result in results if result["problem"]]:
            sys.exit(f"refused: {refused[0]}")
        unanswered -= len(results)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
