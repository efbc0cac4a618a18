"""JPEGs decoded on a GPU by nvImageCodec. All other steps, such as resizing, stay on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia import nvimgcodec

from bundle.jpeg import with_noise

CPU = -99_999
"""Chooses nvImageCodec's decoders for the CPU, in place of a device. They show that the code works;
Pillow is faster."""


class NvImageCodecDecoder:
    """Decodes plain JPEGs (bundle.image.is_plain_jpeg) in batches.

    nvImageCodec paints pixels that are missing, and says nothing. So each file is decoded twice,
    the second time with noise before its end marker. Its pixels count only if both are equal.
    """

    def __init__(self, device: int = 0) -> None:
        """Raises what nvImageCodec raises when it cannot use the device."""
        backends = None
        if device == CPU:
            backends = [nvimgcodec.Backend(nvimgcodec.BackendKind.CPU_ONLY)]
        # Colours between samples are interpolated, as libjpeg does it.
        options = ":fancy_upsampling=1"
        self._decoder: Any = nvimgcodec.Decoder(
            device_id=device, backends=backends, options=options, max_num_cpu_threads=1
        )
        self._parameters: Any = nvimgcodec.DecodeParams(
            apply_exif_orientation=False, color_spec=nvimgcodec.ColorSpec.SRGB
        )

    def decode(self, files: Sequence[bytes]) -> list[NDArray[np.uint8] | None]:
        """RGB pixels (H, W, 3) of each file, not turned upright. None for a file that it cannot
        decode or whose pixels are not all there: Pillow then says what is wrong with it."""
        if not files:
            return []
        streams = [
            nvimgcodec.CodeStream(data) for file in files for data in (file, with_noise(file))
        ]
        decoded = self._decoder.decode(streams, params=self._parameters)
        return [
            _same(image, other) for image, other in zip(decoded[::2], decoded[1::2], strict=True)
        ]


def _same(image: Any, other: Any) -> NDArray[np.uint8] | None:
    """The pixels of both images; None where they differ, or one was not decoded."""
    if image is None or other is None:
        return None
    pixels = np.asarray(image.cpu())
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        return None
    return pixels if np.array_equal(pixels, np.asarray(other.cpu())) else None
