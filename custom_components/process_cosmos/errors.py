"""The root of the errors of the integration."""


class CosmosError(Exception):
    """The root of the errors of this package, except those of the contract."""
