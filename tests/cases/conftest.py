"""Every case names its kind: the table that tests/conftest.py prints counts all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.kinds_of_cases import KIND


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        marker = item.get_closest_marker("kind")
        if marker is None:
            raise pytest.UsageError(f"{item.nodeid}: mark it with pytest.mark.kind('K...')")
        item.user_properties.append((KIND, marker.args[0]))
