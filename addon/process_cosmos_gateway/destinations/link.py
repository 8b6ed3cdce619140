"""The state of a link, as values: what each try makes of it."""

from dataclasses import dataclass, replace

from process_cosmos_gateway.contract.destinations import LinkState

from .backoff import REFUSED_SECONDS, next_delay
from .destination import Down, Refused, Trouble

UNTRIED = "untried"
_NEVER_TRIED = Down(reason=UNTRIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one way of using a destination (sending, polling) stands.

    ``last_contact``: monotonic time of the last proof of work; ``failures``: tries in a row without one.
    """

    trouble: Trouble | None = _NEVER_TRIED
    failures: int = 0
    last_contact: float | None = None

    @property
    def state(self) -> LinkState:
        """The state people see."""
        match self.trouble:
            case None:
                return LinkState.CONNECTED
            case Down():
                return LinkState.OFFLINE
            case Refused():
                return LinkState.REFUSED

    @property
    def reason(self) -> str | None:
        """The stable word that says why it is not connected."""
        return None if self.trouble is None else self.trouble.reason

    @property
    def detail(self) -> str | None:
        """What the far side said when it was tried last; None: nothing, or it works."""
        return None if self.trouble is None else self.trouble.detail

    def worked(self, now: float) -> Health:
        """Return the health after proof of work: the far side took something."""
        return Health(trouble=None, last_contact=now)

    def failed(self, trouble: Trouble) -> Health:
        """Return the health after a try that came to nothing."""
        return replace(self, trouble=trouble, failures=self.failures + 1)

    def wait(self, jitter: float) -> float:
        """Return seconds until the next try; 0 when nothing is wrong."""
        match self.trouble:
            case Refused():
                return REFUSED_SECONDS
            case Down(retry_after=retry_after) if self.failures:
                return next_delay(self.failures, jitter, retry_after)
            case _:
                return 0.0


def together(sending: Health, polling: Health) -> Health:
    """Return the health of the whole link: the worse of the two; what was never tried says nothing."""
    contacts = [health.last_contact for health in (sending, polling) if health.last_contact is not None]
    worse = max(sending, polling, key=_badness)
    return replace(worse, last_contact=max(contacts, default=None))


def _badness(health: Health) -> int:
    if health.reason == UNTRIED:
        return 0
    return {LinkState.CONNECTED: 1, LinkState.OFFLINE: 2, LinkState.REFUSED: 3}[health.state]
