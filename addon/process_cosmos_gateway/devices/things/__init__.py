"""Devices as W3C Things: descriptions, twins, property writes and rate limits."""
