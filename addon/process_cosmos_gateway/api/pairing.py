"""Pairing with the one Home Assistant that may open sessions, known by the hash of its token."""

import asyncio
import hmac
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import orjson

from process_cosmos_gateway.clock import Clock
from process_cosmos_gateway.contract.codec import decode_json, parse
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.pairing import PairingRequest
from process_cosmos_gateway.errors import RequestRefusedError, StoreError
from process_cosmos_gateway.private_files import remove_private, secret_hash, write_private

OFFER_LASTS = timedelta(minutes=10)

_LOGGER = logging.getLogger(__name__)
_SECRET_BYTES = 32
_OFFER = "pairing.json"
_CLIENT = "home_assistant.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """Unused pairing line. It is stored in a file, as another process prints it."""

    secret: str
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Client:
    """Paired Home Assistant, with the hash of its token."""

    token: str
    instance: str


def offer_pairing(folder: Path, clock: Clock) -> str:
    """Return a secret that pairs one Home Assistant within ten minutes, and revoke an older unused one."""
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    offer = _Offer(secret=secret_hash(secret), expires=clock.now() + OFFER_LASTS)
    write_private(folder / _OFFER, orjson.dumps(offer))
    return secret


def discovery_token(folder: Path) -> str:
    """Return the token that the Supervisor passes to its Home Assistant; create it at the first call."""
    # An existing token stays: Home Assistant may have got it with an earlier discovery message.
    path = folder / "discovery_token"
    write_private(path, secrets.token_urlsafe(_SECRET_BYTES).encode(), replace=False)
    return path.read_text("ascii")


class Pairing:
    """Authorization of sessions. Its files are separate from the store, so that a recovered store stays paired."""

    def __init__(self, folder: Path, clock: Clock, *, supervised: bool) -> None:
        """Load the pairing from ``folder``; ``supervised``: accept the discovery token too."""
        self._folder = folder
        self._clock = clock
        self._pairing = asyncio.Lock()
        self._client = _load(folder / _CLIENT)
        self._discovered = secret_hash(discovery_token(folder)) if supervised else ""

    def has_token(self, token: str) -> bool:
        """Return whether ``token`` belongs to the paired Home Assistant, compared in constant time."""
        given, paired = secret_hash(token), self._client.token if self._client else ""
        return hmac.compare_digest(given, paired) or hmac.compare_digest(given, self._discovered)

    def serves(self, instance: str) -> bool:
        """Return whether the Home Assistant with this id is paired; under the Supervisor there is only one."""
        return bool(self._discovered) or (self._client is not None and self._client.instance == instance)

    async def pair(self, request: PairingRequest) -> str:
        """Exchange a pairing line's secret for a token, and end the previous pairing.

        Raises ``RequestRefusedError`` if the secret is wrong, used, or older than ten minutes, and ``StoreError`` if
        the disk fails. Wrong attempts are not limited: 256 bits cannot be guessed, and a limit would lock out clients
        that share an address with an attacker.
        """
        token = secrets.token_urlsafe(_SECRET_BYTES)
        client = _Client(token=secret_hash(token), instance=request.instance)
        # One at a time: two clients must not both find the same line before one of them removes it.
        async with self._pairing:
            try:
                is_valid = await asyncio.to_thread(self._redeem, request.secret, client)
            except OSError as error:
                raise StoreError(
                    f"The pairing line could not be checked because of a disk error ({error.strerror})."
                ) from error
            if not is_valid:
                raise RequestRefusedError(
                    Code.PAIRING_REFUSED,
                    "The pairing line is wrong, was used, or is older than ten minutes. Print a new one.",
                )
            # After the file is on disk: a token that was given out must be valid after a restart.
            self._client = client
            return token

    def _redeem(self, secret: str, client: _Client) -> bool:
        path = self._folder / _OFFER
        try:
            offer = parse(_Offer, decode_json(path.read_bytes()))
        except FileNotFoundError, ContractError:
            return False
        if not hmac.compare_digest(secret_hash(secret), offer.secret) or offer.expires < self._clock.now():
            return False
        # Removed before the pairing is saved: a crash in between requires a new line, but never allows a second use.
        remove_private(path)
        write_private(self._folder / _CLIENT, orjson.dumps(client))
        return True


def _load(path: Path) -> _Client | None:
    try:
        return parse(_Client, decode_json(path.read_bytes()))
    except FileNotFoundError:
        return None
    except ContractError as error:
        _LOGGER.warning("The stored pairing is invalid (%s), so Home Assistant cannot connect; pair again", error)
        return None
