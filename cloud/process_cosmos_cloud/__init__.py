"""The reference cloud endpoint of Process Cosmos."""
