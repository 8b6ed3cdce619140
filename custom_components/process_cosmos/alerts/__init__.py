"""Alerts: what people or systems must hear of until one answers."""
