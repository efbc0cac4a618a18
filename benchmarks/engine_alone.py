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
    """A bundle's image graph, and a list of encoded images to run it on. All rates in images
    a second over so many `seconds`."""

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
        """One run at a time on every core, decoded images in hand."""
        return self._rate(self._whole, batch, seconds)

    def as_served(self, batch: int, seconds: float) -> float:
        """As many threads and runs at a time as the server takes, decoded images in hand."""
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
        """From encoded bytes: the next batch is decoded by a thread a core while one run on every
        core works on this one."""
        entries = itertools.cycle(self._data)
        with ThreadPoolExecutor(available_cores()) as pool:

            def start() -> list[Future[Any]]:
                chosen = itertools.islice(entries, batch)
                return [pool.submit(self._decode, entry) for entry in chosen]

            coming = start()
            done, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < seconds:
                ready, coming = coming, start()
                self._whole.run("image", np.stack([future.result() for future in ready]))
                done += batch
        return done / elapsed
