"""Running what other integrations do: whatever they raise ends here as a reason."""

import asyncio
from collections.abc import Awaitable

from homeassistant.exceptions import HomeAssistantError


async def async_reason_of_failure(work: Awaitable[object], seconds: float | None = None) -> str | None:
    """Await ``work``, at most ``seconds``; return None when it succeeded, else why not.

    The reason is a word, never the other integration's sentence: that may hold an address with a password in it, and
    the reason goes to the log and to phones.
    """
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return "no reply in time"
    except HomeAssistantError as error:
        return error.translation_key or type(error).__name__
    except Exception as error:  # noqa: BLE001 - any integration's code runs here and may raise anything
        return type(error).__name__
    return None
