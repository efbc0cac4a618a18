"""A run's record: a JSON line, TensorBoard scalars and a progress bar at each log step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm


class Journal:
    """Writes `log.jsonl` and `tensorboard/` in a run's folder, from one process."""

    def __init__(self, run: Path, *, steps: int, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._trim(run / "log.jsonl", done)
        self._file = (run / "log.jsonl").open("a")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=done)
        self._bar = tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True)

    def advance(self) -> None:
        """Counts one finished step."""
        self._bar.update()

    def write(self, step: int, line: Mapping[str, float], shown: Mapping[str, str]) -> None:
        """Records figures of a step (numbered from 1); `shown` goes beside the bar."""
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        self._file.flush()
        for key, value in line.items():
            self._board.add_scalar(key, value, step)
        self._bar.set_postfix(shown)

    def close(self) -> None:
        """Flushes everything."""
        self._bar.close()
        self._board.close()
        self._file.close()

    @staticmethod
    def _trim(path: Path, done: int) -> None:
        """Drops lines past the checkpoint that the run resumes from: those steps come again."""
        if path.is_file():
            lines = [x for x in path.read_text().splitlines() if json.loads(x)["step"] <= done]
            path.write_text("".join(x + "\n" for x in lines))
