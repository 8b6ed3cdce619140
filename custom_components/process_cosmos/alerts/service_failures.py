"""Calls into other integrations, with every exception converted into a reason."""

import asyncio
from collections.abc import Awaitable

from homeassistant.exceptions import HomeAssistantError


async def async_reason_of_failure(work: Awaitable[object], seconds: float | None = None) -> str | None:
    """Await ``work`` for at most ``seconds``; return None if it succeeded, otherwise the reason of the failure.

    The reason is a translation key or exception name, never the other integration's message: that may contain an
    address with a password, and the reason is logged and sent to phones.
    """
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return "no reply in time"
    except HomeAssistantError as error:
        return error.translation_key or type(error).__name__
    except Exception as error:  # noqa: BLE001 - code of any integration runs here
        return type(error).__name__
    return None
