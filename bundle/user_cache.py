"""Where what can be made again is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """`$SPARSECLIP_CACHE`, or `sparseclip` in the user's cache directory."""
    return Path(
        os.environ.get("SPARSECLIP_CACHE")
        or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sparseclip"
        )
    )
