"""Compares variants of a recipe on the same data: `python -m benchmarks.quality`."""
