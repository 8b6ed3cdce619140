"""Virtual MQTT devices, each with a connection, a Thing Description and a last will of its own."""
