"""Tests that schemas, fixtures and codec of the wire agree."""
