"""Steps and forms of the config, options and repair flows."""
