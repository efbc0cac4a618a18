"""The most that a user may ask of an export: more would fill the memory or the machine."""

from __future__ import annotations

MAX_ROWS = 100_000
"""Entries of a shard, whose rows are in memory together."""
MAX_TOP = 1_000
"""Concepts of a row that are written with their names."""
MAX_BATCH = 1_024
"""Rows of one run of the model, whose pixels are in memory together."""
MAX_WORKERS = 1_024
MAX_CORES = 1_024
"""Cores of a worker."""
MAX_DECODERS = 256
"""Decoding processes of a worker."""
