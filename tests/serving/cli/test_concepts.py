"""How `sparseclip concepts` shows a concept in a table."""

from __future__ import annotations

from serving.cli.concepts import cells
from sparseclip import Concept, Evidence


def test_a_row_says_each_thing_once() -> None:
    concept = Concept(
        concept_id=12,
        name="dog",
        aliases=("puppy",),
        frequency=0.0123,
        clarity=None,
        modality=None,
        words=(Evidence(source="dogs", value=0.5),),
        images=(),
        active=True,
        name_confidence=0.88,
        hub=True,
    )
    row = list(cells(concept))
    assert row == ["12", "dog", "puppy", "1.23%", "–", "88%, hub", "dogs 0.50"]
