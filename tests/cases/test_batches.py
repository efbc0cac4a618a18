"""An image has the same code in whatever batch it is run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.serving.support.running_server import PNG, embed_request, encoded_image, serving

BOUND = 1e-6
"""What docs/serving.md promises."""


@pytest.mark.kind("K7")
async def test_a_code_does_not_depend_on_its_neighbours(tiny_bundle: Path) -> None:
    async with serving(tiny_bundle, batch={"max_images": 16}) as running:
        alone = (await running.stub.Embed(embed_request(PNG), timeout=30)).results[0].sparse
        for count in (1, 2, 7, 15):
            running.engine.sizes.clear()
            others = [encoded_image(seed) for seed in range(1, count + 1)]
            reply = await running.stub.Embed(embed_request(*others, PNG), timeout=30)
            code = reply.results[count].sparse
            assert list(code.indices) == list(alone.indices)
            np.testing.assert_allclose(code.values, alone.values, rtol=0, atol=BOUND)
