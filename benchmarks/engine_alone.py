"""What the engine does without a server: the rates that served ones are compared with."""

from __future__ import annotations

import collections
import itertools
import statistics
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.image import ImageLimits
from bundle.store import open_bundle
from serving.engine_plans.open_engine import open_engine
from serving.engines.base import EngineConfig, available_cores


class EngineAlone:
    """A bundle's image graph, and a list of encoded images to run it on.

    Rates are in images per second, over about `seconds`.
    """

    def __init__(self, bundle: Path, data: list[bytes], config: EngineConfig) -> None:
        opened = open_bundle(bundle)
        self._data = data
        self._preprocess = opened.preprocessor
        self._pixels = np.stack([self._decode(entry) for entry in data])
        self._engine = open_engine(opened, config)
        self.description = self._engine.description

    def close(self) -> None:
        """Frees the graphs."""
        self._engine.close()

    def _decode(self, entry: bytes) -> NDArray[np.float32]:
        return self._preprocess.decode(entry, ImageLimits()).pixels

    def warm(self, batch: int) -> None:
        """Runs a batch twice: an engine may prepare itself for a size at its first run."""
        for _ in range(2):
            self._engine.run("image", self._pixels[:batch])

    def rate(self, batch: int, seconds: float) -> float:
        """As many concurrent runs as the server uses, on decoded images."""
        with ThreadPoolExecutor(self._engine.runs) as pool:
            runs = [pool.submit(self._rate, batch, seconds) for _ in range(self._engine.runs)]
            return sum(run.result() for run in runs)

    def _rate(self, batch: int, seconds: float) -> float:
        done, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            first = done % (len(self._pixels) - batch + 1)
            self._engine.run("image", self._pixels[first : first + batch])
            done += batch
        return done / elapsed

    def run_ms(self, seconds: float) -> float:
        """The median time of a run with one image, one run at a time."""
        times: list[float] = []
        started = time.perf_counter()
        while (begun := time.perf_counter()) - started < seconds:
            first = len(times) % len(self._pixels)
            self._engine.run("image", self._pixels[first : first + 1])
            times.append((time.perf_counter() - begun) * 1e3)
        return statistics.median(times)

    def decoded(self, batch: int, seconds: float) -> float:
        """From encoded bytes: while batches run, one thread per core decodes the next ones."""
        entries = itertools.cycle(self._data)
        running: collections.deque[Future[Any]] = collections.deque()
        with ThreadPoolExecutor(available_cores()) as decoders:

            def start() -> list[Future[Any]]:
                following = itertools.islice(entries, batch)
                return [decoders.submit(self._decode, entry) for entry in following]

            with ThreadPoolExecutor(self._engine.runs) as runners:
                following = start()
                done, started = 0, time.perf_counter()
                while (elapsed := time.perf_counter() - started) < seconds:
                    current, following = following, start()
                    pixels = np.stack([future.result() for future in current])
                    running.append(runners.submit(self._engine.run, "image", pixels))
                    if len(running) > self._engine.runs:
                        running.popleft().result()
                        done += batch
        return done / elapsed
