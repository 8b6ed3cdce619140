"""The connection to the MQTT broker, and the session on it."""
