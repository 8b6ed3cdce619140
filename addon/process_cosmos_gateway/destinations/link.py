"""The health of a link, as values: each attempt yields the next one."""

from dataclasses import dataclass, replace

from process_cosmos_gateway.contract.destinations import LinkState

from .backoff import REFUSED_SECONDS, next_delay
from .destination import Down, Refused, Trouble

UNTRIED = "untried"
_NEVER_TRIED = Down(reason=UNTRIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkHealth:
    """The health of one use of a destination: sending or polling.

    ``last_contact``: monotonic time of the last success. ``failures``: consecutive failures since then.
    """

    trouble: Trouble | None = _NEVER_TRIED
    failures: int = 0
    last_contact: float | None = None

    @property
    def state(self) -> LinkState:
        """The state shown to people."""
        match self.trouble:
            case None:
                return LinkState.CONNECTED
            case Down():
                return LinkState.OFFLINE
            case Refused():
                return LinkState.REFUSED

    @property
    def reason(self) -> str | None:
        """The code that explains why it is not connected."""
        return None if self.trouble is None else self.trouble.reason

    @property
    def detail(self) -> str | None:
        """The receiver's text at the last failure, if any."""
        return None if self.trouble is None else self.trouble.detail

    def succeeded(self, now: float) -> LinkHealth:
        """Return the health after a success."""
        return LinkHealth(trouble=None, last_contact=now)

    def failed(self, trouble: Trouble) -> LinkHealth:
        """Return the health after a failed attempt."""
        return replace(self, trouble=trouble, failures=self.failures + 1)

    def retry_delay(self, jitter: float) -> float:
        """Return the seconds until the next attempt; 0 if nothing failed."""
        match self.trouble:
            case Refused():
                return REFUSED_SECONDS
            case Down(retry_after=retry_after) if self.failures:
                return next_delay(self.failures, jitter, retry_after)
            case _:
                return 0.0


def combine_health(sending: LinkHealth, polling: LinkHealth) -> LinkHealth:
    """Return the health of the whole link: the worse of the two, ignoring a use that was never tried."""
    contacts = [health.last_contact for health in (sending, polling) if health.last_contact is not None]
    worse = max(sending, polling, key=_rank)
    return replace(worse, last_contact=max(contacts, default=None))


def _rank(health: LinkHealth) -> int:
    if health.reason == UNTRIED:
        return 0
    return {LinkState.CONNECTED: 1, LinkState.OFFLINE: 2, LinkState.REFUSED: 3}[health.state]
