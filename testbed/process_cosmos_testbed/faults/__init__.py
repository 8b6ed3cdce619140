"""The fault lab: real processes, faults that really strike, and a ledger that asks nobody what happened.

One fault is one ``Fault`` of a table: a sentence, and a function that plays it on a ``Site``. ``docs/faults.md`` says
what each does; ``process-cosmos-testbed faults --help`` runs them.
"""
