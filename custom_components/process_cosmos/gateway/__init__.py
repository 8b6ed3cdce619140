"""The connection to the gateway, and the state of devices and destinations it reports."""
