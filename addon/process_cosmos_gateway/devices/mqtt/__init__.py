"""The connection to the MQTT broker, and the gateway's session on it."""
