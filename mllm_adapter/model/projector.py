"""Patch codes to visual tokens. B batch, P patches, G cells, C concepts, K TopK slots, E edits,
H LLM width.

The projector is LLaVA-1.5's `mlp2x_gelu` (arXiv 2310.03744), and its first layer reads codes. That
layer is linear and codes are sparse, so its output for a patch is a weighted sum of the weight rows
of the active concepts: K * H multiply-adds instead of C * H. For the same reason an edit of k
concepts changes that sum by k rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.schema import NumberRange
from mllm_adapter.steering.plan import (
    SteeringBatch,
    SteeringPlan,
    apply_steering,
    edited_activations,
)

DENSE_MATMUL_DENSITY = 0.25
"""The share of active concepts from which one matrix product is faster than a sum over rows;
measured in benchmarks/steering.py."""

GridSide = Annotated[int, NumberRange(1, 1024)]
"""Rows or columns of a grid."""


class PatchCodes(NamedTuple):
    """Codes of patches in TopK slots, as a bundle's graph returns them."""

    indices: Int[Tensor, "B P K"]
    values: Float[Tensor, "B P K"]
    """0 in unused slots."""

    @classmethod
    def from_arrays(cls, indices: NDArray[np.int64], values: NDArray[np.float32]) -> PatchCodes:
        """Copies one image's codes, (P, K), from the arrays that the serving side holds."""
        return cls(torch.tensor(indices)[None], torch.tensor(values)[None]).trimmed()

    @classmethod
    def from_dense(cls, dense: Float[Tensor, "B P C"]) -> PatchCodes:
        """Puts full-width codes into as few slots as hold them all, strongest first."""
        slots = max(1, int((dense > 0).sum(-1).max()))
        values, indices = dense.topk(slots, dim=-1)
        return cls(indices, values)

    def dense(self, concepts: int) -> Float[Tensor, "B P C"]:
        """The same codes at full width C."""
        full = self.values.new_zeros(*self.values.shape[:2], concepts)
        return full.scatter_add_(2, self.indices, self.values)

    def trimmed(self) -> PatchCodes:
        """The same codes without the slots that no patch uses."""
        used = (self.values > 0).any(1).any(0)
        return PatchCodes(self.indices[:, :, used], self.values[:, :, used])

    def activations(
        self, row: Int[Tensor, " E"], concept: Int[Tensor, " E"]
    ) -> Float[Tensor, "E P"]:
        """The activation of `concept[e]` on every patch of image `row[e]`."""
        # All edits of a single image are on row 0: broadcasting (1, P, K) against (E, 1, 1) spares
        # E copies of the codes.
        single_image = len(self.indices) == 1
        indices, values = (x if single_image else x[row] for x in self)
        return (values * (indices == concept[:, None, None])).sum(-1)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """The cells of an image that become visual tokens, where these are fewer than its patches."""

    patches: tuple[GridSide, GridSide]
    """Rows and columns of the grid of patches."""
    grid: tuple[GridSide, GridSide]
    """Rows and columns of the grid of cells. Where the numbers do not divide, cells share the
    patches at their borders, as in adaptive pooling."""

    @property
    def is_finer(self) -> bool:
        """Whether there are more rows or columns of cells than of patches, which is refused."""
        return self.grid[0] > self.patches[0] or self.grid[1] > self.patches[1]

    def weights(self) -> Float[Tensor, "G P"]:
        """The mean over the patches of each cell, as a matrix."""
        rows, columns = self.patches
        # On the CPU also where weights that are about to be read are on no device.
        each = torch.eye(rows * columns, device="cpu").view(1, rows * columns, rows, columns)
        return F.adaptive_avg_pool2d(each, self.grid).view(rows * columns, -1).T.contiguous()


def visual_tokens(patches: int, cells: Cells | None) -> int:
    """Visual tokens of an image: one for the whole image, and one per cell or patch."""
    return 1 + (patches if cells is None else math.prod(cells.grid))


