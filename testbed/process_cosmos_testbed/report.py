"""Progress lines on standard output."""

import sys
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """Prints each step on a line with the name of the run, the wall time and the seconds since the start."""

    _name: str
    _started: float = field(default_factory=time.monotonic)

    def say(self, sentence: str) -> None:
        """Print ``sentence`` on a line of its own."""
        print(f"{self._prefix()}{sentence}", flush=True)

    def count(self, what: str, done: int, of: int) -> None:
        """Show a counter: overwritten on a terminal, elsewhere a line for each quarter."""
        if sys.stdout.isatty():
            print(f"\r{self._prefix()}{what} {done} of {of}", end="\n" if done == of else "", flush=True)
        elif done == of or done % max(1, of // 4) == 0:
            self.say(f"{what} {done} of {of}")

    def _prefix(self) -> str:
        return f"{self._name}  {time.strftime('%H:%M:%S')}  {time.monotonic() - self._started:6.1f} s  "
