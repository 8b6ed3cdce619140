"""The connection to the gateway, and what the gateway reports about devices and destinations."""
