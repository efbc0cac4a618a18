"""The CLIP loss over wide codes without the wide copies. b rows a rank, B = b * ranks, C concepts.

The gathered features of a batch are B x C numbers a modality, which at C = 55,296 is what fills a
GPU, and the logits are B x B. Neither is kept here: the loss walks over the ranks' texts, one block
at a time, in tiles of rows, keeps the log-sum-exp of each row and column only, and computes each
tile again in the backward pass. The value and the gradients are those of open_clip's ClipLoss with
local_loss and gather_with_grad.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from training.losses.base import Loss


class ClipLoss(Loss):
    """The symmetric cross entropy of CLIP (arXiv 2103.00020, section 2.3)."""

    def __call__(
        self,
        image: Float[Tensor, "b C"],
        text: Float[Tensor, "b C"],
        scale: Float[Tensor, ""],
        parameters: Mapping[str, Float[Tensor, ""]],
    ) -> Float[Tensor, ""]:
        """See Loss."""
        return tiled_clip_loss(image, text, scale, tile=self.tile, gather_dtype=self.gather_dtype)


def tiled_clip_loss(
    image: Float[Tensor, "b C"],
    text: Float[Tensor, "b C"],
    scale: Float[Tensor, ""],
    *,
    tile: int = 1024,
    gather_dtype: torch.dtype | None = None,
) -> Float[Tensor, ""]:
    """This rank's share of the CLIP loss over all ranks; rows of unit length, same b on each rank.

    The mean over ranks is the global loss, and so are the gradients once DistributedDataParallel
    has averaged them. `tile` is the rows and columns of logits that exist at a time. Features
    travel between ranks as `gather_dtype` (their own type when None).
    """
    return cast(Tensor, _Tiled.apply(image, text, scale, tile, gather_dtype))  # type: ignore[no-untyped-call]


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        tile: int,
        gather_dtype: torch.dtype | None,
    ) -> Tensor:
        rank, ranks = _place()
        b = len(image)
        row_lse = image.new_full((b,), -torch.inf, dtype=torch.float32)
        column_lse = image.new_full((ranks, b), -torch.inf, dtype=torch.float32)
        for q in range(ranks):
            block = _broadcast(text, q, gather_dtype)
            for rows, columns in _tiles(b, tile):
                logits = (image[rows] @ block[columns].T).float() * scale
                row_lse[rows] = torch.logaddexp(row_lse[rows], logits.logsumexp(1))
                column_lse[q, columns] = torch.logaddexp(
                    column_lse[q, columns], logits.logsumexp(0)
                )
        column_lse = _logsumexp_over_ranks(column_lse)
        diagonal: Tensor = torch.linalg.vecdot(image, text).float() * scale
        ctx.save_for_backward(image, text, scale, row_lse, column_lse)
        ctx.tile, ctx.gather_dtype = tile, gather_dtype
        return ((row_lse - diagonal).mean() + (column_lse[rank] - diagonal).mean()) / 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        image, text, scale, row_lse, column_lse = ctx.saved_tensors
        rank, ranks = _place()
        b = len(image)
        image_grad = torch.zeros_like(image, dtype=torch.float32)
        text_grad = torch.zeros_like(text, dtype=torch.float32)
        scale_grad = torch.zeros((), device=image.device)
        for q in range(ranks):
            block = _broadcast(text, q, ctx.gather_dtype)
            block_grad = text_grad if ranks == 1 else torch.zeros_like(text_grad)
            for rows, columns in _tiles(b, ctx.tile):
                cosine = (image[rows] @ block[columns].T).float()
                logits = cosine * scale
                slope = (logits - row_lse[rows, None]).exp_()
                slope += (logits - column_lse[q, columns]).exp_()
                if q == rank and rows == columns:
                    slope.diagonal().sub_(2)
                slope /= 2 * b
                scale_grad += (slope * cosine).sum()
                slope = (slope * scale).to(image.dtype)
                if slope.dtype == image_grad.dtype:  # no product of its own in memory
                    image_grad[rows].addmm_(slope, block[columns])
                    block_grad[columns].addmm_(slope.T, image[rows])
                else:
                    image_grad[rows] += slope @ block[columns]
                    block_grad[columns] += slope.T @ image[rows]
            if ranks > 1:
                dist.reduce(block_grad, q)
                if q == rank:
                    text_grad = block_grad
        return (
            image_grad.mul_(grad).to(image.dtype),
            text_grad.mul_(grad).to(text.dtype),
            (scale_grad * grad).to(scale.dtype),
            None,
            None,
        )


def _place() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _broadcast(local: Tensor, q: int, dtype: torch.dtype | None) -> Tensor:
    rank, ranks = _place()
    if ranks == 1:
        return local
    block = local.detach().to(dtype or local.dtype).contiguous()
    block = block.clone() if q == rank else torch.empty_like(block)
    dist.broadcast(block, q)
    return block.to(local.dtype)


def _tiles(b: int, tile: int) -> list[tuple[slice, slice]]:
    edges = [slice(i, min(i + tile, b)) for i in range(0, b, tile)]
    return [(rows, columns) for rows in edges for columns in edges]


def _logsumexp_over_ranks(partial: Tensor) -> Tensor:
    if _place()[1] == 1:
        return partial
    peak = partial.clone()
    dist.all_reduce(peak, dist.ReduceOp.MAX)
    total = (partial - peak).exp()
    dist.all_reduce(total)
    return peak + total.log()
