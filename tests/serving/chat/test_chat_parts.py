"""Parts of a conversation on their own: the code cache, plans, audits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bundle.concepts import ConceptVocabulary
from mllm_adapter.model.projector import PatchCodes
from mllm_adapter.steering.plan import SteeringBatch, SteeringPlan, apply_steering
from serving.chat.audit import audit
from serving.chat.code_cache import CachedCodes, CodeCache
from serving.chat.requests import Phrase, RequestedEdit, SteeredImage
from serving.chat.resolve_edits import EditResolver
from serving.core.errors import ServingError
from serving.engines.outputs import Patches
from tests.tiny import CONCEPTS, tiny_concepts

RESOLVE = EditResolver(
    concepts=ConceptVocabulary(tuple(tiny_concepts())), patches=16, top=3, strength=2.0
)


def codes_of(slots: int, seed: int = 0) -> CachedCodes:
    random = np.random.default_rng(seed)
    indices = np.stack([random.permutation(CONCEPTS)[:slots] for _ in range(16)])
    return CachedCodes(indices, random.random((16, slots), dtype=np.float32))


def phrase_codes(**active: dict[int, float]) -> dict[str, np.ndarray]:
    codes = {}
    for phrase, values in active.items():
        codes[phrase] = np.zeros(CONCEPTS, dtype=np.float32)
        codes[phrase][list(values)] = list(values.values())
    return codes


def image(*edits: RequestedEdit, strength: float = 1.0) -> SteeredImage:
    return SteeredImage(data=b"x", edits=edits, strength=strength, at="at")


def test_codes_are_copies_with_valid_ids() -> None:
    whole = np.ones((4, 2, 3), dtype=np.float32)
    whole[1, 0, 2] = 0
    ids = np.full((4, 2, 3), 7, dtype=np.int32)
    ids[1, 0, 2] = 2**30  # an unused slot may hold anything
    codes = CachedCodes.from_patches(Patches(indices=ids[1], values=whole[1], complete=True))
    assert codes.indices.tolist() == [[7, 7, 0], [7, 7, 7]]
    assert codes.indices.dtype == np.int64
    assert not np.shares_memory(codes.values, whole)


def test_the_memory_is_bounded_in_bytes() -> None:
    size = codes_of(10).size
    cache = CodeCache(max_bytes=3 * (size + 1))
    for name in b"abc":
        cache.put(bytes([name]), codes_of(10, seed=name))
    assert cache.get(b"a") is not None  # asked for: it stays
    cache.put(b"d", codes_of(10))
    assert cache.get(b"b") is None
    assert all(cache.get(key) is not None for key in (b"a", b"c", b"d"))
    cache.put(b"d", codes_of(10))  # again: it counts once
    assert cache.get(b"a") is not None
    cache.put(b"e", codes_of(40))  # more than all: nothing is kept
    assert [cache.get(name) for name in (b"a", b"c", b"d", b"e")] == [None] * 4


def test_a_concepts_own_edit_goes_before_those_of_phrases() -> None:
    codes = phrase_codes(dog={5: 3.0, 8: 2.0, 9: 1.0, 10: 0.5}, cat={8: 9.0, 9: 8.0})
    resolved = RESOLVE(
        image(
            RequestedEdit(target=Phrase(text="dog"), op="SET"),
            RequestedEdit(target=Phrase(text="cat", top=1), op="ABLATE"),
            RequestedEdit(target="star", op="ADD", value=-0.5, patches=(3,)),
        ),
        codes,
    )
    plan = {edit.concept: edit for edit in resolved.plan.edits}
    assert set(plan) == {5, 8, 9}
    assert (plan[5].op, plan[5].value, plan[5].patches) == ("SET", 2.0, None)
    assert plan[8].op == "SET"
    assert (plan[9].op, plan[9].value, plan[9].patches) == ("ADD", -0.5, (3,))
    assert resolved.sources == {5: (0,), 8: (0, 1), 9: (0, 2)}


def test_a_phrase_without_concepts_is_named() -> None:
    codes = phrase_codes(dog={5: 3.0}, nothing={})
    with pytest.raises(ServingError, match="no concept answers") as caught:
        RESOLVE(
            image(
                RequestedEdit(target=Phrase(text="dog"), op="SET"),
                RequestedEdit(target=Phrase(text="nothing"), op="ABLATE"),
            ),
            codes,
        )
    assert caught.value.field == "at.steering.edits[1].phrase"


def test_what_is_told_is_what_is_applied() -> None:
    codes = codes_of(40)
    patches = PatchCodes.from_arrays(*codes)
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


def test_a_plan_that_changes_nothing_is_told_as_such() -> None:
    resolved = RESOLVE(image(RequestedEdit(target=1, op="SET", value=5.0), strength=0.0), {})
    assert isinstance(resolved.plan, SteeringPlan)
    seen = audit(PatchCodes.from_arrays(*codes_of(40)), resolved, CONCEPTS)
    assert seen.before == seen.after
    [entry] = seen.edited
    assert entry.before == entry.after
