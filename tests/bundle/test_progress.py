"""Progress: a bar on a terminal, lines elsewhere; also during one long step, and when nobody reads
them."""

from __future__ import annotations

import io
import threading

import pytest

from bundle import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("leave", "last"), [(True, "training: 2 of 2 steps, loss 0.1, 0 s\n"), (False, "")]
)
def test_what_is_left_is_a_line(capsys: pytest.CaptureFixture[str], leave: bool, last: str) -> None:
    with progress.show_progress("training", 2, "steps", done=1, leave=leave) as advance:
        advance(note="loss 0.1")
    assert capsys.readouterr().err == last


def test_a_terminal_has_bars_one_inside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys, "stderr", terminal := Terminal())
    with progress.show_progress("training", 4, "steps", done=1, leave=True) as outer:
        with progress.show_progress("[train]", None, "images") as inner:
            inner(7)
        outer(3, "loss [0.1]")
    shown = terminal.getvalue()
    assert "training 4 of 4 steps" in shown
    assert "loss [0.1]" in shown
    assert "[train] 7 images" in shown


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
    with progress.show_progress("a line", None, interval=0.01, leave=True):
        assert asked.acquire(timeout=10)
        assert asked.acquire(timeout=10)
