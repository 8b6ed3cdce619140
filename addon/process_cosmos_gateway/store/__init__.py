"""The gateway's SQLite database; no other package opens it."""

from process_cosmos_gateway.contract.destinations import StorageState

from .disk_reserve import Space
from .health import StorageHealth
from .recovery import Recovered
from .store import Store
from .transaction import Transaction

__all__ = ["Recovered", "Space", "StorageHealth", "StorageState", "Store", "Transaction"]
