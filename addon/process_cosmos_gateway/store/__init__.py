"""The gateway's durable memory: the only package that talks to SQLite."""

from .store import Store
from .transaction import Transaction

__all__ = ["Store", "Transaction"]
