"""The gateway's durable memory: the only package that talks to SQLite."""

from .health import StorageHealth, StorageState
from .salvage import Salvaged
from .space import Space
from .store import Store
from .transaction import Transaction

__all__ = ["Salvaged", "Space", "StorageHealth", "StorageState", "Store", "Transaction"]
