"""One server with an HTTP port for all tests of a module that do not need their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.serving.http.support import WebServer, web


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_web(tiny_bundle: Path) -> AsyncIterator[WebServer]:
    """A server with default limits. Tests that use it need `loop_scope="module"`."""
    async with web(tiny_bundle) as opened:
        yield opened
