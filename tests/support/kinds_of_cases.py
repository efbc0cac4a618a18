"""How many cases of each kind (docs/promises.md) passed, from the reports of a run."""

from __future__ import annotations

from collections import Counter

import pytest

KIND = "kind of case"
"""A property of a test's report: reports are all that comes back from a worker of pytest-xdist."""


class KindsOfCases:
    """A pytest plugin that prints the table after a run with cases."""

    def __init__(self) -> None:
        self._outcomes: dict[str, Counter[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        kind = dict(report.user_properties).get(KIND)
        if isinstance(kind, str) and (report.when == "call" or report.outcome != "passed"):
            self._outcomes.setdefault(kind, Counter())[report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._outcomes:
            return
        terminalreporter.section("cases by kind")
        for kind in sorted(self._outcomes, key=lambda name: (name[0], int(name[1:]))):
            counts = self._outcomes[kind]
            figures = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
            terminalreporter.write_line(f"{kind:<4} {figures}")
        total = sum(sum(counts.values()) for counts in self._outcomes.values())
        terminalreporter.write_line(f"all  {total}")
