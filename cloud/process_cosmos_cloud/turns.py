"""Schedules work on one thread round-robin between sites, so that no site waits for all work of another."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any

type _Job = tuple[Callable[[], Any], asyncio.Future[Any]]


class RoundRobin:
    """Runs one job at a time on a thread, taking the next job from each queue in turn."""

    def __init__(self, thread: Executor) -> None:
        """Run all jobs on ``thread``, an executor with one worker."""
        self._thread = thread
        self._waiting: OrderedDict[str, deque[_Job]] = OrderedDict()
        self._is_busy = False

    async def run[T](self, queue: str, work: Callable[[], T]) -> T:
        """Run ``work`` when it is the turn of ``queue``; return its result or raise its exception."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(queue, deque()).append((work, future))
        self._begin_next()
        try:
            return await future
        finally:
            del future  # breaks the cycle with the traceback of its error, which would keep the batch in memory

    def _begin_next(self) -> None:
        while self._waiting and not self._is_busy:
            queue, jobs = self._waiting.popitem(last=False)
            work, future = jobs.popleft()
            if jobs:
                self._waiting[queue] = jobs  # behind all other waiting queues
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
