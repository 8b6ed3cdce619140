"""Tokens of local programs, stored as hashes, created and revoked by an administrator."""

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import ContractError
from process_cosmos_gateway.errors import StartError, StoreError
from process_cosmos_gateway.private_files import remove_private, secret_hash, write_private

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_TOKEN_BYTES = 32
_FOLDER = "programs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Program with a token; ``token``: the SHA-256 of the token."""

    token: str
    made_at: datetime


class TokensUnreadableError(StoreError):
    """Error if tokens cannot be read: programs are then neither admitted nor disconnected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Programs with a token, by name. ``unreadable``: the error if some tokens could not be read."""

    programs: Mapping[str, Program]
    unreadable: OSError | None = None

    def is_known(self, token: str) -> bool:
        """Return whether ``token`` belongs to a program, compared in constant time.

        Raises ``TokensUnreadableError`` if it is unknown and some tokens could not be read.
        """
        digest = secret_hash(token)
        if any(hmac.compare_digest(digest, program.token) for program in self.programs.values()):
            return True
        if self.unreadable is not None:
            raise _unreadable(self.unreadable)
        return False


def make_token(folder: Path, name: str, clock: Clock) -> str:
    """Create and return a token for the program ``name``.

    Raises ``StartError`` if the program has a token or the name is invalid, and ``TokensUnreadableError`` if tokens
    cannot be read.
    """
    path = _file(folder, name)
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    program = Program(token=secret_hash(token), made_at=clock.now())
    path.parent.mkdir(mode=0o700, exist_ok=True)
    write_private(path, orjson.dumps(program), replace=False)
    # A file that existed was not replaced, also not by another process at the same time.
    if programs(folder).get(name) != program:
        raise StartError(f"{name} already has a token. Revoke it first.")
    return token


def revoke_token(folder: Path, name: str) -> None:
    """Delete the token of the program ``name``; raise ``StartError`` if it has none."""
    path = _file(folder, name)
    try:
        remove_private(path)
    except FileNotFoundError as error:
        raise StartError(f"No program called {name} has a token.") from error


def programs(folder: Path) -> Mapping[str, Program]:
    """Return the programs with a token, by name; raise ``TokensUnreadableError`` if some cannot be read."""
    tokens = read_tokens(folder)
    if tokens.unreadable is not None:
        raise _unreadable(tokens.unreadable)
    return tokens.programs


def read_tokens(folder: Path) -> Tokens:
    """Read all tokens from disk, where other processes change them.

    Files with invalid content are skipped, and a missing folder means no tokens.
    """
    found: dict[str, Program] = {}
    unreadable = None
    try:
        # Not ``Path.glob``: it treats a folder that cannot be listed as empty.
        paths = sorted((folder / _FOLDER).iterdir())
    except FileNotFoundError:
        return Tokens(programs={})
    except OSError as error:
        return Tokens(programs={}, unreadable=error)
    for path in paths:
        if path.suffix == ".json":
            try:
                found[path.stem] = parse(Program, decode_json(path.read_bytes()))
            except FileNotFoundError, IsADirectoryError, ContractError:
                continue
            except OSError as error:
                unreadable = error
    return Tokens(programs=found, unreadable=unreadable)


def _unreadable(cause: OSError) -> TokensUnreadableError:
    error = TokensUnreadableError(f"The tokens of local programs cannot be read ({cause.strerror}).")
    error.__cause__ = cause
    return error


def _file(folder: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise StartError(
            "A program's name has 1 to 64 letters (a-z), digits, - and _, and begins with a letter or digit."
        )
    return folder / _FOLDER / f"{name}.json"
