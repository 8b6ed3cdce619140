"""Stand-in for pymicro-vad 1.0.1, which has no wheel for Python 3.14: Home Assistant's frontend needs it importable."""


class MicroVad:
    """Stand-in that detects no speech."""

    def Process10ms(self, audio: bytes) -> float:  # noqa: ARG002, N802 - the original's signature
        """Return the probability of speech in 10 ms of sound."""
        return 0.0
