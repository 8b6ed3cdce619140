"""Managed processes: started, watched, frozen, stopped and killed, each with a log file of its own."""

import asyncio
import os
import secrets
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from http import HTTPStatus
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Never, Self, overload

import aiohttp

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
"""The repository, if the package is installed from a checkout."""

LOCAL = "127.0.0.1"

_PORTS = range(10_000, 32_768)
"""Below the ports that systems assign to outgoing connections."""

_PEAK = "5"
"""Written to ``clear_refs`` it sets VmHWM to what is resident now (proc_pid_clear_refs(5))."""

TAIL = 30
"""Lines of a process's log that its failure shows."""


class TestbedError(Exception):
    """Something could not be run to its end; the message says what. The base of all errors of the testbed."""


class ProcessFailedError(TestbedError):
    """A process did not do what it must; the message ends with the tail of its log."""


class EndedEarlyError(TestbedError):
    """A background task or a managed process ended before the work that needs it; the message has its own error."""


def free_ports(number: int) -> list[int]:
    """Return different free ports of 127.0.0.1 that no outgoing connection is assigned while a process is down."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < number:
            listener = stack.enter_context(socket.socket())
            with suppress(OSError):
                listener.bind((LOCAL, secrets.choice(_PORTS)))
                ports.append(listener.getsockname()[1])
    return ports


def free_port() -> int:
    """Return one free port of 127.0.0.1."""
    return free_ports(1)[0]


async def accepts(port: int) -> bool:
    """Return whether a process listens on ``port`` of 127.0.0.1."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection(LOCAL, port)
        writer.close()
        return True
    return False


async def serves(url: str) -> bool:
    """Return whether ``url`` is answered with 200, by a server with any certificate."""
    try:
        async with aiohttp.ClientSession() as http, http.get(url, ssl=any_certificate()) as response:
            return response.status == HTTPStatus.OK
    except aiohttp.ClientError, OSError:
        return False


@cache
def any_certificate(own: Path | None = None) -> ssl.SSLContext:
    """Return a TLS context of a client that does not verify its server; ``own``: its certificate and key (PEM)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if own is not None:
        context.load_cert_chain(own)
    return context


@overload
async def until[T](
    probe: Callable[[], Coroutine[Any, Any, T | None]], what: str, limit: float = 60, *, every: float = 0.02
) -> T: ...


@overload
async def until[T](probe: Callable[[], T | None], what: str, limit: float = 60, *, every: float = 0.02) -> T: ...


async def until(probe: Callable[[], Any], what: str, limit: float = 60, *, every: float = 0.02) -> Any:
    """Return the first true answer of ``probe``; raise ``TimeoutError`` naming ``what`` after ``limit`` seconds."""
    try:
        async with asyncio.timeout(limit):
            while True:
                found = probe()
                if answer := await found if isinstance(found, Awaitable) else found:
                    return answer
                await asyncio.sleep(every)
    except TimeoutError as error:
        raise TimeoutError(f"no {what} within {limit:.0f} s") from error


def cancel_on_sigterm() -> None:
    """Let SIGTERM cancel the present task: else it would leave brokers, endpoints and gateways behind."""
    if (own := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)


class ManagedProcess:
    """One process and its log ``folder``/``name``.log, which continues across restarts."""

    def __init__(self, name: str, folder: Path) -> None:
        """Prepare the process without starting it."""
        self.name = name
        self.folder = folder
        self.log = folder / f"{name}.log"
        self.may_end = False
        """Whether an end of the present process is expected: after ``stop``, ``kill`` or ``wait``."""
        self._is_ready = False
        self._process: asyncio.subprocess.Process | None = None
        self._launching = asyncio.Lock()

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The id of the newest process."""
        if self._process is None:
            raise self.failure("was never started")
        return self._process.pid

    async def launch(
        self, *command: str | Path, environment: Mapping[str, str] | None = None, output: Path | None = None
    ) -> None:
        """Start ``command`` in a process group of its own, so that Ctrl-C reaches only the program that manages it.

        ``environment``: all variables; None: those of this process without any that configure a gateway.
        ``output``: the file for standard output; by default the log, which always gets standard error.
        """
        async with self._launching:
            self.may_end = self._is_ready = False
            with self.log.open("ab") as log, (output or self.log).open("ab") as printed:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=printed,
                    stderr=log,
                    env=environment or _environment(),
                    process_group=0,
                )

    async def until_ready(self, probe: Callable[[], Coroutine[Any, Any, object]], what: str, limit: float = 60) -> None:
        """Return when ``probe`` is true; raise if the process ends or ``limit`` seconds pass before.

        From then on the end of the process is an error for ``watch``, until ``stop`` or ``kill``.
        """

        async def is_ready() -> bool:
            if await probe():
                return True
            self._must_run(f"ended before it reached {what}")
            return False

        try:
            await until(is_ready, what, limit)
        except TimeoutError as error:
            raise self.failure(f"did not reach {what} within {limit:.0f} s") from error
        self._is_ready = True

    async def watch(self) -> Never:
        """Raise when the process ends after it was ready, although neither ``stop`` nor ``kill`` was called."""
        while True:
            if self._is_ready and not self.may_end:
                self._must_run("ended by itself")
            await asyncio.sleep(0.1)

    async def wait(self, limit: float) -> int:
        """Wait until the process has ended; return its exit code."""
        self.may_end = True
        if self._process is None:
            return 0
        try:
            async with asyncio.timeout(limit):
                return await self._process.wait()
        except TimeoutError as error:
            raise self.failure(f"did not end within {limit:.0f} s") from error

    async def stop(self, limit: float = 20) -> int:
        """Send SIGTERM; kill the process if it does not end within ``limit`` seconds. Return its exit code."""
        await self._end(signal.SIGTERM)
        try:
            return await self.wait(limit)
        except ProcessFailedError:
            return await self.kill()

    async def kill(self) -> int:
        """Send SIGKILL; return the exit code."""
        await self._end(signal.SIGKILL)
        return await self.wait(10)

    async def _end(self, number: signal.Signals) -> None:
        async with self._launching:  # a signal must not miss a process that is just being created
            self.may_end = True
            self.signal(number)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def megabytes(self, figure: str = "VmRSS") -> float:
        """Return the resident memory (``VmHWM``: its peak) in megabytes of 1e6 bytes, from /proc/PID/status."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{figure}:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
        raise self.failure("has ended")

    def forget_peak(self) -> None:
        """Reset the peak of the resident memory to its present size."""
        Path(f"/proc/{self.pid}/clear_refs").write_text(_PEAK)

    def failure(self, sentence: str) -> ProcessFailedError:
        """Return the error that says ``sentence`` of this process, with the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:] if self.log.exists() else []
        return ProcessFailedError("\n".join([f"{self.name} {sentence}; the end of {self.log}:", *lines]))

    def _must_run(self, sentence: str) -> None:
        if not self.running:
            raise self.failure(sentence)


