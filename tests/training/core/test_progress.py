"""Progress where stderr is no terminal: lines, also during one long step, and one at the end."""

from __future__ import annotations

import threading

import pytest

from training.core import progress


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)


@pytest.mark.usefixtures("_quick")
def test_lines_are_written_while_a_step_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    written = threading.Event()

    def line() -> str:
        written.set()
        return "still here"

    with progress.progress_lines(line):
        assert written.wait(10)
    assert capsys.readouterr().err.startswith("still here\n")


@pytest.mark.parametrize(("leave", "last"), [(True, "2 of 4 steps, 50%"), (False, "")])
def test_a_bar_ends_in_a_line(capsys: pytest.CaptureFixture[str], leave: bool, last: str) -> None:
    with progress.progress_bar(4, "step", done=1, leave=leave) as bar:
        bar.update()
    assert capsys.readouterr().err.startswith(last)


@pytest.mark.usefixtures("_quick")
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
    with progress.progress_lines(lambda: "a line"):
        assert asked.acquire(timeout=10)
        assert asked.acquire(timeout=10)
