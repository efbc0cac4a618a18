"""JPEGs decoded on a GPU by nvImageCodec. All other steps, such as resizing, stay on the CPU."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvidia import nvimgcodec
from PIL import Image

from bundle.bounded_log import BoundedLog
from bundle.image import ImageLimits, plain_jpeg_pixels
from bundle.jpeg import with_noise

CPU = -99_999
"""Chooses nvImageCodec's decoders for the CPU, in place of a device. They show that the code works;
Pillow is faster."""


_PIXELS_AT_ONCE = 16_000_000
"""Images of one batch, unless one of them is larger: the device holds each of them twice."""


class NvImageCodecDecoder:
    """Decodes the plain JPEGs among images in batches.

    nvImageCodec paints pixels that are missing, and says nothing. So each file is decoded twice,
    once with noise before its end marker, and its pixels count only if both times are equal.
    """

    def __init__(self, limits: ImageLimits, device: int = 0) -> None:
        """Raises RuntimeError when the device cannot decode a JPEG."""
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
        self._limits = limits
        self._log = BoundedLog(logging.getLogger(__name__))
        sample = io.BytesIO()
        Image.radial_gradient("L").convert("RGB").save(sample, "JPEG")
        if self._decode([sample.getvalue()])[0] is None:
            raise RuntimeError("it does not decode a JPEG")

    def decode(self, images: Sequence[bytes]) -> list[NDArray[np.uint8] | None]:
        """RGB pixels (H, W, 3) of each plain JPEG, not turned upright.

        None for any other image, for a file that cannot be decoded, and for one whose pixels are
        not all there: Pillow decodes it, or says what is wrong with it.
        """
        decoded: list[NDArray[np.uint8] | None] = [None] * len(images)
        group: list[int] = []
        pixels = 0
        for place, data in enumerate(images):
            size = plain_jpeg_pixels(data, self._limits)
            if not size:
                continue
            if group and pixels + size > _PIXELS_AT_ONCE:
                self._decode_group(images, group, decoded)
                group, pixels = [], 0
            group.append(place)
            pixels += size
        self._decode_group(images, group, decoded)
        return decoded

    def _decode_group(
        self,
        images: Sequence[bytes],
        places: Sequence[int],
        decoded: list[NDArray[np.uint8] | None],
    ) -> None:
        """Decodes the images at some places."""
        if not places:
            return
        try:
            results = self._decode([images[place] for place in places])
        except RuntimeError as error:  # such as a device without memory
            self._log.error("nvImageCodec, in whose place Pillow decodes: %s", error)
            return
        for place, result in zip(places, results, strict=True):
            decoded[place] = result

    def _decode(self, files: Sequence[bytes]) -> list[NDArray[np.uint8] | None]:
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
