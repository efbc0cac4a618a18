"""The process group of a run: one process alone, or the ranks that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Where this process stands among all of the run."""

    rank: int
    count: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """True for the one process that logs and writes."""
        return self.rank == 0

    def total(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of `x` over ranks."""
        if self.count > 1:
            dist.all_reduce(x)
        return x

    def wait(self) -> None:
        """Returns once every rank has come here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def ranks(device: str = "auto") -> Iterator[Ranks]:
    """Joins torchrun's group when its environment is there (nccl on GPUs, gloo on CPUs).

    `device` is auto, cpu or cuda. Raises ValueError when cuda is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ValueError("loop.device: no CUDA device here")
    use_cuda = has_cuda and device != "cpu"
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = torch.device("cuda", local) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(place)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(rank=0, count=1, device=place)
        return
    dist.init_process_group("nccl" if use_cuda else "gloo")
    try:
        yield Ranks(rank=dist.get_rank(), count=dist.get_world_size(), device=place)
    finally:
        dist.destroy_process_group()
