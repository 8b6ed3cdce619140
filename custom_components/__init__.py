"""Home Assistant loads the folders beside this file; the tests import them as a package."""
