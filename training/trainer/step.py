"""The forward and backward passes of one optimiser step, whole or with cached gradients.

b pairs on a rank, C concepts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from training.core.precision import Precision, autocast
from training.loading.caption_numbers import caption_numbers
from training.loading.pairs import PairBatch
from training.losses.base import Loss
from training.model.sparse_clip import LossInputs, normalize
from training.trainer.step_metrics import StepResult, measure


class TrainingStep:
    """Computes the gradients of one step, over all ranks.

    With a `micro_batch` below b it caches gradients (arXiv 2101.06983). A first pass computes the
    codes of one micro-batch after another, without gradients. The loss of all b pairs gives the
    gradient by the codes. A second pass computes each micro-batch again and propagates its part of
    that gradient through the towers. The result is that of the whole batch, unless the towers have
    batch statistics.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        micro_batch: int,
        precision: Precision,
        device: torch.device,
        mask_equal_captions: bool = False,
        l1: float = 0.0,
        ground: float = 0.0,
    ) -> None:
        """`model` is a SparseCLIP, or DistributedDataParallel around one. With a `micro_batch` of 0
        the batch is not split. With `mask_equal_captions` the loss learns which captions are equal.
        `l1` is the weight of `mean_l1` in the loss, and `ground` that of the mean share of an
        image's match that is on patches of the ground.
        """
        self.model, self.loss, self.l1, self.ground = model, loss, l1, ground
        self.mask_equal_captions = mask_equal_captions
        self.micro_batch, self.device = micro_batch, device
        self.autocast = autocast(precision, device)

    def __call__(self, batch: PairBatch) -> StepResult:
        """Adds the gradients of this rank's part of a batch to the parameters' gradients."""
        if 0 < self.micro_batch < len(batch.pixels):
            return self._cached(batch)
        with self.autocast:
            outputs: LossInputs = self.model(batch.pixels, batch.tokens, self._ground_of(batch))
        loss = self._loss(outputs, batch)
        loss.backward()
        return measure(loss, outputs)

    def _ground_of(self, batch: PairBatch) -> Tensor | None:
        return batch.ground if self.ground else None

    def _loss(self, outputs: LossInputs, batch: PairBatch) -> Tensor:
        image, text, scale, parameters, on_ground = outputs
        captions = batch.captions
        if not self.mask_equal_captions:
            captions = None
        elif captions is None:
            captions = caption_numbers(batch.tokens)
        image, text = normalize(image), normalize(text)
        loss = self.loss(image, text, scale, parameters, captions)
        if self.l1:
            loss = loss + self.l1 * mean_l1(image, text)
        return loss if on_ground is None else loss + self.ground * on_ground.mean()

    def _cached(self, batch: PairBatch) -> StepResult:
        pixels = torch.split(batch.pixels, self.micro_batch)
        tokens = torch.split(batch.tokens, self.micro_batch)
        ground = self._ground_of(batch)
        grounds: Sequence[Tensor | None] = [None] * len(pixels)
        if ground is not None:
            grounds = torch.split(ground, self.micro_batch)
        micro_batches = list(zip(pixels, tokens, grounds, strict=True))
        random_states, outputs = [], []
        for micro_batch in micro_batches:
            random_states.append(_random_state(self.device))
            with torch.no_grad(), self.autocast:
                outputs.append(self.model(*micro_batch))
        leaves = _as_leaves(outputs)
        loss = self._loss(leaves, batch)
        loss.backward()  # stops at the leaves, which now hold the gradient by codes and scalars
        image_grads = torch.split(_gradient(leaves.image), self.micro_batch)
        text_grads = torch.split(_gradient(leaves.text), self.micro_batch)
        ground_grads: Sequence[Tensor] = ()
        if leaves.on_ground is not None:
            ground_grads = torch.split(_gradient(leaves.on_ground), self.micro_batch)
        scalars = [leaves.scale, *leaves.parameters.values()]
        for i, micro_batch in enumerate(micro_batches):
            is_last = i == len(micro_batches) - 1
            # Ranks average their gradients once, with the last micro-batch.
            no_sync: Any = getattr(self.model, "no_sync", nullcontext)
            # Both passes must draw the same dropout masks, or the gradient is not of this forward.
            _set_random_state(random_states[i], self.device)
            with nullcontext() if is_last else no_sync():
                with self.autocast:
                    image, text, scale, parameters, on_ground = self.model(*micro_batch)
                # The scalars' gradients are those of the whole batch: they count once.
                scalar_grads = [_gradient(x) if is_last else torch.zeros_like(x) for x in scalars]
                found = [image, text, scale, *parameters.values()]
                gradients = [image_grads[i], text_grads[i], *scalar_grads]
                if on_ground is not None:
                    found.append(on_ground)
                    gradients.append(ground_grads[i])
                torch.autograd.backward(found, gradients)
        return measure(loss, leaves)


def mean_l1(image: Float[Tensor, "b C"], text: Float[Tensor, "b C"]) -> Float[Tensor, ""]:
    """The mean L1 norm of rows of unit length: 1 for one active concept, the root of n for n equal
    ones.

    Of unit length, because the loss sees codes by their cosine alone: it would let a penalty on
    un-normalised codes shrink them all, and make none of them sparse. The ratio of both norms is
    Hoyer's measure of sparsity (JMLR 5, 2004). The paper of Sparse CLIP does not say which it took.

    A mean over rows, so the mean over ranks is that of the whole batch.
    """
    return (image.abs().sum(1).mean() + text.abs().sum(1).mean()) / 2


def _as_leaves(outputs: Sequence[LossInputs]) -> LossInputs:
    """The micro-batches' outputs as one batch of leaf tensors (b, C), on which the loss leaves its
    gradient."""
    last = outputs[-1]
    return LossInputs(
        _leaf([output.image for output in outputs]),
        _leaf([output.text for output in outputs]),
        last.scale.clone().requires_grad_(),
        {name: x.detach().clone().requires_grad_() for name, x in last.parameters.items()},
        None if last.on_ground is None else _leaf([output.on_ground for output in outputs]),
    )


def _leaf(parts: Sequence[Tensor | None]) -> Tensor:
    return torch.cat([part for part in parts if part is not None]).requires_grad_()


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state)
    else:
        torch.set_rng_state(state)
