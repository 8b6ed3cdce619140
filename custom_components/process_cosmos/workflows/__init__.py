"""Blueprints that ship with the integration, and their updates."""
