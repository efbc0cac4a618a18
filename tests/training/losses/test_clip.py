"""The tiled loss is open_clip's loss, value and gradients."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.paths import ROOT
from tests.training.conftest import environment
from training.core.torchvision_compat import open_clip
from training.losses.clip import tiled_clip_loss
from training.model.sparse_clip import normalize


def rows(seed: int, batch: int = 24, concepts: int = 160) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(batch, concepts, generator=generator).relu()
    text = torch.randn(batch, concepts, generator=generator).relu()
    return image.requires_grad_(), text.requires_grad_(), torch.tensor(17.0, requires_grad=True)


@pytest.mark.parametrize("tile", [5, 24, 100])
def test_value_and_gradients_equal_open_clip(tile: int) -> None:
    ours, theirs = rows(0), rows(0)
    reference = open_clip().ClipLoss()(normalize(theirs[0]), normalize(theirs[1]), theirs[2])
    loss = tiled_clip_loss(normalize(ours[0]), normalize(ours[1]), ours[2], tile=tile)
    for value in (reference, loss):
        value.backward()
    torch.testing.assert_close(loss, reference)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_zero_row_is_not_nan() -> None:
    image, text, scale = rows(1)
    with torch.no_grad():
        image[3] = 0
    loss = tiled_clip_loss(normalize(image), normalize(text), scale)
    loss.backward()
    assert torch.isfinite(loss)
    assert image.grad is not None
    assert torch.isfinite(image.grad).all()


RANK = """
import json, sys, torch
import torch.distributed as dist
from tests.training.losses.test_clip import rows
from training.losses.clip import tiled_clip_loss
from training.model.sparse_clip import normalize
dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
image, text, scale = rows(0)
share = len(image) // ranks
mine = slice(rank * share, (rank + 1) * share)
loss = tiled_clip_loss(normalize(image[mine]), normalize(text[mine]), scale, tile=7)
loss.backward()
values = [loss.detach(), scale.grad]
for x in values: dist.all_reduce(x)
grads = [image.grad, text.grad]
for x in grads: dist.all_reduce(x)
if rank == 0:
    means = [x / ranks for x in (*values, *grads)]
    names = ("loss", "scale", "image", "text")
    print("RESULT" + json.dumps({n: x.tolist() for n, x in zip(names, means)}))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_agree_with_one_process(ranks: int, tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
         str(ranks), str(script)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**environment(), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.split("RESULT")[1])
    image, text, scale = rows(0)
    loss = open_clip().ClipLoss()(normalize(image), normalize(text), scale)
    loss.backward()
    torch.testing.assert_close(torch.tensor(result["loss"]), loss.detach())
    torch.testing.assert_close(torch.tensor(result["scale"]), scale.grad)
    torch.testing.assert_close(torch.tensor(result["image"]), image.grad)
    torch.testing.assert_close(torch.tensor(result["text"]), text.grad)
