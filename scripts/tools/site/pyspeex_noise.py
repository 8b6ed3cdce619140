"""Stand-in for pyspeex-noise 1.0.2, which has no wheel for Python 3.14: Home Assistant's frontend must import it."""

from types import SimpleNamespace


class AudioProcessor:
    """Passes sound through."""

    def __init__(self, *_arguments: float) -> None:
        """Take gain and noise suppression, as the original does."""

    def Process10ms(self, audio: bytes) -> SimpleNamespace:  # noqa: N802 - the original's name
        """Return the 10 ms of sound as they came."""
        return SimpleNamespace(audio=audio)
