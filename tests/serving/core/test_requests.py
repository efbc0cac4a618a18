"""Concepts that calls refer to: one lookup, by id or by name."""

from __future__ import annotations

import pytest

from bundle.concepts import ConceptVocabulary
from serving.core.errors import ErrorKind, ServingError
from serving.core.requests import ConceptRef, find_concept
from tests.support.tiny_model import CONCEPTS, tiny_concepts

VOCABULARY = ConceptVocabulary(tuple(tiny_concepts()))


@pytest.mark.parametrize(
    ("ref", "concept_id"), [(0, 0), (CONCEPTS - 1, CONCEPTS - 1), ("dog", 5), ("concept 20", 20)]
)
def test_a_concept_is_found_by_id_or_exact_name(ref: ConceptRef, concept_id: int) -> None:
    assert find_concept(VOCABULARY, ref, "concept").id == concept_id


@pytest.mark.parametrize("kind", [ErrorKind.INVALID, ErrorKind.NOT_FOUND])
@pytest.mark.parametrize("ref", [CONCEPTS, 2**32 - 1, "dogs", "DOG", ""])
def test_a_concept_that_does_not_exist_names_the_field(ref: ConceptRef, kind: ErrorKind) -> None:
    with pytest.raises(ServingError, match=r"^concepts\[1\]: no concept has") as caught:
        find_concept(VOCABULARY, ref, "concepts[1]", kind=kind)
    assert (caught.value.kind, caught.value.field) == (kind, "concepts[1]")
