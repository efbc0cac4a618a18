"""Which library decodes JPEGs, and whether this machine has it."""

from __future__ import annotations

import importlib.metadata
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


def described(decoder: JpegDecoder) -> str:
    """The decoder and, of another library than Pillow, its version: it decides the pixels."""
    if decoder == "pillow":
        return decoder
    check_installed(decoder)
    names = importlib.metadata.packages_distributions()["nvidia"]
    versions = [
        importlib.metadata.version(name) for name in sorted(set(names)) if "nvimgcodec" in name
    ]
    return " ".join([decoder, *versions])