class Projector(nn.Module):
    """codes (B, P, C) -> tokens (B, G1, H), G1 = 1 + G: one for the whole image, one per cell.

    Cells are patches, unless `cells` makes them fewer: a token costs the LLM as much as a word, and
    a picture of 49 patches would take nearly all of a short conversation.

    The first token is projected from the mean of the patches' codes. Where a backbone pools codes
    over patches, that mean is what contrastive training aligned with texts. Since the first layer
    is linear, its output for a mean is the mean of its outputs, edited or not.
    """

    def __init__(self, concepts: int, width: int, cells: Cells | None = None) -> None:
        super().__init__()
        pool = None if cells is None else cells.weights()
        self.register_buffer("pool", pool, persistent=False)
        self.pool: Float[Tensor, "G P"] | None
        self.rows = nn.Parameter(torch.empty(concepts, width))
        """The first layer's weight, (C, H): one row per concept."""
        self.bias = nn.Parameter(torch.zeros(width))
        self.out = nn.Linear(width, width)
        nn.init.normal_(self.rows, std=0.02)

    @property
    def concepts(self) -> int:
        """C, the number of concepts that it reads."""
        return self.rows.shape[0]

    def sums(self, codes: PatchCodes, dense: bool | None = None) -> Float[Tensor, "B P H"]:
        """The first layer's output without its bias. It can be cached: edits are added to it.

        `dense` chooses between one product over all C concepts and a sum over the active rows;
        None takes the faster one at this density.
        """
        batch, patches, slots = codes.indices.shape
        if dense is None:
            dense = slots > DENSE_MATMUL_DENSITY * self.concepts
        if dense:
            return codes.dense(self.concepts) @ self.rows
        # Gather-sum. The result equals dense codes (B, P, C) @ rows (C, H), but only the rows of
        # active concepts are read: each of the B * P patches is a bag of K row numbers, weighted by
        # its K values. embedding_bag never materializes the gathered rows (B * P, K, H). Unused
        # slots weigh 0 and add nothing.
        flat = F.embedding_bag(
            codes.indices.reshape(-1, slots),
            self.rows,
            per_sample_weights=codes.values.reshape(-1, slots).to(self.rows.dtype),
            mode="sum",
        )
        return flat.view(batch, patches, -1)

    def steered(
        self, sums: Float[Tensor, "B P H"], codes: PatchCodes, batch: SteeringBatch
    ) -> Float[Tensor, "B P H"]:
        """What `sums` would be for the edited codes: k rows for k edits, independent of C."""
        if len(batch.row) == 0:
            return sums
        old = codes.activations(batch.row, batch.concept)
        change = (edited_activations(old, batch) - old).to(sums.dtype)  # (E, P)
        rows = self.rows[batch.concept]  # (E, H)
        if len(sums) == 1:
            return sums + change.T @ rows
        # An edit belongs to one image: a (B, E, P) tensor holds its change in that image's slice
        # and 0 in all others, so that one batched product (B, P, E) @ (E, H) serves all images.
        changes_by_image = sums.new_zeros(len(sums), *change.shape)
        changes_by_image[batch.row, torch.arange(len(change), device=sums.device)] = change
        return sums + changes_by_image.transpose(1, 2) @ rows

    def tokens(self, sums: Float[Tensor, "B P H"]) -> Float[Tensor, "B G1 H"]:
        """The rest of the projector, for the mean over patches and for each cell: the first
        layer's bias, GELU and the second layer."""
        tokens: Tensor = self.out(F.gelu(self._mean_and_cells(sums) + self.bias))
        return tokens

    def forward(self, codes: Float[Tensor, "B P C"]) -> Float[Tensor, "B G1 H"]:
        """Visual tokens of full-width codes. Means of codes are as good as means of sums, and with
        few cells they leave few rows to multiply."""
        return self.project(self._mean_and_cells(codes))

    def project(self, codes: Float[Tensor, "*N C"]) -> Float[Tensor, "*N H"]:
        """The visual token of each code."""
        token: Tensor = self.out(F.gelu(codes @ self.rows + self.bias))
        return token

    def _mean_and_cells(self, patches: Float[Tensor, "B P X"]) -> Float[Tensor, "B G1 X"]:
        cells = patches if self.pool is None else self.pool.to(patches.dtype) @ patches
        return torch.cat([patches.mean(dim=1, keepdim=True), cells], dim=1)


@contextmanager
def steering(projector: Projector, plan: SteeringPlan) -> Iterator[None]:
    """Inside the block, `projector(codes)` applies the plan to every image of its codes (B, P, C).

    This is for experiments: batches that mix plans go through `Projector.steered`. A call raises
    SteeringError for a concept or a patch that the codes do not have.
    """

    def edit(_: nn.Module, inputs: tuple[Float[Tensor, "B P C"], ...]) -> tuple[Tensor]:
        [codes] = inputs
        plan.check(projector.concepts, codes.shape[1])
        batch = SteeringBatch.from_plans([plan] * len(codes), codes.shape[1], codes.device)
        return (apply_steering(codes, batch),)

    handle = projector.register_forward_pre_hook(edit)
    try:
        yield
    finally:
        handle.remove()
