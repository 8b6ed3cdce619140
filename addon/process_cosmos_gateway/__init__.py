"""The gateway of Process Cosmos: the service inside the app."""

VERSION = "0.1.0"
"""The version of the app; a test keeps its package and its ``config.yaml`` equal."""
