"""Processes: started, watched, frozen, stopped and killed, each with a log of its own."""

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from process_cosmos_gateway.errors import GatewayError

_PORTS = range(10_000, 32_768)
"""Below those that systems give to connections."""

TAIL = 30
"""Lines of a guilty log that a failure shows."""


class PartFailedError(GatewayError):
    """A process did not do what it must; the message ends with the tail of its log."""


def free_ports(number: int) -> list[int]:
    """Return different ports of 127.0.0.1 that nobody has now, nor is given for a connection while a part is down."""
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < number:
            listener = stack.enter_context(socket.socket())
            with suppress(OSError):
                listener.bind(("127.0.0.1", secrets.choice(_PORTS)))
                ports.append(listener.getsockname()[1])
    return ports


async def accepts(port: int) -> bool | None:
    """Return True when somebody listens on ``port`` of 127.0.0.1, else None."""
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return None


async def until(condition: Callable[[], object], what: str, limit: float = 40, every: float = 0.002) -> None:
    """Return when ``condition`` holds; raise ``TimeoutError`` with ``what`` was waited for."""
    try:
        async with asyncio.timeout(limit):
            while not condition():  # noqa: ASYNC110 - the condition may be about anything
                await asyncio.sleep(every)
    except TimeoutError as error:
        raise TimeoutError(f"no {what} within {limit:.0f} s") from error


class Part:
    """One process and its log; it may be started again after it ended."""

    def __init__(self, name: str, folder: Path) -> None:
        """Write everything the process says to ``folder``/``name``.log, across restarts."""
        self.name = name
        self.log = folder / f"{name}.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process's number, for as long as it runs."""
        if self._process is None:
            raise self.failure("was never started")
        return self._process.pid

    async def start(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> None:
        """Start ``command`` in a group of its own: a Ctrl-C reaches its starter alone, which stops its parts in order.

        ``environment``: all of it; None: this process's own, without what would configure a gateway.
        """
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment or _environment(),
                process_group=0,
            )

    async def until[T](self, probe: Callable[[], Awaitable[T | None]], what: str, limit: float = 60) -> T:
        """Return the first answer of ``probe`` that is not None; raise if the process ends or time runs out."""
        try:
            async with asyncio.timeout(limit):
                while (answer := await probe()) is None:
                    if not self.running:
                        raise self.failure(f"ended before it reached {what}")
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise self.failure(f"did not reach {what} within {limit:.0f} s") from error
        return answer

    async def wait(self, limit: float) -> int:
        """Wait until the process has ended; return its exit code."""
        if self._process is None:
            return 0
        try:
            async with asyncio.timeout(limit):
                return await self._process.wait()
        except TimeoutError as error:
            raise self.failure(f"did not end within {limit:.0f} s") from error

    async def stop(self, limit: float = 20) -> None:
        """Ask the process to end; kill it if it does not within ``limit`` seconds."""
        self.signal(signal.SIGTERM)
        try:
            await self.wait(limit)
        except PartFailedError:
            await self.kill()

    async def kill(self) -> int:
        """``kill -9``: nothing in the process gets a chance to finish. Return its exit code."""
        self.signal(signal.SIGKILL)
        return await self.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)

    def failure(self, sentence: str) -> PartFailedError:
        """Return the error that says ``sentence`` of this part, with the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL:] if self.log.exists() else []
        return PartFailedError("\n".join([f"{self.name} {sentence}; the end of {self.log}:", *lines]))


async def run_once(*command: str | Path, log: Path | None = None, limit: float = 30) -> str:
    """Run ``command`` to its end and return what it printed; raise with its complaints if it failed.

    ``log``: a file for its complaints, also if it did not fail.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=_environment()
    )
    try:
        async with asyncio.timeout(limit):
            output, complaints = await process.communicate()
    except TimeoutError as error:
        process.kill()
        await process.communicate()
        raise PartFailedError(f"{command[0]} did not end within {limit:.0f} s") from error
    if log is not None:
        with log.open("ab") as file:
            file.write(complaints)
    if process.returncode:
        raise PartFailedError(f"{' '.join(map(str, command[:2]))} ended {process.returncode}: {complaints.decode()}")
    return output.decode()


def _environment() -> dict[str, str]:
    """Return this process's environment without what would configure a gateway: the lab's have files of their own."""
    ours = ("PROCESS_COSMOS_", "SUPERVISOR_TOKEN")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
