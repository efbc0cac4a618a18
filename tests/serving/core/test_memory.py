"""What is garbage is freed, however many models are loaded and freed at the same time."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

from serving.core.memory import settle_memory


class _Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_two_that_settle_at_once_free_what_both_left() -> None:
    collecting, other_began = threading.Event(), threading.Event()

    def hold(phase: str, _: dict[str, int]) -> None:
        if phase == "start" and not collecting.is_set():
            collecting.set()
            other_began.wait(1)  # the other thread is in settle_memory, or waits for its turn

    def settle_again() -> None:
        assert collecting.wait(10)
        threading.Timer(0.2, other_began.set).start()
        settle_memory()
        other_began.set()

    gc.disable()  # only settle_memory collects
    gc.callbacks.append(hold)
    try:
        left = weakref.ref(_Circle())
        other = threading.Thread(target=settle_again)
        other.start()
        settle_memory()
        other.join(10)
    finally:
        gc.callbacks.remove(hold)
        gc.enable()
    assert left() is None
