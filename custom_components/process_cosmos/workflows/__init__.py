"""The blueprints that ship with the integration."""
