"""nvImageCodec in place of Pillow, with its decoders for the CPU: no GPU is needed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.image import ImageError, ImageLimits, decode_frame, plain_jpeg_pixels
from bundle.jpeg import END
from bundle.manifest import Preprocessing
from serving.core.errors import ServingError, StartupError
from serving.core.jpeg_decoder import JpegDecoder, check_installed
from serving.core.metrics import Metrics
from serving.image_decoding.pool import DecodePool
from tests.bundle.encoded_images import encode, noise

nvimgcodec_decoder = pytest.importorskip("serving.image_decoding.nvimgcodec_decoder")

PREPROCESSING = Preprocessing(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
PICTURE = noise(6, 9).resize((203, 135), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image = PICTURE, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **options)
    return out.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    return jpeg(exif=exif.tobytes())


FILES = {
    "baseline": jpeg(),
    "progressive": jpeg(progressive=True),
    "4:4:4": jpeg(subsampling=0),
    "4:2:2": jpeg(subsampling=1),
    "grey": jpeg(PICTURE.convert("L")),
    "CMYK": jpeg(PICTURE.convert("CMYK")),
    "turned": turned(),
    "restarts": jpeg(restart_marker_blocks=3),
    "one pixel": jpeg(PICTURE.resize((1, 1))),
}
CUT = {
    f"{name}, {share:.0%}": FILES[name][: int(share * len(FILES[name]))] + END
    for name in ("baseline", "progressive", "grey")
    for share in (0.5, 0.8, 0.97)
}
"""Files that were cut off, and ended as a whole one is."""


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_pillow(name: str) -> None:
    data = FILES[name]
    assert plain_jpeg_pixels(data, ImageLimits())
    decoder = nvimgcodec_decoder.NvImageCodecDecoder(ImageLimits(), nvimgcodec_decoder.CPU)
    [pixels] = decoder.decode([data])
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert pixels is not None
    np.testing.assert_array_equal(pixels, expected, strict=True)


def test_missing_pixels_are_left_to_pillow() -> None:
    decoder = nvimgcodec_decoder.NvImageCodecDecoder(ImageLimits(), nvimgcodec_decoder.CPU)
    decoded = decoder.decode([FILES["baseline"], *CUT.values(), FILES["grey"]])
    assert decoded[0] is not None
    assert decoded[-1] is not None
    names = [name for name, pixels in zip(CUT, decoded[1:-1], strict=True) if pixels is not None]
    assert not names, "pixels that are painted were taken for those of the file"


def test_large_batches_and_failures_lose_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = nvimgcodec_decoder.NvImageCodecDecoder(ImageLimits(), nvimgcodec_decoder.CPU)
    monkeypatch.setattr(nvimgcodec_decoder, "_PIXELS_AT_ONCE", 30_000)
    images = [FILES["baseline"], b"no image", FILES["grey"], FILES["4:4:4"]]
    groups: list[int] = []
    decode = decoder._decode

    def counting(files: list[bytes]) -> list[Any]:
        groups.append(len(files))
        if FILES["grey"] in files:
            raise RuntimeError("out of memory")
        return decode(files)

    monkeypatch.setattr(decoder, "_decode", counting)
    decoded = decoder.decode(images)
    assert [pixels is None for pixels in decoded] == [False, True, True, False]
    assert groups == [1, 1, 1], "27,405 pixels each"


def test_pixels_of_another_size_are_not_taken() -> None:
    other = np.zeros((7, 9, 3), np.uint8)
    whole = decode_frame(FILES["baseline"], ImageLimits())
    assert decode_frame(FILES["baseline"], ImageLimits(), pixels=other).image == whole.image
    with pytest.raises(ImageError, match="truncated"):
        decode_frame(CUT["baseline, 50%"], ImageLimits(), pixels=other)


def test_what_is_no_plain_jpeg_is_left_to_pillow() -> None:
    limits = ImageLimits(pixels=20_000, side=150)
    assert not plain_jpeg_pixels(FILES["baseline"], limits), "203 x 135 pixels are too many"
    assert not plain_jpeg_pixels(FILES["baseline"][:-2], ImageLimits())
    assert not plain_jpeg_pixels(encode(PICTURE, "PNG"), ImageLimits())
    assert not plain_jpeg_pixels(FILES["baseline"], ImageLimits(bytes=100))


async def results(decoder: JpegDecoder, images: list[bytes]) -> list[Any]:
    pool = DecodePool(
        PREPROCESSING,
        ImageLimits(),
        workers=1,
        seconds=30,
        metrics=Metrics(),
        slots=4,
        decoder=decoder,
    )
    await pool.start()
    try:
        return list(await pool.decode_many(images))
    finally:
        await pool.close()


async def test_an_image_is_the_same_with_either_decoder() -> None:
    others = [encode(PICTURE, "PNG"), b"", b"no image", FILES["baseline"][:500]]
    images = [*FILES.values(), *CUT.values(), *others]
    pillow, nvidia = await results("pillow", images), await results("nvimgcodec_cpu", images)
    for mine, theirs in zip(pillow, nvidia, strict=True):
        if isinstance(mine, ServingError):
            assert isinstance(theirs, ServingError)
            assert (mine.message, mine.field) == (theirs.message, theirs.field)
        else:
            np.testing.assert_array_equal(mine.pixels, theirs.pixels)
            assert mine.coverage == theirs.coverage
    assert sum(isinstance(mine, ServingError) for mine in pillow) >= 3


async def test_images_write_nothing_on_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    """The library finds fault with each second decoding, so a caller could fill the log."""
    await results("nvimgcodec_cpu", [*FILES.values(), *CUT.values()])
    told = capfd.readouterr().err.count("Corrupt JPEG")
    assert told <= 1, "a worker's own image, at its start"


def test_a_decoder_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_installed("pillow")
    with pytest.raises(StartupError, match=r"decoder: nvimgcodec .* 'sparseclip\[nvimgcodec\]'"):
        check_installed("nvimgcodec")


@pytest.mark.gpu
def test_pixels_on_a_gpu_are_near_those_of_pillow() -> None:
    decoder = nvimgcodec_decoder.NvImageCodecDecoder(ImageLimits())
    for name, pixels in zip(FILES, decoder.decode(list(FILES.values())), strict=True):
        expected = np.asarray(Image.open(io.BytesIO(FILES[name])).convert("RGB")).astype(int)
        assert pixels is not None, name
        assert np.abs(pixels - expected).mean() < 1, name
    assert decoder.decode(list(CUT.values())) == [None] * len(CUT)
