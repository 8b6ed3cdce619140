"""What apps offer Home Assistant, and how the Supervisor tells it: by the socket it made for that."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiohttp import ClientError, ClientSession, UnixConnector


@dataclass(slots=True)
class Message:
    """What an app offers Home Assistant for a service."""

    app: str
    service: str
    config: dict[str, Any]
    uuid: str = field(default_factory=lambda: uuid4().hex)

    def document(self) -> dict[str, Any]:
        return {"addon": self.app, "service": self.service, "uuid": self.uuid, "config": self.config}


async def tell(core: Path, method: str, message: Message) -> None:
    """Tell a Home Assistant that runs of a message, or that it is gone, without its content."""
    push = {"addon": message.app, "service": message.service, "uuid": message.uuid}
    path = f"http://localhost/api/hassio_push/discovery/{message.uuid}"
    try:
        async with ClientSession(connector=UnixConnector(path=str(core))) as http:
            async with http.get("http://localhost/api/core/state") as reply:
                running = (await reply.json())["state"] == "RUNNING"
            if running:
                async with http.request(method, path, json=push):
                    pass
    except ClientError, OSError:
        pass  # it is not up: it will ask when it is
