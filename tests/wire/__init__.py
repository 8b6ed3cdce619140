"""The wire: schemas, fixtures and the codec in step."""
