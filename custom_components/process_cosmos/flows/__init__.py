"""The steps of the config, options and repair flows."""
