"""What is said of a bundle that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.store import BundleError, open_bundle
from bundle.verify import REQUIRED

FILES = (*REQUIRED, "concepts.jsonl", "patches.onnx", "weights.safetensors")
"""The files of a sparse bundle that was trained here."""


def refused(root: Path) -> str:
    """The message with which a directory is refused; it tells nothing about this machine."""
    with pytest.raises(BundleError) as caught:
        open_bundle(root)
    message = str(caught.value)
    assert "\n" not in message
    assert str(root.parent) not in message
    return message
