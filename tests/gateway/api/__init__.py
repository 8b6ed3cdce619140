"""Tests of the gateway's HTTP API."""
