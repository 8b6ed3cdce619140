"""The integration's actions."""
