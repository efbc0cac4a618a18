"""A run's log: at each log step a JSON line, TensorBoard scalars, and figures at a progress bar."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from bundle.progress import show_progress
from training.core.resume import TrainingError


class RunLog:
    """Writes `log.jsonl` and `tensorboard/` in a run's folder, from one process."""

    def __init__(self, run: Path, *, steps: int, done: int) -> None:
        """Begins or continues the log of a run of which `done` of `steps` are finished.

        Raises TrainingError while another process writes it: two would take the other's checkpoints
        away.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._file = (run / "log.jsonl").open("a+")
        self._lock(run.name)
        _drop_lines_after(self._file, done)
        self._tensorboard = SummaryWriter(str(run / "tensorboard"), purge_step=done)
        self._stack = ExitStack()
        self._advance = self._stack.enter_context(
            show_progress("training", steps, "steps", done=done, leave=True)
        )

    def _lock(self, name: str) -> None:
        """The lock ends with the file, however the process ends."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise TrainingError(f"--output: another process trains in {name}") from None
        except OSError:  # a file system without locks
            return

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


def _drop_lines_after(file: TextIO, step: int) -> None:
    """Removes the lines of steps after the checkpoint that a run resumes from: it repeats them. A
    line that a full disk has cut goes, too."""
    file.seek(0)
    lines = file.readlines()
    kept = [line for line in lines if _is_until(line, step)]
    if kept != lines:
        file.truncate(0)
        file.writelines(kept)
        file.flush()


def _is_until(line: str, step: int) -> bool:
    try:
        return line.endswith("\n") and int(json.loads(line)["step"]) <= step
    except (ValueError, TypeError, KeyError):
        return False
