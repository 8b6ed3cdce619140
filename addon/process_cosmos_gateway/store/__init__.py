"""The gateway's durable memory: the only package that talks to SQLite."""

from process_cosmos_gateway.contract.destinations import StorageState

from .health import StorageHealth
from .salvage import Salvaged
from .space import Space
from .store import Store
from .transaction import Transaction

__all__ = ["Salvaged", "Space", "StorageHealth", "StorageState", "Store", "Transaction"]
