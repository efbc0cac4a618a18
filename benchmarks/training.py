"""Training speed: the sparse against the dense model, and the tiled against the naive loss.

Both models take steps alternately in one run, on synthetic pixels. The memory of a loss is the peak
of one rank (resident set on a CPU, torch's allocations on a GPU) minus what was in use before the
loss; every loss has its own processes. The naive loss is open_clip's, with local_loss and
gather_with_grad.

    python -m benchmarks.training                                # the demo's model, on a CPU
    python -m benchmarks.training --recipe paper_small --batch 4096 --device cuda --peak-tflops 990
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.arguments import above, at_least
from benchmarks.quality.arms import ARMS

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Measures, prints and writes benchmarks/results/training_DEVICE.json."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--batch", type=at_least(1), default=256)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--blocks", type=at_least(1), default=5, help="blocks of steps of each model"
    )
    parser.add_argument("--steps", type=at_least(1), default=3, help="steps per block")
    parser.add_argument("--loss-batch", type=at_least(1), default=512, help="rows per rank")
    parser.add_argument("--loss-concepts", type=at_least(1), default=16384)
    parser.add_argument("--loss-ranks", type=at_least(1), default=4)
    parser.add_argument(
        "--peak-tflops",
        type=above(0),
        help="peak of the device in bf16; the steps' fraction of it is reported",
    )
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    parser.add_argument("--loss", choices=["naive", "tiled"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loss:
        sys.stdout.write(json.dumps({"bytes": loss_memory(arguments)}) + "\n")
        sys.stdout.flush()  # one write per rank, as all ranks share the pipe
        return
    memory = {kind: loss_memory_in_ranks(arguments, kind) for kind in ("naive", "tiled")}
    result = {
        "step": steps(arguments),
        "step_on_cached_views": steps(arguments, cached=True)
        if has_cached_views(arguments)
        else None,
        "loss": {
            "rows_a_rank": arguments.loss_batch,
            "ranks": arguments.loss_ranks,
            "concepts": arguments.loss_concepts,
            "naive_mib": memory["naive"] / 2**20,
            "tiled_mib": memory["tiled"] / 2**20,
            "tiled_over_naive": memory["tiled"] / memory["naive"],
        },
        "machine": machine(arguments.device),
        "arguments": vars(arguments),
    }
    text = json.dumps(result, indent=1)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"training_{arguments.device}.json").write_text(text + "\n")


def has_cached_views(arguments: argparse.Namespace) -> bool:
    """Whether the recipe's steps start after the frozen layers."""
    from training.trainer.training_recipe import TrainingRecipe

    return TrainingRecipe.load(arguments.recipe).data.cached_views > 0


def steps(arguments: argparse.Namespace, cached: bool = False) -> dict[str, Any]:
    """Seconds per step of both models, their ratio, samples/s, and the fraction of the peak."""
    arms = {name: Arm(arguments, ARMS[name], cached) for name in ("sparse", "dense")}
    for arm in arms.values():
        arm.block(1)
    times: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(arguments.blocks):
        for name, arm in arms.items():
            times[name].append(arm.block(arguments.steps))
    ratios = [s / d for s, d in zip(times["sparse"], times["dense"], strict=True)]
    result: dict[str, Any] = {
        "recipe": arguments.recipe,
        "batch": arguments.batch,
        "precision": arms["sparse"].precision,
        "sparse_over_dense": statistics.median(ratios),
        "sparse_over_dense_range": [min(ratios), max(ratios)],
    }
    for name, arm in arms.items():
        seconds = statistics.median(times[name])
        result[name] = {
            "seconds": seconds,
            "samples_per_second": arguments.batch / seconds,
            "flops_per_step": arm.flops,
            "peak_bytes": arm.peak,
        }
        if arguments.peak_tflops:
            flops_per_second = arm.flops / seconds
            result[name]["share_of_peak"] = flops_per_second / (arguments.peak_tflops * 1e12)
    return result


