"""A browser, and a server of the shipped bundle with chat, for all tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving.studio.browser import StudioPage, chromium, server, tab
from tests.support.paths import ROOT


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; without it the test is skipped."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def studio_address(browser: Any) -> Iterator[str]:
    """Where the shipped bundle's studio is."""
    with server(ROOT / "models" / "demo") as address:
        yield address


@pytest.fixture
def studio_page(browser: Any, studio_address: str) -> Iterator[StudioPage]:
    """The studio, open on its first picture."""
    with tab(browser, studio_address) as page:
        page.open()
        yield page
        page.check()
