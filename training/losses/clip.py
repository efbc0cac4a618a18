"""The CLIP loss over wide codes, in tiles. b rows on a rank, R ranks, B = b * R, C concepts.

The gathered features of a batch are B x C numbers per modality, which at C = 55,296 fill a GPU, and
the logits are B x B. Neither is kept here. The loss visits the texts of one rank after another,
computes their logits in tiles, keeps only the log-sum-exp of each row and column, and computes each
tile again in the backward pass. Value and gradients equal those of open_clip's ClipLoss with
local_loss and gather_with_grad, apart from rows of equal captions, which are masked on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
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
        captions: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, ""]:
        """See Loss."""
        return tiled_clip_loss(
            image, text, scale, captions, tile=self.tile, gather_dtype=self.gather_dtype
        )


def tiled_clip_loss(
    image: Float[Tensor, "b C"],
    text: Float[Tensor, "b C"],
    scale: Float[Tensor, ""],
    captions: Int[Tensor, " b"] | None = None,
    *,
    tile: int = 1024,
    gather_dtype: torch.dtype | None = None,
) -> Float[Tensor, ""]:
    """This rank's part of the CLIP loss over all ranks, for rows of unit length.

    b must be the same on each rank. The mean over ranks is the global loss, and so are the
    gradients once DistributedDataParallel has averaged them. At most tile x tile logits exist at a
    time. Features travel between ranks as `gather_dtype`, or as they are when it is None. Rows
    whose `captions` are equal are not each other's negatives: both sums leave their logits out.
    """
    arguments = (image, text, scale, captions, tile, gather_dtype)
    return cast(Tensor, _TiledClipLoss.apply(*arguments))  # type: ignore[no-untyped-call]


class _TiledClipLoss(torch.autograd.Function):
    """With logits l_ij = scale * cosine_ij, this rank's loss is the mean over its b pairs of
    (row_lse_i - l_ii + column_lse_i - l_ii) / 2."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        text: Tensor,
        scale: Tensor,
        captions: Tensor | None,
        tile: int,
        gather_dtype: torch.dtype | None,
    ) -> Tensor:
        rank, ranks = _rank_and_count()
        b = len(image)
        # The log-sum-exp so far: (b,) of this rank's images over all B texts, and (R, b) of all B
        # texts over this rank's images. logaddexp adds a tile without keeping its logits.
        row_lse = image.new_full((b,), -torch.inf, dtype=torch.float32)
        column_lse = image.new_full((ranks, b), -torch.inf, dtype=torch.float32)
        for owner in range(ranks):
            owner_text = _broadcast(text, owner, gather_dtype)  # (b, C)
            same = _same_captions(captions, owner)
            for rows, columns in _tiles(b, tile):
                logits = (image[rows] @ owner_text[columns].T).float() * scale
                if same is not None:
                    logits.masked_fill_(same(rows, columns), -torch.inf)
                row_lse[rows] = torch.logaddexp(row_lse[rows], logits.logsumexp(1))
                column_lse[owner, columns] = torch.logaddexp(
                    column_lse[owner, columns], logits.logsumexp(0)
                )
        # Rows are complete: all texts came by. Columns lack the other ranks' images.
        column_lse = _logsumexp_over_ranks(column_lse)
        diagonal: Tensor = torch.linalg.vecdot(image, text).float() * scale
        ctx.save_for_backward(image, text, scale, row_lse, column_lse)
        ctx.captions, ctx.tile, ctx.gather_dtype = captions, tile, gather_dtype
        return ((row_lse - diagonal).mean() + (column_lse[rank] - diagonal).mean()) / 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        image, text, scale, row_lse, column_lse = ctx.saved_tensors
        rank, ranks = _rank_and_count()
        b = len(image)
        # In float32, as up to B / tile products are added up.
        image_grad = torch.zeros_like(image, dtype=torch.float32)
        text_grad = torch.zeros_like(text, dtype=torch.float32)
        scale_grad = torch.zeros((), device=image.device)
        for owner in range(ranks):
            owner_text = _broadcast(text, owner, ctx.gather_dtype)
            same = _same_captions(ctx.captions, owner)
            owner_grad = text_grad if ranks == 1 else torch.zeros_like(text_grad)
            for rows, columns in _tiles(b, ctx.tile):
                cosine = (image[rows] @ owner_text[columns].T).float()
                logits = cosine * scale
                if same is not None:  # the slope of a masked logit is exp(-inf) = 0
                    logits.masked_fill_(same(rows, columns), -torch.inf)
                # The derivative by l_ij of the sum of all ranks' losses:
                # (softmax over row i + softmax over column j - 2 where i and j are a pair) / 2b.
                # So each rank computes the gradient by its images without communication.
                slope = (logits - row_lse[rows, None]).exp_()
                slope += (logits - column_lse[owner, columns]).exp_()
                if owner == rank and rows == columns:
                    slope.diagonal().sub_(2)
                slope /= 2 * b
                scale_grad += (slope * cosine).sum()  # of this rank's rows; the ranks' are averaged
                slope = (slope * scale).to(image.dtype)  # now the derivative by cosine_ij
                if slope.dtype == image_grad.dtype:  # addmm_ needs no memory for the product
                    image_grad[rows].addmm_(slope, owner_text[columns])
                    owner_grad[columns].addmm_(slope.T, image[rows])
                else:
                    image_grad[rows] += slope @ owner_text[columns]
                    owner_grad[columns] += slope.T @ image[rows]
            if ranks > 1:  # every rank's images add to the gradient of the owner's texts
                dist.reduce(owner_grad, owner)
                if owner == rank:
                    text_grad = owner_grad
        return (
            image_grad.mul_(grad).to(image.dtype),
            text_grad.mul_(grad).to(text.dtype),
            (scale_grad * grad).to(scale.dtype),
            None,
            None,
            None,
        )


def _same_captions(captions: Tensor | None, owner: int) -> Callable[[slice, slice], Tensor] | None:
    """A function that marks, in a tile of this rank's images and the owner's texts, other pairs of
    the same caption. None when they are not to be masked."""
    if captions is None:
        return None
    is_own = owner == _rank_and_count()[0]
    of_owner = _broadcast(captions, owner, None)

    def same(rows: slice, columns: slice) -> Tensor:
        equal = captions[rows, None] == of_owner[None, columns]
        if is_own and rows == columns:
            equal.fill_diagonal_(False)  # a pair itself
        return equal

    return same


def _rank_and_count() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _broadcast(local: Tensor, owner: int, dtype: torch.dtype | None) -> Tensor:
    """The `local` of the rank `owner`, on every rank; all have one shape."""
    rank, ranks = _rank_and_count()
    if ranks == 1:
        return local
    features = local.detach().to(dtype or local.dtype).contiguous()
    # The owner sends a copy: without a change of type `features` is `local` itself.
    features = features.clone() if owner == rank else torch.empty_like(features)
    dist.broadcast(features, owner)
    return features.to(local.dtype)


def _tiles(b: int, tile: int) -> list[tuple[slice, slice]]:
    """The rows and columns of each tile of b x b logits."""
    edges = [slice(i, min(i + tile, b)) for i in range(0, b, tile)]
    return [(rows, columns) for rows in edges for columns in edges]


def _logsumexp_over_ranks(partial: Tensor) -> Tensor:
    """The log of the ranks' summed exponentials, scaled by their maximum against overflow."""
    if _rank_and_count()[1] == 1:
        return partial
    maximum = partial.clone()
    dist.all_reduce(maximum, dist.ReduceOp.MAX)
    total = (partial - maximum).exp()
    dist.all_reduce(total)
    return maximum + total.log()
