"""Parser of pasted pairing lines and one-time codes that reports what is wrong with them."""

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from custom_components.process_cosmos.contract.pairing import (
    LineError,
    OneTimeLine,
    PairingLine,
    parse_line,
    parse_pairing_line,
)
from custom_components.process_cosmos.errors import CosmosError


class LineProblem(StrEnum):
    """What is wrong with a pasted line; also the translation key."""

    BEGINNING = "line_beginning"
    ADDRESS = "line_address"
    CUT = "line_cut"
    CHARACTER = "line_character"
    LONG = "line_long"


class PastedLineError(CosmosError):
    """The pasted line is malformed; ``code`` is the problem."""

    def __init__(self, code: LineProblem) -> None:
        """Store only the code, because the line contains a secret."""
        super().__init__(code)
        self.code = code


_SECRET = "x" * 16
_FINGERPRINT: Final = 64
_QUOTES = "`'\"<>"
_PARTS = re.compile(r"(?P<secret>[A-Za-z0-9_-]*)(?:\.(?P<sha256>[0-9a-f]*))?")


def read_pairing_line(text: str) -> PairingLine:
    """Parse a pasted pairing line, ignoring blanks, line breaks and quotes; raise ``PastedLineError``."""
    return _read(text, parse_pairing_line, ("https://", "http://"))


def read_code(text: str) -> OneTimeLine:
    """Parse a pasted one-time code in the same way; raise ``PastedLineError``."""
    return _read(text, parse_line, ("https://",))


def _read[Line](text: str, parse: Callable[[str], Line], beginnings: tuple[str, ...]) -> Line:
    line = "".join(text.split()).strip(_QUOTES)
    try:
        return parse(line)
    except LineError as error:
        raise PastedLineError(_problem(line, beginnings)) from error


def _problem(line: str, beginnings: tuple[str, ...]) -> LineProblem:
    """Return the most likely problem of a malformed line."""
    if not line.startswith(beginnings):
        return LineProblem.BEGINNING
    if line.count("://") > 1:
        return LineProblem.LONG
    address, _, rest = line.partition("#")
    parts = _PARTS.fullmatch(rest)
    # Before the address is judged: a line that was cut within its address has no rest either.
    if not rest:
        return LineProblem.CUT
    if parts is None:
        return LineProblem.CHARACTER
    if not _is_address(address):
        return LineProblem.ADDRESS
    return LineProblem.LONG if len(parts["sha256"] or "") > _FINGERPRINT else LineProblem.CUT


def _is_address(address: str) -> bool:
    try:
        # The parser of the contract alone decides what an address is, so the rest is replaced by something valid.
        parse_line(f"https:{address.partition(':')[2]}#{_SECRET}.{'0' * _FINGERPRINT}")
    except LineError:
        return False
    return True
