"""The sparse head: a wide projection and a ReLU. B batch, P patches, W tower width, C concepts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PATCH_CODES_PER_SLICE = 2**26
"""Patch codes that exist at a time while they are pooled; a slice is computed again in the backward
pass."""


class RepReLU(torch.autograd.Function):
    """ReLU forward, GELU's gradient backward, so that a dead concept still gets a gradient.

    Non-negative Contrastive Learning (ICLR 2024), `rep_relu`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return F.relu(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        slope: Tensor = torch.ops.aten.gelu_backward(grad, x)
        return slope


class SparseHead(nn.Module):
    """Features to codes: relu(x A + b), where A is (W, C) or, stacked, the product of (W, D) and
    (D, C).

    With `relu` off, C = D and no b, this is CLIP's own projection. A negative b makes codes sparse
    from the first step.
    """

    def __init__(
        self,
        width: int,
        embed_dim: int,
        concepts: int,
        *,
        kind: Literal["replaced", "stacked"],
        relu: bool,
        rep_relu: bool,
        bias: float | None = None,
        top_k: int | None = None,
    ) -> None:
        super().__init__()
        self.kind, self.relu, self.rep_relu, self.top_k = kind, relu, rep_relu, top_k
        self.dense_dim = embed_dim if kind == "stacked" else width
        self.embed = nn.Linear(width, embed_dim, bias=False) if kind == "stacked" else None
        self.project = nn.Linear(self.dense_dim, concepts, bias=bias is not None)
        nn.init.normal_(self.project.weight, std=self.dense_dim**-0.5)
        if bias is not None:
            nn.init.constant_(self.project.bias, bias)
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=width**-0.5)

    def dense(self, x: Float[Tensor, "... W"]) -> Float[Tensor, "... D"]:
        """Features to dense vectors, the inputs of the last projection."""
        return cast(Tensor, self.embed(x)) if self.embed is not None else x

    def codes(self, dense: Float[Tensor, "... D"]) -> Float[Tensor, "... C"]:
        """Dense vectors to un-normalised codes, of any number of active concepts."""
        return self._activate(self.project(dense))

    def row_codes(self, dense: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """The codes of whole images or texts: `codes`, cut to the strongest concepts."""
        return self.cut(self.codes(dense))

    def cut(self, codes: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """The `top_k` largest values of each row; the others become 0 and get no gradient (TopK of
        arXiv 2406.04093, section 2.3). Values that equal the last of them stay, too. Without a
        `top_k` all stay.

        A row is what the loss compares. So with mean pooling it is the mean of the patches' codes
        that is cut, and no patch: were each patch cut, an image would still have up to P times K
        active concepts, and their number could not be matched to another model's. The map of a
        concept that is kept still averages to its activation.
        """
        if self.top_k is None:
            return codes
        lowest = codes.topk(self.top_k, dim=-1).values[:, -1:]
        # Not by a scatter, which some of the engines that run the graphs do not have.
        return torch.where(codes >= lowest, codes, 0.0)

    def pooled_codes(
        self, dense: Float[Tensor, "B P D"], step: int | None = None
    ) -> Float[Tensor, "B C"]:
        """The mean of the patches' codes, cut to the strongest concepts.

        All codes together are (B, P, C). Only (B, P, step) of them exist at a time; `step` follows
        from PATCH_CODES_PER_SLICE unless it is given.
        """
        slices = self._slices(dense, step)
        return self.cut(torch.cat(self._on_slices(self._pool, dense, slices), dim=1))

    def pooled_with_matches(
        self, dense: Float[Tensor, "B P D"], texts: Float[Tensor, "B C"], step: int | None = None
    ) -> tuple[Float[Tensor, "B C"], Float[Tensor, "B P"]]:
        """`pooled_codes`, and how well each patch matches its image's text: the product of the
        patch's code and the text's."""
        slices = self._slices(dense, step)
        parts = torch.split(texts, len(slices[0][0]), dim=1)
        both = [(*own, part) for own, part in zip(slices, parts, strict=True)]
        results = self._on_slices(self._pool_and_match, dense, both)
        pooled = torch.cat([codes for codes, _ in results], dim=1)
        return self.cut(pooled), torch.stack([matches for _, matches in results]).sum(0)

    def _slices(
        self, dense: Float[Tensor, "B P D"], step: int | None
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Weights and biases of `step` concepts at a time."""
        batch, patches, _ = dense.shape
        step = step or max(1, PATCH_CODES_PER_SLICE // (batch * patches))
        weights = torch.split(self.project.weight, step)
        biases: Sequence[Tensor | None] = [None] * len(weights)
        if self.project.bias is not None:
            biases = torch.split(self.project.bias, step)
        return list(zip(weights, biases, strict=True))

    @staticmethod
    def _on_slices(
        pool: Callable[..., Any], dense: Tensor, slices: Sequence[tuple[Tensor | None, ...]]
    ) -> list[Any]:
        if len(slices) == 1 or not torch.is_grad_enabled():
            return [pool(dense, *own) for own in slices]
        # Without checkpoints autograd would keep the codes of every slice for the backward pass.
        return [checkpoint(pool, dense, *own, use_reentrant=False) for own in slices]

    def _pool(self, dense: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._activate(F.linear(dense, weight, bias)).mean(dim=1)

    def _pool_and_match(
        self, dense: Tensor, weight: Tensor, bias: Tensor | None, texts: Tensor
    ) -> tuple[Tensor, Tensor]:
        codes = self._activate(F.linear(dense, weight, bias))  # (B, P, step)
        matches = torch.bmm(codes, texts.to(codes.dtype)[:, :, None])[:, :, 0]
        return codes.mean(dim=1), matches.float()

    def _activate(self, x: Tensor) -> Tensor:
        if not self.relu:
            return x
        if self.rep_relu and self.training:
            return cast(Tensor, RepReLU.apply(x))  # type: ignore[no-untyped-call]
        return F.relu(x)
