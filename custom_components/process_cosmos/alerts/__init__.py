"""Alerts: messages that are repeated to people and external systems until one of them answers."""
