"""Progress where stderr is no terminal: a bar ends in a line."""

from __future__ import annotations

import pytest

from training.core.progress import progress_bar


@pytest.mark.parametrize(("leave", "last"), [(True, "2 of 4 steps, 50%"), (False, "")])
def test_a_bar_ends_in_a_line(capsys: pytest.CaptureFixture[str], leave: bool, last: str) -> None:
    with progress_bar(4, "step", done=1, leave=leave) as bar:
        bar.update()
    assert capsys.readouterr().err.startswith(last)
