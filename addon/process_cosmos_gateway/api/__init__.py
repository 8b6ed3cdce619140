"""HTTP API of the gateway: ``/ws`` for Home Assistant, ``/v1/pair``, ``/health``, local programs, status page."""
