"""Every case names its kind: the table that tests/conftest.py prints counts all of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.support.kinds_of_cases import KIND

if TYPE_CHECKING:
    from tests.serving.support.running_server import Running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        marker = item.get_closest_marker("kind")
        if marker is None:
            raise pytest.UsageError(f"{item.nodeid}: mark it with pytest.mark.kind('K...')")
        item.user_properties.append((KIND, marker.args[0]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A server with a token file and an admin port, and few slots for calls."""
    from tests.serving.support.certificates import ROOT, write_tokens
    from tests.serving.support.running_server import serving

    tokens = write_tokens(tmp_path_factory.mktemp("tokens") / "tokens.json")
    async with serving(
        tiny_bundle,
        token=ROOT,
        tokens=str(tokens),
        admin_port=0,
        reflection=True,
        limits={"calls_in_flight": 8, "watches": 4, "calls_reading": 4},
    ) as running:
        yield running


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Any:
    """No caller can make the server log an error or a traceback."""
    yield
    for record in caplog.get_records("call"):
        assert record.levelno < logging.ERROR, record.getMessage()
