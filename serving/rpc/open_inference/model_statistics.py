"""What callers of this protocol asked of each model, and how long it took."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from serving.batching.item_results import ItemResult, slowest
from serving.models.loaded_model import ServedModel
from serving.rpc.open_inference import open_inference_pb2 as pb


@dataclass(kw_only=True, slots=True)
class _StageTotal:
    """How often something was done, and how long it took in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds

    def message(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=round(self.seconds * 1e9))


@dataclass(kw_only=True)
class CallStatistics:
    """The calls of one model."""

    success: _StageTotal = field(default_factory=_StageTotal)
    fail: _StageTotal = field(default_factory=_StageTotal)
    queue: _StageTotal = field(default_factory=_StageTotal)
    decode: _StageTotal = field(default_factory=_StageTotal)
    inference: _StageTotal = field(default_factory=_StageTotal)
    reply: _StageTotal = field(default_factory=_StageTotal)

    @contextmanager
    def call(self) -> Iterator[CallStatistics]:
        """Counts the call that the block answers. One that is cancelled does not count."""
        started = time.perf_counter()
        try:
            yield self
        except Exception:
            self.fail.add(time.perf_counter() - started)
            raise
        self.success.add(time.perf_counter() - started)

    def stages(self, results: Sequence[ItemResult], reply_s: float) -> None:
        """Counts the stages of a call that succeeded."""
        times = slowest(results)
        self.queue.add(times.queue_s)
        self.decode.add(times.decode_s)
        self.inference.add(times.inference_s)
        self.reply.add(reply_s)


class ModelCounts:
    """The statistics of every model, which end with the model."""

    def __init__(self) -> None:
        self._of: weakref.WeakKeyDictionary[ServedModel, CallStatistics] = (
            weakref.WeakKeyDictionary()
        )

    def of(self, model: ServedModel) -> CallStatistics:
        """The statistics to which a call of the model adds."""
        return self._of.setdefault(model, CallStatistics())

    def message(self, model: ServedModel) -> pb.ModelStatistics:
        """The statistics of a model; what its engine ran counts whoever asked for it."""
        calls = self.of(model)
        work = [batcher.work for batcher in model.batchers.values()]
        return pb.ModelStatistics(
            name=model.id.name,
            version=model.id.version,
            last_inference=round(max(one.last_ended for one in work) * 1e3),
            inference_count=sum(one.items for one in work),
            execution_count=sum(one.runs for one in work),
            inference_stats=pb.InferStatistics(
                success=calls.success.message(),
                fail=calls.fail.message(),
                queue=calls.queue.message(),
                compute_input=calls.decode.message(),
                compute_infer=calls.inference.message(),
                compute_output=calls.reply.message(),
            ),
        )
