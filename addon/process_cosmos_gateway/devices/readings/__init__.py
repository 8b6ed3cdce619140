"""Raw readings: storage, retention, and the selection that is forwarded to destinations."""
