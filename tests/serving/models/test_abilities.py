"""What a model can be asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bundle.architecture import Architecture
from bundle.manifest import NO_CONCEPTS, NO_PATCHES, NO_SHARED_DENSE
from serving.core.errors import ErrorKind, ServingError
from serving.core.requests import OutputSelection
from serving.models.abilities import check_patches, chosen_outputs

DENSE = Architecture(
    family="open_clip:tiny",
    dense_dim=16,
    text_dense_dim=16,
    context_length=16,
    vocabulary=600,
    logit_scale=10.0,
    dense="shared",
)
PATCHLESS = dataclasses.replace(
    DENSE, dense=None, concepts=256, head="stacked", pool="cls", image_topk=8, text_topk=8
)


def test_a_selection_of_nothing_is_what_the_model_is_for() -> None:
    assert chosen_outputs(OutputSelection(), DENSE) == OutputSelection(dense=True)
    assert chosen_outputs(OutputSelection(), PATCHLESS) == OutputSelection(sparse=True)
    dense = OutputSelection(dense=True)
    assert chosen_outputs(dense, DENSE) == dense


@pytest.mark.parametrize(
    "selected",
    [{"sparse": True}, {"top_concepts": 1}, {"patch_concepts": (3,)}, {"captions": 1}],
    ids=lambda selected: next(iter(selected)),
)
def test_a_dense_model_refuses_what_is_about_concepts(selected: dict[str, Any]) -> None:
    [name] = selected
    with pytest.raises(ServingError) as caught:
        chosen_outputs(OutputSelection(dense=True, **selected), DENSE)
    error = caught.value
    assert (error.kind, error.field) == (ErrorKind.CONFLICT, f"outputs.{name}")
    assert error.message == f"outputs.{name}: {NO_CONCEPTS}"


def test_a_model_without_patches_or_without_a_shared_vector_says_so() -> None:
    for selection, field, problem in (
        (OutputSelection(patch_concepts=(3,)), "outputs.patch_concepts", NO_PATCHES),
        (OutputSelection(dense=True), "outputs.dense", NO_SHARED_DENSE),
    ):
        with pytest.raises(ServingError) as caught:
            chosen_outputs(selection, PATCHLESS)
        assert caught.value.message == f"{field}: {problem}"
    with pytest.raises(ServingError) as caught:
        check_patches(PATCHLESS)
    assert (caught.value.kind, caught.value.message) == (ErrorKind.CONFLICT, NO_PATCHES)
