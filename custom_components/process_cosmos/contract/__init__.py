"""The message contract shared by the integration, the gateway and the cloud endpoint.

The source is in the gateway's package; the integration contains a byte-identical copy, written by ``scripts/mirror``.
These modules import only the standard library and orjson, read no clock and perform no I/O.
"""
