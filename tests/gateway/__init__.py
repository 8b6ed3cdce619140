"""Tests of the gateway's packages and of the whole process."""
