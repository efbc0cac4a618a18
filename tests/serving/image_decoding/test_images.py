"""F-10 to F-16: what arrives as an image. Golden pixels are the bundle's tests."""

from __future__ import annotations

import io
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from serving.core.limits import LimitsConfig
from sparseclip.v1 import embedding_pb2
from tests.serving.support.running_server import (
    PNG,
    Running,
    assert_clean,
    embed_request,
    encoded_image,
    survives,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


RGB = Image.open(io.BytesIO(encoded_image(size=(48, 40))))


def png_header(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc


UNSUPPORTED = {
    "html": b"<html><body>hello</body></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "fits": b"SIMPLE  =                    T",
    "tiff": encoded(RGB, "TIFF"),
    "ppm": encoded(RGB, "PPM"),
    "wrong magic": b"\x89PNG\r\n\x1a\x0b" + PNG[8:],
    "an address": b"https://example.com/cat.jpg",
}


@pytest.mark.parametrize("name", UNSUPPORTED)
async def test_f10_unsupported(shared: Running, name: str) -> None:
    request = embed_request(PNG, UNSUPPORTED[name], PNG)

    async def fault() -> None:
        reply = await shared.stub.Embed(request)
        assert [result.status.code for result in reply.results] == [0, INVALID, 0]
        assert reply.results[1].status.message.startswith("image: unsupported image")

    await survives(shared, fault, repeats=20)


@pytest.mark.parametrize("size", [(65_535, 65_535), (1, 100_000), (20_000, 10_000)])
async def test_f11_too_large_by_its_header(shared: Running, size: tuple[int, int]) -> None:
    data = png_header(*size) + b"\0" * 64  # no pixels in it: a decoder would say "truncated"
    times = []

    async def fault() -> None:
        reply = await shared.stub.Embed(embed_request(data))
        status = reply.results[0].status
        assert status.code == INVALID
        assert "over the limit" in status.message
        assert_clean(status.message)
        started = time.perf_counter()
        with pytest.raises(Exception, match="over the limit"):
            await shared.server.registry.models[0].decoders.decode(data)
        times.append(time.perf_counter() - started)

    await survives(shared, fault, repeats=20)
    assert min(times) < 0.005


async def test_f11_too_many_bytes(shared: Running) -> None:
    limit = LimitsConfig().image_bytes
    padded = PNG + b"\0" * (limit - len(PNG))
    reply = await shared.stub.Embed(embed_request(padded, PNG))
    assert [result.status.code for result in reply.results] == [0, 0]
    reply = await shared.stub.Embed(embed_request(padded + b"\0", PNG))
    assert [result.status.code for result in reply.results] == [INVALID, 0]


def crc_broken() -> bytes:
    at = PNG.index(b"IDAT") + 20
    return PNG[:at] + bytes([PNG[at] ^ 0xFF]) + PNG[at + 1 :]


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(RGB, "JPEG", exif=exif)


def animated() -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])


def sixteen_bits() -> bytes:
    grey = np.arange(0, 65_536, 64, dtype=np.uint16).reshape(32, 32)
    return encoded(Image.fromarray(grey), "PNG")


KINDS: dict[str, tuple[bytes, bool]] = {
    "truncated png": (PNG[: len(PNG) // 2], False),
    "truncated jpeg": (encoded(RGB, "JPEG")[:300], False),
    "truncated webp": (encoded(RGB, "WEBP")[:200], False),
    "crc broken": (crc_broken(), False),
    "header only": (PNG[:33], False),
    "jpeg": (encoded(RGB, "JPEG"), True),
    "webp": (encoded(RGB, "WEBP"), True),
    "animated": (animated(), True),
    "exif rotated": (rotated(), True),
    "cmyk": (encoded(RGB.convert("CMYK"), "JPEG"), True),
    "16 bits": (sixteen_bits(), True),
    "palette with alpha": (
        encoded(RGB.convert("P"), "PNG", transparency=b"\0\x80" + b"\xff" * 100),
        True,
    ),
    "grey with alpha": (encoded(RGB.convert("LA"), "PNG"), True),
    "1 x 1": (encoded(Image.new("RGB", (1, 1), "red"), "PNG"), True),
    "1 x 16384": (encoded(Image.new("RGB", (1, 16_384), "red"), "PNG"), True),
    "16384 x 1": (encoded(Image.new("L", (16_384, 1)), "PNG"), True),
}


@pytest.mark.parametrize("name", KINDS)
async def test_f13_f14_every_kind_has_a_defined_outcome(shared: Running, name: str) -> None:
    data, valid = KINDS[name]
    outcomes = set()

    async def fault() -> None:
        reply = await shared.stub.Embed(embed_request(data))
        result = reply.results[0]
        assert result.status.code == (0 if valid else INVALID), result.status.message
        if valid:
            assert np.isfinite(result.sparse.values).all()
            assert len(result.dense) == 16
        else:
            assert result.status.message == "image: truncated or corrupt"
        result.ClearField("timings")
        outcomes.add(result.SerializeToString(deterministic=True))

    await survives(shared, fault, repeats=20)
    assert len(outcomes) == 1


async def test_f13_an_upright_image_and_its_rotated_file_are_the_same(shared: Running) -> None:
    turned = RGB.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = encoded(RGB, "PNG")
    reply = await shared.stub.Embed(embed_request(encoded(turned, "PNG", exif=exif), upright))
    np.testing.assert_allclose(reply.results[0].dense, reply.results[1].dense, atol=1e-6)


ADDRESSES = ("http://127.0.0.1:9/x.png", "file:///etc/hostname", "//127.0.0.1/share/x.jpg")


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every address that this process connects to or looks up from Python."""
    made: list[Any] = []
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)

        def spy(self: socket.socket, address: Any, original: Any = original) -> Any:
            made.append(address)
            return original(self, address)

        monkeypatch.setattr(socket.socket, name, spy)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, lambda *args, name=name: made.append((name, args)))
    return made


@pytest.mark.parametrize("address", ADDRESSES)
async def test_f16_addresses_are_text(
    shared: Running, connections: list[Any], address: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        local = address.replace(":9/", f":{listener.getsockname()[1]}/")
        request = embedding_pb2.EmbedRequest(
            inputs=[
                embedding_pb2.EmbedInput(id=local, text=local),
                embedding_pb2.EmbedInput(image=local.encode()),
            ]
        )
        reply = await shared.stub.Embed(request)
        assert [result.status.code for result in reply.results] == [0, INVALID]
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert connections == []
