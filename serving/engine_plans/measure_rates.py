"""How many images a second engines encode, in turns, so that other load affects all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.engines.base import Engine

BATCHES = (1, 16)
"""A single image, and a full batch of a server with the default settings."""

_ROUNDS = 3

_BLOCK_S = 0.3
"""Least length of a block; it ends with a run."""


@dataclass(frozen=True, kw_only=True)
class ImageRate:
    """Images per second over several blocks."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, rates: Sequence[float]) -> ImageRate:
        """The summary of some blocks."""
        values = (statistics.median(rates), min(rates), max(rates))
        median, lowest, highest = (round(value, 2) for value in values)
        return cls(median=median, lowest=lowest, highest=highest)


def warm_up(engine: Engine, pixels: NDArray[np.float32], batches: Sequence[int] = BATCHES) -> None:
    """Runs each batch size once: the first run of a shape prepares it. Raises EngineError."""
    for batch in batches:
        engine.run("image", _batch(pixels, batch))


def measure_rates(
    engines: Mapping[str, Engine],
    pixels: NDArray[np.float32],
    batches: Sequence[int] = BATCHES,
    rounds: int = _ROUNDS,
    block_s: float = _BLOCK_S,
) -> dict[str, dict[str, ImageRate]]:
    """By engine and batch size, the rates of the graph `image` on pixels (N, 3, S, S). The engines
    are warm.

    A batch of 1 is one run at a time; larger ones run as the server runs them, `Engine.runs` at
    the same time.
    """
    inputs = {batch: _batch(pixels, batch) for batch in batches}
    blocks: dict[str, dict[int, list[float]]] = {
        name: {batch: [] for batch in batches} for name in engines
    }
    for _ in range(rounds):
        for name, engine in engines.items():
            for batch in batches:
                blocks[name][batch].append(_rate(engine, inputs[batch], block_s))
    return {
        name: {str(batch): ImageRate.of(rates) for batch, rates in by_batch.items()}
        for name, by_batch in blocks.items()
    }


def _batch(pixels: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """`size` images, some of them several times where there are fewer."""
    return np.ascontiguousarray(pixels[np.arange(size) % len(pixels)])


def _rate(engine: Engine, inputs: NDArray[Any], block_s: float) -> float:
    count = engine.runs if len(inputs) > 1 else 1
    started = time.perf_counter()

    def work() -> int:
        done = 0
        while True:
            engine.run("image", inputs)
            done += len(inputs)
            if time.perf_counter() - started >= block_s:
                return done

    if count == 1:
        done = work()
    else:
        with ThreadPoolExecutor(count) as pool:
            done = sum(future.result() for future in [pool.submit(work) for _ in range(count)])
    return done / (time.perf_counter() - started)
