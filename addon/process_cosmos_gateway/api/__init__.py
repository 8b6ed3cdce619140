"""What the gateway serves over HTTP: ``/ws`` for Home Assistant, ``/v1/pair``, ``/health``."""
