"""The metrics of a server, over HTTP."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from tests.serving.support.running_server import PNG, embed_request, refused, serving


async def test_metrics_have_a_port_of_their_own(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle, metrics_port=0) as running:
        await running.golden()
        await refused(running.stub.Embed(embed_request()))
        await running.stub.Embed(embed_request(PNG, b"no image", texts=("star " * 40,)))
        address = f"http://{running.server.metrics_address}/metrics"
        text = urllib.request.urlopen(address).read().decode()
    method = 'method="/sparseclip.v1.EmbeddingService/Embed"'
    # Stages also count what warms a model up: an image, and a text twice.
    for line in (
        f'sparseclip_calls_total{{code="OK",{method}}} 2.0',
        f'sparseclip_calls_total{{code="INVALID_ARGUMENT",{method}}} 1.0',
        'sparseclip_items_total{code="OK",kind="image"} 2.0',
        'sparseclip_items_total{code="OK",kind="text"} 2.0',
        'sparseclip_input_shortfalls_total{what="truncated"} 1.0',
        'sparseclip_items_total{code="INVALID_ARGUMENT",kind="image"} 1.0',
        'sparseclip_batch_items_count{graph="image"} 3.0',
        'sparseclip_stage_seconds_count{graph="text",stage="decode"} 4.0',
        'sparseclip_stage_seconds_count{graph="image",stage="inference"} 3.0',
        'sparseclip_stage_seconds_count{graph="image",stage="queue"} 3.0',
        'sparseclip_queued_items{graph="image"} 0.0',
        'sparseclip_admitted_items{graph="image"} 0.0',
        "sparseclip_calls_in_flight 0.0",
        "sparseclip_serving 1.0",
    ):
        assert line in text, line
