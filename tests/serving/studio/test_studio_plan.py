"""The page's arithmetic of edits is the server's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from mllm_adapter.steering.phrases import WordEdit, expand
from mllm_adapter.steering.plan import (
    SteeringBatch,
    SteeringEdit,
    SteeringPlan,
    apply_steering,
)
from tests.serving.studio.browser import StudioPage

pytestmark = pytest.mark.browser
P, C = 6, 14
WORDS = ("dog", "cat", "red")

SCRIPT = """
async (cases) => {
  const { expand, editedMap } = await import("/studio/js/plan.js");
  return cases.map(({ edits, words, maps, strength }) => {
    const known = new Map(Object.entries(words));
    const changed = [...expand(edits, known)].map(([id, edit]) =>
      [id, [...editedMap(Float32Array.from(maps[id]), edit, strength, maps[id].length)]]);
    return changed.sort(([a], [b]) => a - b);
  });
}
"""


def test_every_edit_is_worked_out_as_the_server_does(studio_page: StudioPage) -> None:
    draw = random.Random(7)
    cases = [_case(draw) for _ in range(300)]
    drawn = studio_page.page.evaluate(SCRIPT, [shown for shown, _ in cases])
    for (_, expected), found in zip(cases, drawn, strict=True):
        assert [concept for concept, _ in found] == sorted(expected)
        for concept, values in found:
            assert values == pytest.approx(expected[concept], abs=1e-5)


def _case(draw: random.Random) -> tuple[Any, dict[int, list[float]]]:
    """What the page is given, and the maps (P,) after the edits by the Python of the server."""
    codes = {word: _sparse(draw, C) for word in WORDS}
    maps = np.array([_sparse(draw, P) for _ in range(C)], np.float32)
    strength = draw.choice([0.0, 0.3, 1.0])
    shown, edits = [], list[WordEdit | SteeringEdit]()
    targets: list[str | int] = draw.sample([*WORDS, *range(C)], draw.randint(1, 6))
    for target in targets:
        op = draw.choice(["SET", "ADD", "SCALE", "ABLATE"])
        value = 0.0 if op == "ABLATE" else round(draw.uniform(-1 if op == "ADD" else 0, 2), 3)
        patches = draw.choice([None, draw.sample(range(P), 2)])
        edit = {"op": op.lower(), "value": value, "patches": patches}
        common: dict[str, Any] = {"op": op, "value": value, "patches": patches and tuple(patches)}
        if isinstance(target, int):
            shown.append({**edit, "concept_id": target})
            edits.append(SteeringEdit(concept=target, **common))
        else:
            top = draw.randint(1, 5)
            shown.append({**edit, "phrase": target, "top": top})
            edits.append(WordEdit(word=target, top=top, **common))
    plan = SteeringPlan(
        edits=expand(edits, lambda phrases: np.array([codes[p] for p in phrases], np.float32)),
        strength=strength,
    )
    steered = apply_steering(torch.tensor(maps.T[None]), SteeringBatch.from_plans([plan], P))[0]
    expected = {edit.concept: steered[:, edit.concept].tolist() for edit in plan.edits}
    words = {word: {"concepts": _ranked(codes[word])} for word in WORDS}
    given = {"edits": shown, "words": words, "maps": maps.tolist(), "strength": strength}
    return given, expected


def _sparse(draw: random.Random, size: int) -> list[float]:
    values = [draw.choice([0.0, 0.0, round(draw.uniform(0.1, 3), 3)]) for _ in range(size)]
    values[draw.randrange(size)] = 1.5  # something fires
    return values


def _ranked(code: list[float]) -> list[dict[str, float]]:
    found = [{"id": i, "activation": float(np.float32(v))} for i, v in enumerate(code) if v > 0]
    return sorted(found, key=lambda entry: (-entry["activation"], entry["id"]))
