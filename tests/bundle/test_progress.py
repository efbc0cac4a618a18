"""Lines where stderr is no terminal: also during one long step, and when nobody reads them."""

from __future__ import annotations

import threading

import pytest

from bundle import progress


def test_lines_are_written_while_a_step_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    written = threading.Event()

    def line() -> str:
        written.set()
        return "still here"

    with progress.progress_lines(line, interval=0.01):
        assert written.wait(10)
    assert capsys.readouterr().err.startswith("still here\n")


def test_a_reader_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Semaphore(0)

    class Closed:
        def isatty(self) -> bool:
            return False

        def write(self, _: str) -> int:
            asked.release()
            raise BrokenPipeError

        def flush(self) -> None: ...

    monkeypatch.setattr(progress.sys, "stderr", Closed())
    with progress.progress_lines(lambda: "a line", interval=0.01):
        assert asked.acquire(timeout=10)
        assert asked.acquire(timeout=10)
