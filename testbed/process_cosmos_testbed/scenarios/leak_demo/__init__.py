"""The leak demo: the whole product on real processes, observed and judged independently (``scripts/demo``)."""
