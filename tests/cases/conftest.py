"""Counts the cases of each kind and prints the table after a run of tests/cases alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

_KIND = pytest.StashKey[str]()
_OUTCOMES = pytest.StashKey[dict[str, Counter[str]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_OUTCOMES] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every case names its kind: the table of kinds must count all of them."""
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        marker = item.get_closest_marker("kind")
        if marker is None:
            raise pytest.UsageError(f"{item.nodeid}: mark it with pytest.mark.kind('K...')")
        item.stash[_KIND] = marker.args[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    kind = item.stash.get(_KIND, None)
    if kind is not None and (report.when == "call" or report.outcome != "passed"):
        item.config.stash[_OUTCOMES].setdefault(kind, Counter())[report.outcome] += 1
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    outcomes = config.stash[_OUTCOMES]
    if not outcomes:
        return
    terminalreporter.section("cases by kind")
    for kind in sorted(outcomes, key=lambda name: (name[0], int(name[1:]))):
        counts = outcomes[kind]
        figures = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        terminalreporter.write_line(f"{kind:<4} {figures}")
    total = sum(sum(counts.values()) for counts in outcomes.values())
    terminalreporter.write_line(f"all  {total}")
