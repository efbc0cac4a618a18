"""From codes to explanations: maps of concepts over a picture, and a search's order of merit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.concepts import Concept, ConceptVocabulary
from bundle.manifest import Preprocessing
from serving.engines.rows import Patches, Row
from serving.errors import invalid
from serving.overlay import render_overlay
from serving.requests import ConceptKey, ConceptMatch, ExplainedConcept


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture that went through the patches graph."""

    pixels: NDArray[np.float32]
    """(3, S, S)."""
    row: Row
    grid: tuple[int, int]
    preprocessing: Preprocessing

    @property
    def patches(self) -> Patches:
        """Its patch codes."""
        if self.row.patches is None:
            raise ValueError("the row comes from a graph without patches")
        return self.row.patches

    @property
    def complete(self) -> bool:
        """No concept of any patch was cut."""
        return self.patches.complete

    def maps(self, concept_ids: Sequence[int], overlay: bool) -> tuple[ExplainedConcept, ...]:
        """Each concept's map; with `overlay`, also as a picture."""
        known = dict(zip(self.row.indices.tolist(), self.row.values.tolist(), strict=True))
        maps = []
        for concept_id in concept_ids:
            values = self.patches.map(concept_id)
            png = b""
            if overlay:
                png = render_overlay(self.pixels, values, self.grid, self.preprocessing)
            maps.append(
                ExplainedConcept(
                    concept_id=concept_id,
                    value=known.get(concept_id, 0.0),
                    values=values,
                    overlay_png=png,
                )
            )
        return tuple(maps)


def ranked(
    query: str,
    activations: Mapping[int, float],
    by_name: Sequence[Concept],
    vocabulary: ConceptVocabulary,
) -> list[ConceptMatch]:
    """Concepts that are called by the query, then those it activates, then similar names."""
    wanted = " ".join(query.casefold().split())
    matches = []
    for concept in {c.id: c for c in (*(vocabulary[i] for i in activations), *by_name)}.values():
        names = (concept.name, *concept.aliases)
        matches.append(
            ConceptMatch(
                concept=concept,
                activation=activations.get(concept.id, 0.0),
                name_match=any(name.casefold() == wanted for name in names),
            )
        )
    return sorted(matches, key=lambda m: (not m.name_match, -m.activation))


def concept_id(concepts: ConceptVocabulary, key: ConceptKey, field: str) -> int:
    """Resolves an id or an exact name. Raises ServingError naming the field."""
    if isinstance(key, int):
        if key >= len(concepts):
            raise invalid(field, f"no concept has an id over {len(concepts) - 1}")
        return key
    concept = concepts.by_name(key)
    if concept is None:
        raise invalid(field, "no concept has this name")
    return concept.id
