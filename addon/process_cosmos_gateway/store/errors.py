"""What a person must know of a store that cannot be opened."""

from typing import ClassVar, Final

from process_cosmos_gateway.errors import StartError, StoreError

ROW_UNREADABLE: Final = "store_row_unreadable"
"""Before a log line: one row cannot be read, and is left out by itself."""


class StoreDamagedError(StoreError):
    """A page of the database cannot be read: the next ``Store.open`` salvages what can."""

    code: ClassVar[str] = "store_damaged"


class StoreFilesGoneError(StoreDamagedError):
    """Files of the open database were deleted or replaced: the next ``Store.open`` begins with what was saved."""

    code: ClassVar[str] = "store_files_gone"


class SchemaTooNewError(StoreError):
    """A newer version of the gateway wrote this database: it is left as it is; a person must update the app."""

    code: ClassVar[str] = "store_schema_too_new"


class StoreReadOnlyError(StartError):
    """Nothing can be written to the data folder: there is no sense in a start."""

    code: ClassVar[str] = "store_read_only"
