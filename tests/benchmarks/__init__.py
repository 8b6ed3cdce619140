"""The frame of the benchmarks; no figure is judged here."""
