"""Lines of what fails once per item: some in full, then counts, and none is lost."""

from __future__ import annotations

import logging
import re
import threading
import time

import pytest

from bundle import bounded_log
from bundle.bounded_log import BoundedLog

LOG = logging.getLogger(__name__)
FIRST, EVERY_S = 3, 0.05


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_log, "FIRST_LINES", FIRST)
    monkeypatch.setattr(bounded_log, "EVERY_S", EVERY_S)


def counted(lines: list[str]) -> int:
    """How many lines these stand for."""
    told = [re.match(r"([\d,]+) more lines like this one: ", line) for line in lines]
    return sum(int(match[1].replace(",", "")) if match else 1 for match in told)


def test_a_flood_is_a_few_lines_and_all_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    log, ends = BoundedLog(LOG), time.monotonic() + 4 * EVERY_S

    def flood() -> None:
        while time.monotonic() < ends:
            log.error("engine: %s", "broken")
            numbers.append(1)

    numbers: list[int] = []
    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    lines = caplog.messages
    assert lines[:FIRST] == ["engine: broken"] * FIRST
    assert counted(lines) == len(numbers)
    assert lines[-1].endswith(" more lines like this one: engine: broken")
    assert len(numbers) > 100
    assert len(lines) <= FIRST + 6


def test_a_count_is_written_though_nothing_follows(caplog: pytest.LogCaptureFixture) -> None:
    log = BoundedLog(LOG)
    for number in range(FIRST + 2):
        log.write(logging.WARNING, "chat: %d", number)
    ends = time.monotonic() + 10
    while len(caplog.messages) == FIRST and time.monotonic() < ends:
        time.sleep(0.005)
    assert caplog.messages[FIRST:] == ["2 more lines like this one: chat: 4"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    time.sleep(2 * EVERY_S)  # after a pause all begins again
    log.error("decode: %s", "dead")
    assert caplog.messages[-1] == "decode: dead"
    log.close()
    assert len(caplog.messages) == FIRST + 2


def test_an_error_has_its_traceback_and_in_a_count_its_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = BoundedLog(LOG)
    for _ in range(FIRST + 1):
        log.write(logging.ERROR, "internal error", error=KeyError("field"))
    log.close()
    assert [bool(record.exc_info) for record in caplog.records] == [True] * FIRST + [False]
    assert caplog.messages[-1] == "1 more lines like this one: internal error: KeyError('field')"
