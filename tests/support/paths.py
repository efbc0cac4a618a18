"""Where the tests find the repository's own files."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

ICONS = ROOT / "tests" / "fixtures" / "icons"
"""A few dozen samples of the demo's data, as shards."""
