"""Raw readings, and which of them are forwarded to destinations."""
