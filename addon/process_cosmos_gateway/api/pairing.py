"""Who may open a session: one Home Assistant, known by the hash of its token."""

import asyncio
import hmac
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.private_files import remove_private, write_private

OFFER_LASTS = timedelta(minutes=10)

_LOGGER = logging.getLogger(__name__)
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """A pairing line that was printed and not used yet. Kept in a file: the printing process is another one."""

    secret: str
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    """The Home Assistant that was paired."""

    token: str
    instance: str


def offer_pairing(folder: Path, clock: Clock) -> str:
    """Return a secret that pairs one Home Assistant within ten minutes; an older one that was not used is void."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    offer = _Offer(secret=_hash(secret), expires=clock.now() + OFFER_LASTS)
    write_private(_offer_file(folder), orjson.dumps(offer))
    return secret


def discovery_token(folder: Path) -> str:
    """Return the token the Supervisor hands to its Home Assistant, made at the first call."""
    path = folder / "discovery_token"
    write_private(path, secrets.token_urlsafe(_SECRET_BYTES).encode(), replace=False)
    return path.read_text("ascii")


class Pairing:
    """Decides who may open a session. Kept beside the store, so that a store that had to be mended stays paired."""

    def __init__(self, folder: Path, clock: Clock, *, supervised: bool) -> None:
        """Read from ``folder`` who is served; ``supervised``: the holder of the discovery token too."""
        self._folder = folder
        self._clock = clock
        self._pairing = asyncio.Lock()
        self._client = _load(_client_file(folder))
        self._discovered = _hash(discovery_token(folder)) if supervised else ""

    def has_token(self, token: str) -> bool:
        """Say whether this is the token of the Home Assistant that is served, in constant time."""
        asked, paired = _hash(token), self._client.token if self._client else ""
        return hmac.compare_digest(asked, paired) or hmac.compare_digest(asked, self._discovered)

    def serves(self, instance: str) -> bool:
        """Say whether the Home Assistant with this id is the one that was paired; the Supervisor has one only."""
        return bool(self._discovered) or (self._client is not None and self._client.instance == instance)

    async def pair(self, request: PairingRequest) -> str:
        """Trade a pairing line's secret for a token; the Home Assistant paired before is served no longer.

        Raises ``RequestRefusedError``: the secret is wrong, used, or older than ten minutes; ``StoreError``: the disk
        did not let it be compared, or written down that it was used. Wrong ones have no limit: nobody guesses 256 bits,
        and a limit would lock out whoever shares an address with the one who tries.
        """
        token = secrets.token_urlsafe(_SECRET_BYTES)
        client = _Client(token=_hash(token), instance=request.instance)
        async with self._pairing:
            try:
                is_right = await asyncio.to_thread(self._redeem, request.secret, client)
            except OSError as error:
                raise StoreError(f"The disk did not let the pairing line be used ({error.strerror}).") from error
            if not is_right:
                raise RequestRefusedError(
                    Code.PAIRING_REFUSED,
                    "The pairing line is wrong, was used, or is older than ten minutes. Print a new one.",
                )
            self._client = client
            return token

    def _redeem(self, secret: str, client: _Client) -> bool:
        path = _offer_file(self._folder)
        try:
            offer = parse(_Offer, decode_json(path.read_bytes()))
        except FileNotFoundError, ContractError:
            return False
        if not hmac.compare_digest(_hash(secret), offer.secret) or offer.expires < self._clock.now():
            return False
        # Used up before it is granted: a crash in between costs a new line, never a second use.
        remove_private(path)
        write_private(_client_file(self._folder), orjson.dumps(client))
        return True


def _load(path: Path) -> _Client | None:
    try:
        return parse(_Client, decode_json(path.read_bytes()))
    except FileNotFoundError:
        return None
    except ContractError as error:
        _LOGGER.warning("Who was paired cannot be read (%s): pair again", error)
        return None


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _offer_file(folder: Path) -> Path:
    return folder / "pairing.json"


def _client_file(folder: Path) -> Path:
    return folder / "home_assistant.json"
