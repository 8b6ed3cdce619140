"""Runs database jobs in a thread with its own connection; all waiting jobs share one transaction (group commit)."""

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
"""Errors after which the state of the transaction is unknown: all jobs that share it fail."""


@dataclass(frozen=True, slots=True)
class Job:
    """A function to run in a transaction, and the future that receives its result."""

    work: Callable[[Transaction], Any]
    outcome: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class JobResult:
    """The return value of a job, and the callbacks to run after the commit."""

    value: Any
    callbacks: Sequence[Callable[[], None]]


@dataclass(frozen=True, slots=True)
class TransactionHooks:
    """Functions called in the database thread after each transaction.

    ``failed_fn`` returns whether to retry the transaction at once. ``problem_fn`` returns why a commit that succeeded
    must not be acknowledged, or None.
    """

    failed_fn: Callable[[Exception], bool]
    committed_fn: Callable[[], None]
    problem_fn: Callable[[], str | None] = lambda: None


class DatabaseThread:
    """Runs jobs in the order of their submission; those submitted before ``close`` still run."""

    def __init__(
        self, name: str, connect_fn: Callable[[], apsw.Connection], begin: str, hooks: TransactionHooks
    ) -> None:
        """Connect in the thread ``name`` for the first job, and again after a disk error; ``begin``: SQL."""
        self._connect_fn = connect_fn
        self._hooks = hooks
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
        """Run ``work``; return its result once the transaction is committed, raise its exception or ``StoreError``.

        Cancelling the caller does not undo the job.
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
        """Run the waiting jobs, then close the connection."""
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

    def _finish_batch(self, batch: Sequence[Job], outcomes: Sequence[JobResult | Exception]) -> None:
        try:
            _resolve_jobs(batch, outcomes)
        finally:
            # Callers that just got their result run first, so that their next jobs share the next fsync.
            self._loop.call_soon(self._start_batch)

    def _transact(self, batch: Sequence[Job]) -> Sequence[JobResult | Exception]:
        outcomes = self._try_transaction(batch) if self._problem is None else ()
        # Asked after the commit: one that went into a deleted file must not be acknowledged.
        self._problem = self._problem or self._hooks.problem_fn()
        return outcomes if self._problem is None else [StoreError(self._problem) for _ in batch]

    def _try_transaction(self, batch: Sequence[Job]) -> Sequence[JobResult | Exception]:
        try:
            return self._transact_once(batch)
        except (apsw.Error, OSError) as error:
            if not self._hooks.failed_fn(error):
                return [_store_error(error) for _ in batch]
        try:
            return self._transact_once(batch)
        except (apsw.Error, OSError) as error:
            self._hooks.failed_fn(error)
            return [_store_error(error) for _ in batch]

    def _transact_once(self, batch: Sequence[Job]) -> Sequence[JobResult | Exception]:
        try:
            connection = self._connection = self._connection or self._connect_fn()
            connection.execute(self._begin)
            outcomes = [self._attempt(connection, job) for job in batch]
            connection.execute("COMMIT")
            self._hooks.committed_fn()
        except apsw.Error, OSError:
            # After a failed fsync the kernel may have dropped the pages, so this handle must not be used again.
            self._disconnect()
            raise
        return outcomes

    @staticmethod
    def _attempt(connection: apsw.Connection, job: Job) -> JobResult | Exception:
        transaction = Transaction(connection)
        connection.execute("SAVEPOINT job")
        try:
            value = job.work(transaction)
        except _DISK_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001 - any exception of a job belongs to its caller and undoes that job only
            connection.execute("ROLLBACK TO job")
            connection.execute("RELEASE job")
            return error
        connection.execute("RELEASE job")
        return JobResult(value, transaction.callbacks)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(True)  # by force: the error that led here was reported already


def _store_error(error: Exception) -> StoreError:
    kind = StoreDamagedError if is_damage(error) else StoreError
    failure = kind(f"the database failed: {error}")
    failure.__cause__ = error
    return failure


def _resolve_jobs(batch: Sequence[Job], outcomes: Sequence[JobResult | Exception]) -> None:
    done = [outcome for outcome in outcomes if isinstance(outcome, JobResult)]
    for job, outcome in zip(batch, outcomes, strict=True):
        if job.outcome.cancelled():
            continue
        if isinstance(outcome, JobResult):
            job.outcome.set_result(outcome.value)
        else:
            job.outcome.set_exception(outcome)
    # All callbacks run before any waiting caller continues.
    for callback in chain.from_iterable(outcome.callbacks for outcome in done):
        callback()
