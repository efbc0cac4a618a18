"""What each of several ranks does in `test_distributed.py`: the loss alone, and whole runs.

Starting ranks takes seconds, so one start does all of it. A process joins the ranks once: a second
process group would find in the store what the first one wrote.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest import mock

import torch.distributed as dist

from bundle.plugins import Plugin
from tests.training.losses.test_clip import CAPTIONS, rows
from training.cli.train import train
from training.core.distributed import Ranks, join_ranks
from training.losses import LOSSES
from training.losses.clip import tiled_clip_loss
from training.model.sparse_clip import normalize


def loss_and_gradients(ranks: Ranks, masked: bool) -> dict[str, object]:
    """Of a batch that is cut into equal shares, one for each rank; means over ranks."""
    image, text, scale = rows(0)
    share = len(image) // ranks.count
    mine = slice(ranks.rank * share, (ranks.rank + 1) * share)
    captions = CAPTIONS[mine] if masked else None
    loss = tiled_clip_loss(normalize(image[mine]), normalize(text[mine]), scale, captions, tile=7)
    loss.backward()
    found = {"loss": loss.detach(), "scale": scale.grad, "image": image.grad, "text": text.grad}
    means = {}
    for name, x in found.items():
        assert x is not None
        means[name] = (ranks.total(x) / ranks.count).tolist()
    return means


def main(folder: Path) -> None:
    """Writes `plain.json`, `masked.json`, and a run for each recipe that is in the folder."""
    plugin = Plugin("tests.training.losses.test_own_parameters:PairwiseLoss")
    LOSSES.table["pairwise"] = plugin
    with join_ranks("cpu") as ranks:
        for kind in ("plain", "masked"):
            result = loss_and_gradients(ranks, kind == "masked")
            if ranks.is_first:
                (folder / f"{kind}.json").write_text(json.dumps(result))
        joined = mock.patch.multiple(dist, init_process_group=done, destroy_process_group=done)
        with joined:
            for recipe in sorted(folder.glob("*.yaml")):
                run = folder / recipe.stem
                train([str(recipe), "--output", str(run)], standalone_mode=False)


def done(*_: object) -> None:
    """The ranks have joined, and leave at the end."""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
