"""The processes of a run: one alone, or the ranks that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """All processes of a run, as one of them sees them."""

    rank: int
    """This process's number, from 0."""
    count: int
    device: torch.device
    """This process's device."""

    @property
    def is_first(self) -> bool:
        """True for the one process that logs and writes."""
        return self.rank == 0

    def total(self, x: torch.Tensor) -> torch.Tensor:
        """The sum of `x` over ranks, which is also written into `x`."""
        if self.count > 1:
            dist.all_reduce(x)
        return x

    def wait(self) -> None:
        """Returns once every rank has called it."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def join_ranks(device: str = "auto") -> Iterator[Ranks]:
    """Joins torchrun's process group if its environment variables are set, else runs alone.

    `device` is auto, cpu or cuda. GPUs communicate by nccl, CPUs by gloo. Raises ValueError when
    cuda is asked for and there is no such device.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ValueError("loop.device: no CUDA device here")
    use_cuda = has_cuda and device != "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    own_device = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(own_device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(rank=0, count=1, device=own_device)
        return
    dist.init_process_group("nccl" if use_cuda else "gloo")
    try:
        yield Ranks(rank=dist.get_rank(), count=dist.get_world_size(), device=own_device)
    finally:
        dist.destroy_process_group()
