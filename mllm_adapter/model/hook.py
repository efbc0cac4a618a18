"""Steering for researchers: a plan that holds for all that a projector reads inside a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Float
from torch import Tensor, nn

from mllm_adapter.model.projector import Projector
from mllm_adapter.steering.plan import SteeringBatch, SteeringPlan, apply_steering


@contextmanager
def steering(projector: Projector, plan: SteeringPlan) -> Iterator[None]:
    """Applies a plan to every row of the codes (B, P, C) that `projector(codes)` is called with.

    Raises SteeringError for a concept that the projector does not have.
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
