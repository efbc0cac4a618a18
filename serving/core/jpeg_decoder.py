"""Which library decodes JPEGs, and whether this machine has it."""

from __future__ import annotations

import importlib.util
from typing import Literal

from serving.core.errors import StartupError

JpegDecoder = Literal["pillow", "nvimgcodec", "nvimgcodec_cpu"]
"""pillow decodes them on the CPU, nvimgcodec on the first CUDA device. nvimgcodec_cpu is the same
library on the CPU: for tests, since Pillow is faster."""


def check_installed(decoder: JpegDecoder) -> None:
    """Raises StartupError, which says what to install, when the library of `decoder` is missing."""
    if decoder == "pillow":
        return
    try:
        found = importlib.util.find_spec("nvidia.nvimgcodec")
    except ModuleNotFoundError:  # nothing of NVIDIA's is installed
        found = None
    if found is None:
        raise StartupError(
            f"decoder: {decoder} needs nvidia.nvimgcodec: pip install 'sparseclip[nvimgcodec]'"
        )
