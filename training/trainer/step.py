"""One optimiser step's forward and backward passes, whole or with cached gradients."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from training.loading.pairs import Batch
from training.losses.clip import tiled_clip_loss
from training.model.sparse_clip import normalize


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
        self, model: nn.Module, *, micro_batch: int, bf16: bool, tile: int, device: torch.device
    ) -> None:
        self.model, self.micro_batch, self.tile, self.device = model, micro_batch, tile, device
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
        self.gather_dtype = torch.bfloat16 if bf16 else None

    def __call__(self, batch: Batch) -> StepResult:
        """Adds the step's gradients to the parameters."""
        if 0 < self.micro_batch < len(batch.pixels):
            return self._cached(batch)
        with self.autocast:
            image, text, scale = self.model(batch.pixels, batch.tokens)
        loss = self._loss(image, text, scale)
        loss.backward()
        return _measure(loss, scale, image > 0, text > 0)

    def _loss(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        return tiled_clip_loss(
            normalize(image),
            normalize(text),
            scale,
            tile=self.tile,
            gather_dtype=self.gather_dtype,
        )

    def _cached(self, batch: Batch) -> StepResult:
        pieces = [
            Batch(p, t)
            for p, t in zip(
                torch.split(batch.pixels, self.micro_batch),
                torch.split(batch.tokens, self.micro_batch),
                strict=True,
            )
        ]
        states, images, texts = [], [], []
        for piece in pieces:
            states.append(_random_state(self.device))
            with torch.no_grad(), self.autocast:
                image, text, scale = self.model(piece.pixels, piece.tokens)
            images.append(image)
            texts.append(text)
        image = torch.cat(images).requires_grad_()
        text = torch.cat(texts).requires_grad_()
        scale = scale.clone().requires_grad_()
        loss = self._loss(image, text, scale)
        loss.backward()
        assert image.grad is not None
        assert text.grad is not None
        image_grads = torch.split(image.grad, self.micro_batch)
        text_grads = torch.split(text.grad, self.micro_batch)
        for i, piece in enumerate(pieces):
            last = i == len(pieces) - 1
            wait: Any = nullcontext() if last else getattr(self.model, "no_sync", nullcontext)()
            _set_random_state(states[i], self.device)
            with wait:
                with self.autocast:
                    outputs = self.model(piece.pixels, piece.tokens)
                # The scale's gradient is whole already: it goes back once.
                grads = [
                    image_grads[i],
                    text_grads[i],
                    scale.grad if last else torch.zeros_like(scale),
                ]
                torch.autograd.backward(outputs, grads)
        return _measure(loss, scale, image > 0, text > 0)


@torch.no_grad()
def _measure(
    loss: Tensor, scale: Tensor, image: Bool[Tensor, "b C"], text: Bool[Tensor, "b C"]
) -> StepResult:
    return StepResult(
        loss=loss.detach(),
        scale=scale.detach(),
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
