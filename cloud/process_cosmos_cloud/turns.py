"""Whose work is done next: one piece of each site after another's, so that no site waits behind all of another's."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

type _Piece = tuple[Callable[[], Any], asyncio.Future[Any]]


class Turns:
    """Does one piece of work at a time on a thread; those who wait get theirs in turn."""

    def __init__(self, thread: Executor) -> None:
        """Do all work on ``thread``, which has one worker."""
        self._thread = thread
        self._waiting: OrderedDict[str, deque[_Piece]] = OrderedDict()
        self._is_busy = False

    async def run[T](self, whose: str, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, or raise what it raises, when it has had its turn."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(whose, deque()).append((work, future))
        self._begin_next()
        try:
            return await future
        finally:
            del future  # its error's traceback leads back here, and to the batch: a cycle would keep both

    def _begin_next(self) -> None:
        while self._waiting and not self._is_busy:
            whose, pieces = self._waiting.popitem(last=False)
            work, future = pieces.popleft()
            if pieces:
                self._waiting[whose] = pieces  # behind all others who wait
            if future.cancelled():
                continue
            self._is_busy = True
            running = asyncio.get_running_loop().run_in_executor(self._thread, work)
            running.add_done_callback(partial(self._end, future))

    def _end(self, future: asyncio.Future[Any], running: asyncio.Future[Any]) -> None:
        self._is_busy = False
        error = running.exception()
        if future.cancelled():
            pass
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(running.result())
        self._begin_next()
