"""Fault injection on real processes, judged by a ledger that never asks the gateway.

A fault is a ``Fault`` of the table: a sentence, and a function that injects it into a ``Site``. ``docs/faults.md``
describes each; ``process-cosmos-testbed faults --help`` has the options.
"""
