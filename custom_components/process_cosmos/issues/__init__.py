"""Repair issues of the integration."""
