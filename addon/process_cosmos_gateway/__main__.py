"""The gateway's command line: ``process-cosmos-gateway run | pair | token | certificate | health | backup``."""

import argparse
import asyncio
import http.client
import logging
import os
import socket
import sys
from contextlib import closing
from http import HTTPStatus
from pathlib import Path

from process_cosmos_gateway.api.identity import client_context, ensure_identity, fingerprint
from process_cosmos_gateway.api.local_programs.tokens import make_token, programs, revoke_token
from process_cosmos_gateway.api.pairing import offer_pairing
from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.pairing import OneTimeLine, PairingLine
from process_cosmos_gateway.errors import StartError, StoreError
from process_cosmos_gateway.logs import set_up_logs
from process_cosmos_gateway.options import OptionsError, read_options

_HEALTH_SECONDS = 8
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on


def main() -> None:
    """Run one command. Exit with 2 and all option errors, or with 1 and a sentence if the command fails."""
    arguments = _parser().parse_args()
    # Switch threads sooner than after the default 5 ms: while the store's thread runs, urgent events wait.
    sys.setswitchinterval(0.0005)
    # Keep every file this process writes private to its user.
    os.umask(0o077)
    try:
        sys.exit(arguments.command_fn(arguments))
    except OptionsError as error:
        sys.stderr.write("options_invalid: Some options are invalid. Correct them and start again:\n")
        sys.stderr.write("".join(f"{mistake}\n" for mistake in error.mistakes))
        sys.exit(2)
    except (StartError, StoreError) as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        sys.exit(1)
    except ExceptionGroup:
        # The process supervisor restarts the process: a gateway without one of its components would be worse.
        logging.getLogger(__name__).critical("A component of the gateway failed; the process ends", exc_info=True)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument(
        "--options", type=Path, metavar="FILE", help="TOML file with options (environment variables take precedence)"
    )
    parser = argparse.ArgumentParser(
        "process-cosmos-gateway", description="Run and administer the Process Cosmos gateway."
    )
    parser.set_defaults(command_fn=_run, options=None)
    commands = parser.add_subparsers(metavar="COMMAND")
    run = commands.add_parser("run", parents=[options], help="run until SIGTERM (the default)")
    run.set_defaults(command_fn=_run)
    pair = commands.add_parser(
        "pair", parents=[options], help="print a pairing line, valid for one pairing within 10 minutes"
    )
    pair.add_argument(
        "--host", default=socket.gethostname(), help="host name or address at which Home Assistant reaches this machine"
    )
    pair.set_defaults(command_fn=_pair)
    token = commands.add_parser("token", parents=[options], help="create, list or revoke tokens of local programs")
    which = token.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="name of the program; its new token is printed once")
    which.add_argument("--list", action="store_true", help="list the programs that have a token, with its date")
    which.add_argument("--revoke", metavar="NAME", help="revoke the token of this program")
    token.set_defaults(command_fn=_token)
    health = commands.add_parser("health", parents=[options], help="exit with 0 if the gateway is healthy")
    health.set_defaults(command_fn=_health)
    certificate = commands.add_parser("certificate", help="create the gateway's key and certificate (run does it too)")
    certificate.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder of key and certificate")
    certificate.set_defaults(command_fn=_certificate)
    backup = commands.add_parser(
        "backup", parents=[options], help="copy the database before a backup of the data folder"
    )
    backup.add_argument("--remove", action="store_true", help="remove the copy after the backup")
    backup.set_defaults(command_fn=_backup)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from process_cosmos_gateway.app import run  # noqa: PLC0415 - loads every component; other commands need none

    options = read_options(arguments.options)
    set_up_logs(options.log_level)
    asyncio.run(run(options))
    return 0


def _pair(arguments: argparse.Namespace) -> int:
    options = read_options(arguments.options)
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
    address = f"{host}:{options.port}"
    if options.supervisor_token:
        line = PairingLine(url=f"http://{address}", secret=offer_pairing(options.data, SystemClock()))
    else:
        # Before the offer, which invalidates an older line even if this command fails afterwards.
        asyncio.run(ensure_identity(options.data))
        secret = offer_pairing(options.data, SystemClock())
        line = OneTimeLine(url=f"https://{address}", secret=secret, sha256=fingerprint(options.data))
    sys.stdout.write(f"{line}\n")
    return 0


def _token(arguments: argparse.Namespace) -> int:
    folder = read_options(arguments.options).data
    if arguments.list:
        known = programs(folder).items()
        sys.stdout.write("".join(f"{name} {program.made_at:%Y-%m-%d}\n" for name, program in known))
    elif arguments.revoke:
        revoke_token(folder, arguments.revoke)
    else:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sys.stdout.write(f"{make_token(folder, arguments.name, SystemClock())}\n")
    return 0


def _health(arguments: argparse.Namespace) -> int:
    options = read_options(arguments.options)
    host = _ANY_ADDRESS.get(options.host, options.host)
    connection = (
        http.client.HTTPConnection(host, options.port, timeout=_HEALTH_SECONDS)
        if options.supervisor_token
        else http.client.HTTPSConnection(
            host, options.port, timeout=_HEALTH_SECONDS, context=client_context(options.data)
        )
    )
    try:
        with closing(connection):
            connection.request("GET", "/health")
            return int(connection.getresponse().status != HTTPStatus.OK)
    except (OSError, http.client.HTTPException) as error:
        raise StartError(f"The gateway does not answer ({type(error).__name__}).") from error


def _certificate(arguments: argparse.Namespace) -> int:
    from process_cosmos_gateway.api.certificate import make_identity  # noqa: PLC0415 - cryptography takes 9 MB

    make_identity(arguments.data)
    return 0


def _backup(arguments: argparse.Namespace) -> int:
    from process_cosmos_gateway.store.backup import make_backup, remove_backup  # noqa: PLC0415 - the others need none

    folder = read_options(arguments.options).data
    if arguments.remove:
        remove_backup(folder)
    else:
        make_backup(folder)
    return 0


if __name__ == "__main__":
    main()
