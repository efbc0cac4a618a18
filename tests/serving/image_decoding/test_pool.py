"""F-15: decode workers that die or hang, and what an image costs them."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

from bundle import bounded_log
from bundle.image import ImageLimits
from bundle.manifest import Preprocessing
from bundle.preprocessor import Preprocessor
from serving.core.errors import ServingError
from serving.core.metrics import Metrics
from serving.image_decoding.pool import DecodePool
from tests.serving.support.running_server import (
    PNG,
    Running,
    embed_request,
    encoded_image,
    eventually,
    large_image,
    serving,
    unharmed,
)

PREPROCESSING = Preprocessing(size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_f15_a_killed_decode_worker_costs_one_image(shared: Running) -> None:
    pool = shared.server.registry.models[0].decoders
    slow = large_image(6000)
    async with unharmed(shared):
        for _ in range(3):
            (pid,) = pool.pids
            decoding = asyncio.ensure_future(shared.stub.Embed(embed_request(slow)))
            assert await eventually(lambda: not pool._idle)
            os.kill(pid, signal.SIGKILL)
            result = (await decoding).results[0]
            assert result.status.code == grpc.StatusCode.INTERNAL.value[0]
            assert result.status.message == "internal error"
            reply = await shared.stub.Embed(embed_request(PNG), timeout=20)
            assert reply.results[0].status.code == 0
            assert pid not in pool.pids


async def test_f15_a_worker_killed_while_idle_is_replaced(shared: Running) -> None:
    pool = shared.server.registry.models[0].decoders
    async with unharmed(shared):
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        assert await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        reply = await shared.stub.Embed(embed_request(PNG), timeout=20)
        assert reply.results[0].status.code == 0
        assert pid not in pool.pids


async def test_f15_a_worker_that_hangs_is_killed(tiny_bundle: Any) -> None:
    async with serving(tiny_bundle) as running, unharmed(running):
        decoders = running.server.registry.models[0].decoders
        decoders._seconds = 0.5  # not before: a busy machine may need longer for its first image
        (pid,) = decoders.pids
        os.kill(pid, signal.SIGSTOP)
        reply = await running.stub.Embed(embed_request(PNG), timeout=20)
        assert reply.results[0].status.code == grpc.StatusCode.INTERNAL.value[0]


async def test_workers_that_die_do_not_fill_the_log(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bounded_log, "FIRST_LINES", 1)
    async with serving(tiny_bundle) as running:
        pool = running.server.registry.models[0].decoders
        pool._seconds = 0.01
        for _ in range(3):
            assert await eventually(lambda: pool._idle)
            (pid,) = pool.pids
            os.kill(pid, signal.SIGSTOP)
            reply = await running.stub.Embed(embed_request(PNG), timeout=20)
            assert reply.results[0].status.code == grpc.StatusCode.INTERNAL.value[0]
    line = "decode: the worker ended, or took too long"
    told = [message for message in caplog.messages if "decode" in message]
    assert told == [line, f"2 more lines like this one: {line}"]


async def test_a_worker_is_ours_whatever_the_working_directory_holds(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bundle", "serving"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    async with serving(tiny_bundle) as running:
        reply = await running.stub.Embed(embed_request(PNG), timeout=20)
        assert reply.results[0].status.code == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
async def test_a_worker_keeps_the_memory_of_its_images(shared: Running) -> None:
    pool = shared.server.registry.models[0].decoders
    (pid,) = pool.pids
    data = large_image(600)
    for _ in range(10):
        await pool.decode(data)
    before = minor_faults(pid)
    for _ in range(20):
        await pool.decode(data)
    # One copy of the image alone is 350 pages.
    assert (minor_faults(pid) - before) / 20 < 50


def minor_faults(pid: int) -> int:
    """Pages that a process asked for and got without a disk (proc(5), field 10 of stat)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[7])


async def test_images_that_shared_a_request_are_decoded_alone_when_its_worker_dies() -> None:
    pool = DecodePool(
        PREPROCESSING, ImageLimits(), workers=1, seconds=30, metrics=Metrics(), slots=4
    )
    await pool.start()
    try:
        first = pool.submit(large_image(3000))  # keeps the worker busy while the others wait
        others = [pool.submit(encoded_image(seed)) for seed in range(6)]
        cancelled = pool.submit(encoded_image())
        cancelled.cancel()
        await first
        [worker] = pool._workers
        assert len(pool._waiting) == 2  # four of the six went out together
        worker.process.kill()
        decoded = await asyncio.gather(*others)
    finally:
        await pool.close()
    prepare = Preprocessor(PREPROCESSING)
    for seed, image in enumerate(decoded):
        expected = prepare.decode(encoded_image(seed), ImageLimits())
        np.testing.assert_array_equal(image.pixels, expected.pixels)
    with pytest.raises(ServingError):
        await pool.decode(PNG)  # it is closed
