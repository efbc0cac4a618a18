"""A run's log: at each log step a JSON line, TensorBoard scalars, and figures at a progress bar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bundle.progress import show_progress


class RunLog:
    """Writes `log.jsonl` and `tensorboard/` in a run's folder, from one process."""

    def __init__(self, run: Path, *, steps: int, done: int) -> None:
        """Begins or continues the log of a run of which `done` of `steps` are finished."""
        from torch.utils.tensorboard import SummaryWriter

        _drop_lines_after(run / "log.jsonl", done)
        self._file = (run / "log.jsonl").open("a")
        self._tensorboard = SummaryWriter(str(run / "tensorboard"), purge_step=done)
        self._stack = ExitStack()
        self._advance = self._stack.enter_context(
            show_progress("training", steps, "steps", done=done, leave=True)
        )

    def advance(self) -> None:
        """Moves the progress bar by one step."""
        self._advance()

    def write(self, step: int, figures: Mapping[str, float], bar: Mapping[str, str]) -> None:
        """Records the figures of a step, numbered from 1, and shows `bar` at the progress bar."""
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()
        for key, value in figures.items():
            self._tensorboard.add_scalar(key, value, step)
        self._advance(0, ", ".join(f"{name} {value}" for name, value in bar.items()))

    def close(self) -> None:
        """Flushes and closes all three."""
        self._stack.close()
        self._tensorboard.close()
        self._file.close()


def _drop_lines_after(path: Path, step: int) -> None:
    """Removes the lines of steps after the checkpoint that a run resumes from: it repeats them."""
    if path.is_file():
        lines = [x for x in path.read_text().splitlines() if json.loads(x)["step"] <= step]
        path.write_text("".join(x + "\n" for x in lines))