class Arm:
    """One model, its optimiser, and a batch of noise: pixels, or the frozen layers' output for them
    when `cached`."""

    def __init__(self, arguments: argparse.Namespace, changes: list[str], cached: bool) -> None:
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from training.core.distributed import Ranks
        from training.core.optimizer import build_optimizer
        from training.core.precision import autocast, gather_dtype, resolve_precision
        from training.loading.pairs import PairBatch, to_device
        from training.losses import LOSSES
        from training.trainer.step import TrainingStep
        from training.trainer.trained_model import new_model
        from training.trainer.training_recipe import TrainingRecipe

        recipe = TrainingRecipe.load(arguments.recipe, changes)
        self.device = torch.device(arguments.device)
        alone = Ranks(rank=0, count=1, device=self.device)
        self.precision = resolve_precision(arguments.precision, alone)
        torch.manual_seed(0)
        self.model = new_model(recipe).to(self.device).train()
        if recipe.start.freeze_image:
            self.model.image.freeze(recipe.start.unlocked_groups)
        self.optimizer = build_optimizer(self.model, recipe.optimizer)
        side, text = self.model.image.image_size, self.model.text
        pixels = torch.randn(arguments.batch, 3, side, side)
        pixels = to_device(pixels, self.device, recipe.loop.channels_last)
        if recipe.loop.channels_last:
            self.model.image.channels_last()
        if cached:
            with torch.no_grad(), autocast(self.precision, self.device):
                pixels = self.model.image.frozen(pixels)
            self.model.image.reads_frozen = True
        shape = (arguments.batch, text.context_length)
        self.batch = PairBatch(pixels, torch.randint(1, text.vocabulary, shape, device=self.device))
        loss = LOSSES.load(recipe.loop.loss)
        self.step = TrainingStep(
            self.model,
            loss(tile=recipe.loop.tile, gather_dtype=gather_dtype(self.precision)),
            micro_batch=0,
            precision=self.precision,
            device=self.device,
        )
        with FlopCounterMode(display=False) as counter:
            self.step(self.batch)
        self.flops = counter.get_total_flops()
        self.optimizer.zero_grad()
        self.peak = 0

    def block(self, steps: int) -> float:
        """Mean seconds per step over this many steps."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            self.step(self.batch)
            self.optimizer.step()
            self.optimizer.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            self.peak = torch.cuda.max_memory_allocated()
        return (time.perf_counter() - began) / steps


def loss_memory_in_ranks(arguments: argparse.Namespace, kind: str) -> int:
    """The peak memory of a loss in newly started ranks; the highest of all ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(arguments.loss_ranks)]
    command += ["-m", "benchmarks.training", "--loss", kind, "--device", arguments.device]
    command += ["--loss-batch", str(arguments.loss_batch)]
    command += ["--loss-concepts", str(arguments.loss_concepts)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    lines = [line for line in process.stdout.splitlines() if line.startswith("{")]
    return max(int(json.loads(line)["bytes"]) for line in lines)


def loss_memory(arguments: argparse.Namespace) -> int:
    """Peak bytes of a loss and its backward pass, without its inputs and their gradients."""
    import torch

    from training.core.distributed import join_ranks
    from training.core.torchvision_compat import open_clip
    from training.losses.clip import tiled_clip_loss

    with join_ranks(arguments.device) as ranks:
        naive = open_clip().ClipLoss(
            local_loss=True, gather_with_grad=True, rank=ranks.rank, world_size=ranks.count
        )
        loss = naive if arguments.loss == "naive" else tiled_clip_loss
        small = torch.rand(8, 8, requires_grad=True, device=ranks.device)
        scale = torch.tensor(20.0, device=ranks.device, requires_grad=True)
        loss(small, small, scale).backward()  # so that libraries allocate their memory first
        shape = (arguments.loss_batch, arguments.loss_concepts)
        image, text = (torch.rand(shape, device=ranks.device) for _ in range(2))
        for x in (image, text):
            x.requires_grad_().grad = torch.zeros_like(x)
        before = current_bytes(ranks.device)
        loss(image, text, scale).backward()
        return peak_bytes(ranks.device) - before


def current_bytes(device: Any) -> int:
    """Bytes in use; on a GPU, peak_bytes counts from here."""
    import psutil
    import torch

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    return int(psutil.Process().memory_info().rss)


def peak_bytes(device: Any) -> int:
    """The highest number of bytes that were in use."""
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine(device: str) -> dict[str, Any]:
    """The machine that was measured."""
    import torch

    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
