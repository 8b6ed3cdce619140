"""Lines that say how far the demo is, each with the seconds since the start."""

import sys
import time


class Progress:
    """Prints one line a step; nothing else of the demo writes to the terminal while it runs."""

    def __init__(self) -> None:
        """Start counting the seconds."""
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def say(self, sentence: str) -> None:
        """Print ``sentence`` on a line of its own."""
        print(f"demo  {self.seconds:5.1f} s  {sentence}", flush=True)

    def count(self, what: str, done: int, of: int) -> None:
        """Show a counter that overwrites itself on a terminal; elsewhere only every quarter is a line."""
        if sys.stdout.isatty():
            print(f"\rdemo  {self.seconds:5.1f} s  {what} {done} of {of}", end="\n" if done == of else "", flush=True)
        elif done == of or done % max(1, of // 4) == 0:
            self.say(f"{what} {done} of {of}")
