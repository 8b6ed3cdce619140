"""Scenarios on the whole product, each with a real Home Assistant."""
