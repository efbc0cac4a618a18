"""How items end, for Prometheus: whatever protocol asked for them."""

from __future__ import annotations

from serving.batching.item_results import ItemResult
from serving.core.errors import ServingError
from serving.core.metrics import Metrics
from serving.core.requests import EmbedItem, ImageItem
from serving.rpc.error_to_status import CODES


def count_item(metrics: Metrics, item: EmbedItem, result: ItemResult) -> None:
    """Counts an item by its kind and its outcome."""
    kind = "image" if isinstance(item, ImageItem) else "text"
    code = CODES[result.kind].name if isinstance(result, ServingError) else "OK"
    metrics.items.labels(kind, code).inc()
