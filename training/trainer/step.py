"""One optimiser step's forward and backward passes, whole or with cached gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from training.core.precision import Precision, autocast
from training.loading.pairs import Batch
from training.losses.base import Loss
from training.model.sparse_clip import LossInputs, normalize


class StepResult(NamedTuple):
    """What a step measured on this rank's pairs."""

    loss: Float[Tensor, ""]
    scale: Float[Tensor, ""]
    image_l0: Float[Tensor, ""]
    text_l0: Float[Tensor, ""]
    fired: Int[Tensor, " C"]
    """On how many images each concept fired."""


class Step:
    """Computes the gradients of one step, over all ranks.

    With `micro_batch` below the rank's share, codes are computed piece by piece without gradients,
    the loss gives each piece its gradient, and a second pass carries it through the towers
    (gradient caching, arXiv 2101.06983). The result is that of the whole batch, for towers without
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
    ) -> None:
        self.model, self.loss = model, loss
        self.micro_batch, self.device = micro_batch, device
        self.autocast = autocast(precision, device)

    def __call__(self, batch: Batch) -> StepResult:
        """Adds the step's gradients to the parameters."""
        if 0 < self.micro_batch < len(batch.pixels):
            return self._cached(batch)
        with self.autocast:
            outputs: LossInputs = self.model(batch.pixels, batch.tokens)
        loss = self._loss(outputs)
        loss.backward()
        return _measure(loss, outputs)

    def _loss(self, outputs: LossInputs) -> Tensor:
        image, text, scale, parameters = outputs
        return self.loss(normalize(image), normalize(text), scale, parameters)

    def _cached(self, batch: Batch) -> StepResult:
        pieces = [
            Batch(p, t)
            for p, t in zip(
                torch.split(batch.pixels, self.micro_batch),
                torch.split(batch.tokens, self.micro_batch),
                strict=True,
            )
        ]
        states, outputs = [], []
        for piece in pieces:
            states.append(_random_state(self.device))
            with torch.no_grad(), self.autocast:
                outputs.append(self.model(piece.pixels, piece.tokens))
        whole = _joined(outputs)
        loss = self._loss(whole)
        loss.backward()
        image_grads = torch.split(_gradient(whole.image), self.micro_batch)
        text_grads = torch.split(_gradient(whole.text), self.micro_batch)
        scalars = [whole.scale, *whole.parameters.values()]
        for i, piece in enumerate(pieces):
            last = i == len(pieces) - 1
            wait: Any = nullcontext() if last else getattr(self.model, "no_sync", nullcontext)()
            _set_random_state(states[i], self.device)
            with wait:
                with self.autocast:
                    image, text, scale, parameters = self.model(piece.pixels, piece.tokens)
                # The scalars' gradients are whole already: they go back once, with the last piece.
                scalar_grads = [_gradient(x) if last else torch.zeros_like(x) for x in scalars]
                torch.autograd.backward(
                    [image, text, scale, *parameters.values()],
                    [image_grads[i], text_grads[i], *scalar_grads],
                )
        return _measure(loss, whole)


def _joined(outputs: Sequence[LossInputs]) -> LossInputs:
    """The whole batch's codes, and its scalars, cut off from the towers: leaves that the loss gives
    their gradients."""
    last = outputs[-1]
    return LossInputs(
        torch.cat([piece.image for piece in outputs]).requires_grad_(),
        torch.cat([piece.text for piece in outputs]).requires_grad_(),
        last.scale.clone().requires_grad_(),
        {name: x.detach().clone().requires_grad_() for name, x in last.parameters.items()},
    )


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad


@torch.no_grad()
def _measure(loss: Tensor, outputs: LossInputs) -> StepResult:
    image, text = outputs.image > 0, outputs.text > 0
    return StepResult(
        loss=loss.detach(),
        scale=outputs.scale.detach(),
        image_l0=image.sum(1).float().mean(),
        text_l0=text.sum(1).float().mean(),
        fired=image.sum(0),
    )


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state() if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state)
    else:
        torch.set_rng_state(state)
