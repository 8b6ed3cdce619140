"""The independent ledger: a process that sees what really happened, and judges it without asking the product."""
