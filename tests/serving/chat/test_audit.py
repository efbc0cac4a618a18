"""What an image is said to show is what the language model is shown."""

from __future__ import annotations

import pytest
import torch

from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.plan import SteeringBatch, SteeringPlan, apply_steering
from serving.chat.audit import audit
from serving.chat.chat_request import RequestedEdit
from tests.serving.chat.codes import RESOLVE, codes_of, image
from tests.support.tiny_model import CONCEPTS


def test_what_is_named_is_what_is_applied() -> None:
    codes = codes_of(40)
    patches = PatchCodes.from_arrays(codes.indices, codes.values)
    edits = [
        RequestedEdit(target=i, op=op, value=value, patches=(0, 5) if i % 2 else ())  # type: ignore[arg-type]
        for i, (op, value) in enumerate(
            [("SET", 3.0), ("ADD", -0.3), ("SCALE", 0.5), ("ABLATE", None)] * 25
        )
    ]
    resolved = RESOLVE(image(*edits, strength=0.7), {})
    seen = audit(patches, resolved, CONCEPTS)
    dense = patches.dense(CONCEPTS)
    steered = apply_steering(dense, SteeringBatch.from_plans([resolved.plan], 16))
    before, after = dense[0].mean(0), steered[0].mean(0)
    assert (len(seen.edited), seen.edited_total) == (64, 100)
    for entry in seen.edited:
        assert entry.before == pytest.approx(float(before[entry.concept_id]), rel=1e-5)
        assert entry.after == pytest.approx(float(after[entry.concept_id]), rel=1e-5, abs=1e-7)
    assert [c for c, _ in seen.before] == before.topk(10).indices.tolist()
    assert [c for c, _ in seen.after] == after.topk(10).indices.tolist()
    assert torch.equal(dense, patches.dense(CONCEPTS))


def test_a_plan_that_changes_nothing_shows_no_change() -> None:
    resolved = RESOLVE(image(RequestedEdit(target=1, op="SET", value=5.0), strength=0.0), {})
    assert isinstance(resolved.plan, SteeringPlan)
    seen = audit(PatchCodes.from_arrays(*codes_of(40)[:2]), resolved, CONCEPTS)
    assert seen.before == seen.after
    [entry] = seen.edited
    assert entry.before == entry.after