class Background:
    """Tasks and processes that must outlive the work that needs them; an ``async with`` block is their lifetime."""

    def __init__(self) -> None:
        """Begin without tasks."""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Return itself: tasks are added inside the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Cancel all tasks and wait for their end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        """Run ``work`` until the block ends."""
        self._tasks.add(asyncio.create_task(work, name=name))

    def watch(self, *processes: ManagedProcess) -> None:
        """Treat the unexpected end of a process as the end of a task."""
        for process in processes:
            self.add(process.name, process.watch())

    async def beside[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of ``work``; cancel it and raise ``EndedEarlyError`` if a background task ends first."""
        task = asyncio.create_task(work)
        try:
            done, _ = await asyncio.wait({task, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        for ended in done - {task}:
            error = ended.exception()
            raise EndedEarlyError(f"{ended.get_name()} ended early: {error or 'it returned'}") from error
        return task.result()


async def run_in_process[T](work: Callable[[], T], limit: float) -> T:
    """Return the result of ``work``, a function that a new process can import, or a partial of one."""
    pool = ProcessPoolExecutor(1, get_context("spawn"))
    try:
        async with asyncio.timeout(limit):
            running = asyncio.get_running_loop().run_in_executor(pool, work)
            # The work's own error is a result here: only a timeout or a cancellation kills the process.
            [result] = await asyncio.gather(running, return_exceptions=True)
    except BaseException:
        pool.kill_workers()
        raise
    await asyncio.to_thread(pool.shutdown)  # the process ends by itself, and so saves what a test measures of it
    if isinstance(result, BaseException):
        raise ProcessFailedError(f"the process of {work} failed: {result!r}") from result
    return result


async def run_once(*command: str | Path, log: Path | None = None, limit: float = 30) -> str:
    """Run ``command`` to its end and return what it printed, stripped; raise with its standard error if it failed.

    ``log``: a file to which standard error is appended in any case.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=_environment()
    )
    try:
        async with asyncio.timeout(limit):
            output, errors = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.communicate()
        raise ProcessFailedError(f"{command[0]} did not end within {limit:.0f} s") from error
    if log is not None:
        with log.open("ab") as file:
            file.write(errors)
    if process.returncode:
        raise ProcessFailedError(f"{' '.join(map(str, command[:2]))} ended {process.returncode}: {errors.decode()}")
    return output.decode().strip()


def _environment() -> dict[str, str]:
    """Return this process's environment without variables that configure a gateway: it has an options file."""
    ours = ("PROCESS_COSMOS_", "SUPERVISOR_TOKEN")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
