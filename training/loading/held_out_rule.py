"""How data without splits of their own are split."""

from __future__ import annotations

from typing import Literal

HeldOutRule = Literal["auto", "groups", "image"]
"""`groups` reads all pairs once, so that images that look alike and equal captions are on one side;
`image` goes by each image alone. `auto` is `groups` for data that are read in some minutes."""
