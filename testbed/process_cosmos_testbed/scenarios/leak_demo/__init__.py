"""The main job played on real parts, with an independent ledger: `scripts/demo`."""
