"""A connection in a thread of its own: all jobs that wait share one transaction."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import apsw

from process_cosmos_gateway.errors import StoreError

from .errors import StoreDamagedError
from .health import is_damage
from .transaction import Transaction

_DISK_ERRORS = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)
"""After one of these nobody knows what the transaction still holds: it is over for all who share it."""


@dataclass(frozen=True, slots=True)
class Job:
    """One change or question, and where its outcome goes."""

    work: Callable[[Transaction], Any]
    outcome: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class Done:
    """The job's value, and what is to be called now that it is on disk."""

    value: Any
    callbacks: Sequence[Callable[[], None]]


@dataclass(frozen=True, slots=True)
class Ends:
    """Called in the lane's thread; ``failed_fn`` says whether the same may be tried again at once.

    ``problem_fn``: why a commit, although it succeeded, must not be acknowledged; None: it may.
    """

    failed_fn: Callable[[Exception], bool]
    committed_fn: Callable[[], None]
    problem_fn: Callable[[], str | None] = lambda: None


class DatabaseThread:
    """Runs jobs in order; what was asked for before ``close`` is still done."""

    def __init__(self, name: str, connect_fn: Callable[[], apsw.Connection], begin: str, ends: Ends) -> None:
        """Connect in the thread ``name`` when the first job comes, and anew after a disk error."""
        self._connect_fn = connect_fn
        self._ends = ends
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, name)
        self._connection: apsw.Connection | None = None
        self._waiting: list[Job] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._problem: str | None = None

    async def do(self, work: Callable[[Transaction], Any]) -> Any:  # noqa: ANN401 - what ``work`` returns
        """Return what ``work`` returns, once its transaction is committed; raise what it raised, or ``StoreError``.

        A caller that is cancelled does not undo it.
        """
        if self._closed:
            raise StoreError("the store is closed")
        job = Job(work, self._loop.create_future())
        self._waiting.append(job)
        if self._idle.is_set():
            self._idle.clear()
            self._loop.call_soon(self._start_batch)
        return await job.outcome

    async def borrow(self, work: Callable[[apsw.Connection], None]) -> bool:
        """Run ``work`` on the open connection, outside of any transaction; return whether there is a connection."""

        def run() -> bool:
            if self._connection is None:
                return False
            work(self._connection)
            return True

        return await self._loop.run_in_executor(self._thread, run)

    async def close(self) -> None:
        """Do what waits, then let go of the database."""
        self._closed = True
        await self._idle.wait()
        await self._loop.run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown()

    def _start_batch(self) -> None:
        batch, self._waiting = self._waiting, []
        if batch:
            self._thread.submit(self._do_batch, batch)
        else:
            self._idle.set()

    def _do_batch(self, batch: Sequence[Job]) -> None:
        self._loop.call_soon_threadsafe(self._finish_batch, batch, self._transact(batch))

    def _finish_batch(self, batch: Sequence[Job], outcomes: Sequence[Done | Exception]) -> None:
        try:
            _hand_out(batch, outcomes)
        finally:
            # Those who just got their outcome run first: what they ask for next shares the next fsync.
            self._loop.call_soon(self._start_batch)

    def _transact(self, batch: Sequence[Job]) -> Sequence[Done | Exception]:
        outcomes = self._try_transaction(batch) if self._problem is None else ()
        self._problem = self._problem or self._ends.problem_fn()
        return outcomes if self._problem is None else [StoreError(self._problem) for _ in batch]

    def _try_transaction(self, batch: Sequence[Job]) -> Sequence[Done | Exception]:
        try:
            return self._transact_once(batch)
        except (apsw.Error, OSError) as error:
            if not self._ends.failed_fn(error):
                return [_store_error(error) for _ in batch]
        try:
            return self._transact_once(batch)
        except (apsw.Error, OSError) as error:
            self._ends.failed_fn(error)
            return [_store_error(error) for _ in batch]

    def _transact_once(self, batch: Sequence[Job]) -> Sequence[Done | Exception]:
        try:
            connection = self._connection = self._connection or self._connect_fn()
            connection.execute(self._begin)
            outcomes = [self._attempt(connection, job) for job in batch]
            connection.execute("COMMIT")
            self._ends.committed_fn()
        except apsw.Error, OSError:
            # After a failed fsync the kernel may have dropped the pages: this handle must not try again.
            self._disconnect()
            raise
        return outcomes

    @staticmethod
    def _attempt(connection: apsw.Connection, job: Job) -> Done | Exception:
        transaction = Transaction(connection)
        connection.execute("SAVEPOINT job")
        try:
            value = job.work(transaction)
        except _DISK_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's, and undoes his job alone
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
            return error
        connection.execute("RELEASE job")
        return Done(value, transaction.callbacks)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(True)  # by force: an error of a dying handle says nothing new


def _store_error(error: Exception) -> StoreError:
    kind = StoreDamagedError if is_damage(error) else StoreError
    failure = kind(f"the store failed: {error}")
    failure.__cause__ = error
    return failure


def _hand_out(batch: Sequence[Job], outcomes: Sequence[Done | Exception]) -> None:
    done = [outcome for outcome in outcomes if isinstance(outcome, Done)]
    for job, outcome in zip(batch, outcomes, strict=True):
        if job.outcome.cancelled():
            continue
        if isinstance(outcome, Done):
            job.outcome.set_result(outcome.value)
        else:
            job.outcome.set_exception(outcome)
    # All callbacks run before anybody who waited goes on.
    for callback in chain.from_iterable(outcome.callbacks for outcome in done):
        callback()
