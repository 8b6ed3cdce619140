"""What the integration, the gateway and the cloud endpoint must agree on.

The source is in the gateway's package; the integration carries a byte-identical mirror, written by ``scripts/mirror``.
Nothing here imports more than the standard library and orjson, knows a clock, or does I/O.
"""
