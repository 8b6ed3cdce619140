"""Errors of the store, with stable codes for logs and users."""

from typing import ClassVar, Final

from process_cosmos_gateway.errors import StoreError

ROW_UNREADABLE: Final = "store_row_unreadable"
"""Code in front of a log line: one row cannot be read and is skipped."""

READ_ONLY: Final = "store_read_only"
"""Code of the ``StartError`` if the data folder is not writable."""


class StoreDamagedError(StoreError):
    """A page of the database cannot be read; the next ``Store.open`` recovers the readable rows."""

    code: ClassVar[str] = "store_damaged"


class StoreFilesGoneError(StoreDamagedError):
    """Files of the open database were deleted or replaced; the next ``Store.open`` begins with the saved content."""

    code: ClassVar[str] = "store_files_gone"


class SchemaTooNewError(StoreError):
    """A newer version of the gateway wrote this database; it is left unchanged, and the app must be updated."""

    code: ClassVar[str] = "store_schema_too_new"
