"""Arms: a recipe with a few values changed, some of which follow from another arm's results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Results = dict[str, dict[str, Any]]
"""What `measure` found of each run, by `ARM/SEED`."""

SPARSE = "sparse"
"""The recipe as it is."""

RELU_OFF = "model.relu=false"
DENSE = [
    RELU_OFF,
    "model.bias=null",
    "model.rep_relu=false",
    "model.top_k=null",
    "loop.l1=0.0",
    "loop.ground=0.0",  # it wants a ReLU
]
# Without the second value a recipe's own start would count as a cap while the scale is below it.
UNCAPPED = ["model.logit_scale_cap=100.0", "model.logit_scale_init=null"]
NARROW = ["model.width_factor=1"]
FULL_RATE = ["optimizer.image_trunk=1.0"]
DECAY = ["optimizer.weight_decay=0.1"]


def _cap(value: float) -> list[str]:
    # The scale starts at the cap, or at CLIP's start: a recipe's own may be over the cap.
    return [f"model.logit_scale_cap={value}", "model.logit_scale_init=null"]


ARMS: dict[str, list[str]] = {
    SPARSE: [],
    "dense": [*DENSE, *NARROW, *UNCAPPED],
    # Noise on texts is for wide codes, which would learn captions by heart.
    "dense_no_noise": [*DENSE, *NARROW, *UNCAPPED, "model.text.noise=0.0"],
    "dense_full_rate": [*DENSE, *NARROW, *UNCAPPED, *FULL_RATE],
    "dense_full_rate_decay": [*DENSE, *NARROW, *UNCAPPED, *FULL_RATE, *DECAY],
    # With `dense` and `cap_100` the paper's two by two: ReLU or not, D or many times D.
    "wide_without_relu": [*DENSE, *UNCAPPED],
    "relu_without_width": [*NARROW, *UNCAPPED],
    "relu_without_width_capped": NARROW,
    "cls": ["model.pool=cls", "loop.ground=0.0"],
    "no_ground": ["loop.ground=0.0"],
    "no_noise": ["model.text.noise=0.0"],
    "stacked": ["model.head=stacked"],
    "no_bias": ["model.bias=null"],
    "no_rep_relu": ["model.rep_relu=false"],
    "no_bias_no_rep_relu": ["model.bias=null", "model.rep_relu=false"],
    "cap_100": UNCAPPED,
    "cap_20": _cap(20.0),
    "cap_15": _cap(15.0),
    "cap_10": _cap(10.0),
    "cap_8": _cap(8.0),
    # Other ways to make codes sparse, in place of the cap. So `cap_100` is what they change.
    "top_k": UNCAPPED,
    "l1_0.01": [*UNCAPPED, "loop.l1=0.01"],
    "l1_0.03": [*UNCAPPED, "loop.l1=0.03"],
    "l1_0.1": [*UNCAPPED, "loop.l1=0.1"],
}
"""The values that each arm changes. `top_k` gets its K from `changes_of`."""

EQUAL_COMPUTE = "_equal_compute"
"""Ending of an arm's name: the arm, trained for as long as the sparse one took."""

MATCHED = "val_style.l0_image"
"""The figure of the sparse arm that is the K of `top_k`, rounded."""


def with_equal_compute(arms: Sequence[str]) -> list[str]:
    """The arms, and after each dense one the same at equal compute."""
    result = []
    for arm in arms:
        result += [arm, arm + EQUAL_COMPUTE] if RELU_OFF in ARMS[arm] else [arm]
    return result


def needed(arm: str, top_k: int | None) -> list[str]:
    """The arms whose results of the same seed an arm's values follow from."""
    if arm.endswith(EQUAL_COMPUTE):
        return [SPARSE, arm.removesuffix(EQUAL_COMPUTE)]
    return [SPARSE] if arm == "top_k" and top_k is None else []


def changes_of(
    arm: str, seed: int, results: Results, epochs: float, top_k: int | None
) -> list[str]:
    """The values that a run changes, once `results` has all that `needed` names.

    `epochs` is what the other arms have. An arm at equal compute has more: as many as its steps fit
    into the seconds of the sparse run of the same seed, by the seconds that a step of each of both
    runs took. The seconds are those of training, without the views that were cached before and
    without evaluation. The learning rate falls over the longer run as it does over the other.
    """
    sparse = results.get(f"{SPARSE}/{seed}", {})
    if arm.endswith(EQUAL_COMPUTE):
        own = arm.removesuffix(EQUAL_COMPUTE)
        ratio = _seconds_per_step(sparse) / _seconds_per_step(results[f"{own}/{seed}"])
        return [*ARMS[own], f"loop.epochs={epochs * ratio:.3f}"]
    if arm == "top_k":
        k = top_k or max(1, round(sparse["figures"][MATCHED]))
        return [*ARMS[arm], f"model.top_k={k}"]
    return ARMS[arm]


def _seconds_per_step(run: dict[str, Any]) -> float:
    return float(run["seconds"]) / float(run["steps"])
