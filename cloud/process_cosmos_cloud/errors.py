"""The root of the errors of the cloud endpoint."""


class CloudError(Exception):
    """The root of the errors of this package, except those of the contract."""
