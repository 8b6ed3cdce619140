"""Power cuts under the store and the memory that ship."""
