"""Enrolment and renewal at a cloud endpoint in a child process, which keeps cryptography's 9 MB out of the gateway."""

import asyncio
import sys
from collections.abc import Mapping

import orjson

from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.pairing import OneTimeLine
from process_cosmos_gateway.contract.session import Problem
from process_cosmos_gateway.errors import RequestRefusedError

from .settings import Credentials

CHILD = "process_cosmos_gateway.destinations.enrolment_process"
LONGEST_SECONDS = 60.0


async def enrol(line: OneTimeLine, site: Ulid) -> Credentials:
    """Create a key and get a certificate for ``site``; raise ``RequestRefusedError`` with the reason."""
    return await _run_child({"url": line.url, "secret": line.secret, "sha256": line.sha256, "site": site})


async def renew(url: str, old: Credentials) -> Credentials:
    """Create a new key and get the next certificate for it; raise ``RequestRefusedError`` with the reason."""
    return await _run_child({"url": url, "certificate": old.certificate, "key": old.key, "ca": old.ca})


async def _run_child(parameters: Mapping[str, str]) -> Credentials:
    """Run the child; secrets go to its standard input because every user of the machine can read arguments."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            output, _ = await child.communicate(orjson.dumps(parameters))
    except TimeoutError:
        raise RequestRefusedError(Code.DESTINATION_AWAY, "The cloud endpoint did not answer in time.") from None
    finally:
        # asyncio does not end a child process when the task that waits for it is cancelled or times out.
        if child.returncode is None:
            child.kill()
            await child.wait()
    try:
        document = decode_json(output)
        if child.returncode == 0:
            return parse(Credentials, document)
        problem = parse(Problem, document)
        code = Code(problem.code)
    except (ContractError, ValueError) as error:
        raise RequestRefusedError(Code.DESTINATION_AWAY, "The enrolment process failed; see the log.") from error
    raise RequestRefusedError(code, problem.message)
