"""Simulated power failures under the real store and the real record log."""
