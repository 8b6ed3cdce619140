"""Waiting for what has no event: threads, other processes, lists of fakes."""

import asyncio
from collections.abc import Callable

WITHIN = 30.0
"""Seconds that suffice on a busy machine."""


async def until(condition: Callable[[], object], seconds: float = WITHIN) -> None:
    """Wait until ``condition`` is true; raise ``TimeoutError`` after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for does not know of tests
            await asyncio.sleep(0.005)
