"""Enrolment at a cloud endpoint, by a child process: cryptography takes 9 MB that an idle gateway need not hold."""

import asyncio
import sys

import orjson

from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.pairing import OneTimeLine
from process_cosmos_gateway.contract.session import Problem
from process_cosmos_gateway.errors import RequestRefusedError

from .cloud import Credentials

CHILD = "process_cosmos_gateway.destinations.enrolment_process"
LONGEST_SECONDS = 60.0


async def enrol(line: OneTimeLine, site: Ulid) -> Credentials:
    """Have a child make a key and get a certificate for ``site``; raise ``RequestRefusedError`` with the reason.

    The secret goes to the child by its standard input: arguments can be read by everybody on the machine.
    """
    request = orjson.dumps({"url": line.url, "secret": line.secret, "sha256": line.sha256, "site": site})
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            output, _ = await child.communicate(request)
    except TimeoutError:
        raise RequestRefusedError(Code.DESTINATION_AWAY, "The cloud endpoint did not answer in time.") from None
    finally:
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
