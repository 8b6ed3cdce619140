"""What a person must know of a store that cannot be opened."""

from typing import ClassVar

from process_cosmos_gateway.errors import StoreError


class StoreDamagedError(StoreError):
    """The database is not readable: nothing was changed; a person must restore a backup or move it aside."""

    code: ClassVar[str] = "store_damaged"


class SchemaTooNewError(StoreError):
    """A newer version of the gateway wrote this database: it is left as it is; a person must update the gateway."""

    code: ClassVar[str] = "store_schema_too_new"
