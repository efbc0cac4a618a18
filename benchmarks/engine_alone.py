"""What the engine does without a server: the rates that benchmarks.serving compares with."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageLimits, decode_image
from bundle.store import open_bundle
from serving.engines.base import EngineConfig, available_cores
from serving.engines.onnxruntime_engine import OnnxRuntimeEngine


class EngineAlone:
    """A bundle's image graph, and a list of encoded images to run it on.

    Each method measures for `seconds` and gives a rate in images per second.
    """

    def __init__(self, bundle: Path, data: list[bytes]) -> None:
        opened = open_bundle(bundle)
        self._data = data
        self._preprocess = opened.preprocessor
        self._pixels = np.stack([self._decode(entry) for entry in data])
        self._whole = OnnxRuntimeEngine.open(
            opened, EngineConfig(threads=available_cores(), runs=1)
        )
        self._default = OnnxRuntimeEngine.open(opened, EngineConfig())

    def _decode(self, entry: bytes) -> NDArray[np.float32]:
        return self._preprocess(decode_image(entry, ImageLimits()))

    def one_run(self, batch: int, seconds: float) -> float:
        """One run at a time, on every core, of decoded images."""
        return self._rate(self._whole, batch, seconds)

    def as_served(self, batch: int, seconds: float) -> float:
        """As many threads and concurrent runs as the server uses, of decoded images."""
        with ThreadPoolExecutor(self._default.runs) as pool:
            rates = [
                pool.submit(self._rate, self._default, batch, seconds)
                for _ in range(self._default.runs)
            ]
            return sum(rate.result() for rate in rates)

    def _rate(self, engine: OnnxRuntimeEngine, batch: int, seconds: float) -> float:
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            first = done % (len(self._pixels) - batch + 1)
            engine.run("image", self._pixels[first : first + batch])
            done += batch
        return done / elapsed

    def decoded(self, batch: int, seconds: float) -> float:
        """From encoded bytes: while one run uses every core, one thread per core decodes the next
        batch."""
        entries = itertools.cycle(self._data)
        with ThreadPoolExecutor(available_cores()) as pool:

            def start() -> list[Future[Any]]:
                return [
                    pool.submit(self._decode, entry) for entry in itertools.islice(entries, batch)
                ]

            following = start()
            done, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < seconds:
                current, following = following, start()
                self._whole.run("image", np.stack([future.result() for future in current]))
                done += batch
        return done / elapsed
