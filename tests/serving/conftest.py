"""One server for all tests of a module that do not need their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.serving.support.running_server import Running, serving


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tiny_bundle: Path) -> AsyncIterator[Running]:
    """A server with default limits. Tests that use it need `loop_scope="module"`."""
    async with serving(tiny_bundle) as running:
        yield running
