"""Figures, each beside a limit or a peer of the same run; ``scripts/bench`` runs them."""
