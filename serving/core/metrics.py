"""What the server measures, for Prometheus; served over HTTP on a port of its own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from serving.core.errors import StartupError
from serving.core.loop_metrics import HistogramSeries, Level, LoopHistogram
from serving.core.priority_queue import PRIORITIES, WorkPriority

_SECONDS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_FILL_BUCKETS = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class BatcherMetrics:
    """The series of one batcher."""

    queued: Level
    """Items that wait for a run."""
    slots: Level
    """Items admitted and not yet answered."""
    batch: LoopHistogram
    """Items per run."""
    fill: LoopHistogram
    """Items per run, over the most that a run may have."""
    queue: LoopHistogram
    """Seconds that an item waited for its run."""
    queue_by_priority: Mapping[WorkPriority, LoopHistogram]
    """The same, by the priority of the call."""
    inference: LoopHistogram
    """Seconds per run."""
    shortfalls: Counter
    """Items by what their answer does not rest on: see ItemCoverage.shortfalls."""


@dataclass(frozen=True, kw_only=True)
class ChatMetrics:
    """The series of conversations."""

    in_flight: Gauge
    """Conversations in flight."""
    tokens: Counter
    """Tokens generated."""
    first_token: Histogram
    """Seconds from the assembled prompt to the first token."""
    images: Counter
    """Images by the source of their codes: the vision model (`encoded`) or the cache (`kept`)."""

    @classmethod
    def register(cls, registry: CollectorRegistry) -> ChatMetrics:
        """Makes the series in a registry."""
        return cls(
            in_flight=Gauge(
                "sparseclip_chats_in_flight", "Conversations in flight.", registry=registry
            ),
            tokens=Counter("sparseclip_chat_tokens", "Tokens generated.", registry=registry),
            first_token=Histogram(
                "sparseclip_chat_first_token_seconds",
                "Time from the assembled prompt to the first token.",
                buckets=_SECONDS_BUCKETS,
                registry=registry,
            ),
            images=Counter(
                "sparseclip_chat_images", "Images in conversations.", ["codes"], registry=registry
            ),
        )


class Metrics:
    """All series of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter(
            "sparseclip_calls", "Finished calls.", ["method", "code"], registry=self.registry
        )
        self.items = Counter(
            "sparseclip_items", "Finished items.", ["kind", "code"], registry=self.registry
        )
        self.shortfalls = Counter(
            "sparseclip_input_shortfalls",
            "Inputs of which the model did not read or know all, by what is missing.",
            ["what"],
            registry=self.registry,
        )
        self.seconds = HistogramSeries(
            "sparseclip_call_seconds",
            "Time of a call, from its bytes to its reply.",
            ["method"],
            _SECONDS_BUCKETS,
            self.registry,
        )
        self.in_flight = self._level("sparseclip_calls_in_flight", "Calls in flight.")
        self.bytes_in_flight = self._level(
            "sparseclip_request_bytes_in_flight", "Bytes of requests in flight."
        )
        self.reading = self._level(
            "sparseclip_calls_reading", "Calls whose message is being received."
        )
        self.watches = self._level("sparseclip_health_watches", "Watches of health.")
        self.leases = self._level("sparseclip_model_leases", "Calls that hold a model.")
        self.serving = Gauge(
            "sparseclip_serving", "1 while health says SERVING.", registry=self.registry
        )
        self.decode_workers = Gauge(
            "sparseclip_decode_workers", "Live decode workers.", registry=self.registry
        )
        self.decode_restarts = Counter(
            "sparseclip_decode_restarts",
            "Decode workers that died and were replaced.",
            registry=self.registry,
        )
        self.tokens_rejected = Counter(
            "sparseclip_tokens_file_rejected",
            "Token files that changed and were not valid.",
            registry=self.registry,
        )
        self._queued = self._by_graph("sparseclip_queued_items", "Items that wait for a run.")
        self._slots = self._by_graph(
            "sparseclip_admitted_items", "Items admitted and not yet answered."
        )
        self._batch = HistogramSeries(
            "sparseclip_batch_items",
            "Items per run.",
            ["graph"],
            _BATCH_BUCKETS,
            self.registry,
        )
        self._fill = HistogramSeries(
            "sparseclip_batch_fill",
            "Items per run, over the most that a run may have.",
            ["graph"],
            _FILL_BUCKETS,
            self.registry,
        )
        self._queue_by_priority = HistogramSeries(
            "sparseclip_queue_seconds",
            "Time that an item waited for its run, by the priority of its call.",
            ["graph", "priority"],
            _SECONDS_BUCKETS,
            self.registry,
        )
        self.reply = HistogramSeries(
            "sparseclip_reply_seconds",
            "Time that it took to make a reply of the results.",
            ["method"],
            _SECONDS_BUCKETS,
            self.registry,
        )
        self._stage = HistogramSeries(
            "sparseclip_stage_seconds",
            "Time of an item in a stage.",
            ["graph", "stage"],
            _SECONDS_BUCKETS,
            self.registry,
        )

        self.chat = ChatMetrics.register(self.registry)

    def _level(self, name: str, text: str) -> Level:
        return Level(Gauge(name, text, registry=self.registry))

    def _by_graph(self, name: str, text: str) -> Callable[[str], Level]:
        """A level for each graph, shared by all models."""
        gauge = Gauge(name, text, ["graph"], registry=self.registry)
        return functools.cache(lambda graph: Level(gauge.labels(graph)))

    def batcher(self, graph: str) -> BatcherMetrics:
        """The series of one graph's batcher."""
        return BatcherMetrics(
            queued=self._queued(graph),
            slots=self._slots(graph),
            batch=self._batch.labels(graph),
            fill=self._fill.labels(graph),
            queue=self._stage.labels(graph, "queue"),
            queue_by_priority={
                priority: self._queue_by_priority.labels(graph, priority) for priority in PRIORITIES
            },
            inference=self._stage.labels(graph, "inference"),
            shortfalls=self.shortfalls,
        )

    def decode(self, graph: str) -> LoopHistogram:
        """Seconds of decoding images (`image`) or tokenizing texts (`text`)."""
        return self._stage.labels(graph, "decode")


@dataclass(frozen=True, kw_only=True)
class MetricsServer:
    """The HTTP server of the metrics."""

    server: WSGIServer
    thread: threading.Thread

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server.server_port)

    @classmethod
    def start(cls, metrics: Metrics, host: str, port: int) -> MetricsServer:
        """Starts to listen. Raises StartupError when the port cannot be used."""
        try:
            server, thread = start_http_server(port, addr=host, registry=metrics.registry)
        except OSError:
            raise StartupError(f"metrics_port: cannot listen on port {port}") from None
        return cls(server=server, thread=thread)

    def close(self) -> None:
        """Stops listening."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=5)
