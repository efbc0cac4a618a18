"""Plans and their effect on codes: pure, row by row, exact."""

from __future__ import annotations

import json
from typing import get_args

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from mllm_adapter.steering.plan import (
    MAX_EDITS,
    EditOp,
    SteeringBatch,
    SteeringEdit,
    SteeringError,
    SteeringPlan,
    apply_steering,
)

P, C = 4, 20


def codes(rows: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, P, C, generator=generator).clamp(min=0)


def one(op: str, value: float = 0.0, **more: object) -> SteeringPlan:
    strength = more.pop("strength", 1.0)
    edit = SteeringEdit(concept=3, op=op, value=value, **more)  # type: ignore[arg-type]
    return SteeringPlan(edits=(edit,), strength=strength)  # type: ignore[arg-type]


def steer(x: torch.Tensor, *plans: SteeringPlan | None) -> torch.Tensor:
    return apply_steering(x, SteeringBatch.from_plans(plans, P))


edits = st.builds(
    SteeringEdit,
    concept=st.integers(0, C - 1),
    op=st.sampled_from(get_args(EditOp)),
    value=st.floats(0, 8, width=32),
    patches=st.none() | st.lists(st.integers(0, P - 1), min_size=1).map(tuple),
)
plans = st.builds(
    SteeringPlan,
    edits=st.lists(edits, max_size=6, unique_by=lambda edit: edit.concept).map(tuple),
    strength=st.floats(0, 1, width=32),
)


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (one("SET", 2.0), [2, 2, 2, 2]),
        (one("ADD", 0.5), [0.5, 1.5, 3.5, 0.5]),
        (one("ADD", -2.0), [0, 0, 1, 0]),
        (one("SCALE", 0.5), [0, 0.5, 1.5, 0]),
        (one("ABLATE"), [0, 0, 0, 0]),
        (one("SET", 2.0, strength=0.5), [1, 1.5, 2.5, 1]),
        (one("SET", 2.0, patches=(1, 3)), [0, 2, 3, 2]),
    ],
)
def test_what_each_operation_makes_of_an_activation(
    plan: SteeringPlan, expected: list[float]
) -> None:
    before = torch.zeros(1, P, C)
    before[0, :, 3] = torch.tensor([0.0, 1.0, 3.0, 0.0])
    before[0, :, 5] = 7.0
    after = steer(before, plan)
    assert after[0, :, 3].tolist() == expected
    after[0, :, 3] = before[0, :, 3]
    assert torch.equal(after, before)


@given(a=plans, c=plans)
def test_rows_of_a_batch_are_edited_as_if_alone(a: SteeringPlan, c: SteeringPlan) -> None:
    x = codes(3)
    kept = x.clone()
    together = steer(x, a, None, c)
    assert torch.equal(x, kept)
    assert torch.equal(together[0], steer(x[:1], a)[0])
    assert torch.equal(together[1], x[1])
    assert torch.equal(together[2], steer(x[2:], c)[0])
    assert (together >= 0).all()


@pytest.mark.parametrize("plan", [None, SteeringPlan(), one("SET", 9.0, strength=0.0)])
def test_an_empty_plan_changes_no_bit(plan: SteeringPlan | None) -> None:
    x = codes(2)
    assert torch.equal(steer(x, plan, plan), x)


@given(plan=plans)
def test_json_there_and_back(plan: SteeringPlan) -> None:
    assert SteeringPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strength": 1.5}, r"^strength: must be 0 to 1"),
        ({"strength": float("nan")}, r"^strength: must be a finite number"),
        ({"edit": []}, r"^edit: unknown key; did you mean edits\?"),
        ({"edits": [{"concept": 1, "op": "BOOST"}]}, r"^edits\[0\]\.op: must be one of SET, ADD"),
        ({"edits": [{"concept": -1, "op": "ABLATE"}]}, r"^edits\[0\]\.concept: must be 0 or more"),
        ({"edits": [{"concept": 1, "op": "ABLATE"}] * 2}, r"^edits\[1\]\.concept: edited twice"),
        (
            {"edits": [{"concept": 1, "op": "SET", "value": float("inf")}]},
            r"^edits\[0\]\.value: must be a finite number",
        ),
        (
            {"edits": [{"concept": 1, "op": "SCALE", "value": -1}]},
            r"^edits\[0\]\.value: must be 0 or more",
        ),
        (
            {"edits": [{"concept": 1, "op": "ABLATE", "patches": []}]},
            r"^edits\[0\]\.patches: must be one or more",
        ),
        (
            {"edits": [{"concept": i, "op": "ABLATE"} for i in range(MAX_EDITS + 1)]},
            r"^edits: more than",
        ),
    ],
)
def test_a_bad_plan_names_its_field(change: dict[str, object], message: str) -> None:
    with pytest.raises(SteeringError, match=message):
        SteeringPlan.from_json(json.dumps(change))


def test_a_plan_is_checked_against_its_model() -> None:
    with pytest.raises(SteeringError, match=r"^edits\[0\]\.concept: the model has 3"):
        one("ABLATE").check(concepts=3, patches=P)
    with pytest.raises(SteeringError, match=r"^edits\[0\]\.patches: the model has 4"):
        one("ABLATE", patches=(0, 4)).check(concepts=C, patches=P)
    one("ABLATE", patches=(0, 3)).check(concepts=C, patches=P)
