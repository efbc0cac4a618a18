"""Maps of concepts over an image, and a search for concepts. P patches, S image side."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.concepts import ConceptVocabulary, NamedConcept
from bundle.manifest import Preprocessing
from bundle.text import folded
from serving.batching.item_results import StageTimes
from serving.core.coverage import NO_COVERAGE, ItemCoverage
from serving.core.errors import ServingError
from serving.core.requests import ExplainCall, TextItem, find_concept
from serving.engines.outputs import OutputRow, Patches
from serving.models.abilities import check_patches
from serving.models.loaded_model import ServedModel
from serving.models.map_overlay import MAX_OVERLAY_BYTES, render_overlay


@dataclass(frozen=True, kw_only=True)
class RankedConcept:
    """One match of a search for concepts."""

    concept: NamedConcept
    activation: float
    """What the text tower gives it for the query; 0 when only the name matched."""
    name_match: bool
    """Whether the query is one of its names."""


@dataclass(frozen=True, kw_only=True)
class ConceptSearch:
    """The matches of a search for concepts."""

    matches: tuple[RankedConcept, ...]
    """Best first."""
    coverage: ItemCoverage
    """What the text tower read of the query."""


@dataclass(frozen=True, kw_only=True)
class ConceptMap:
    """One concept's map over an image."""

    concept_id: int
    value: float
    """The concept's activation for the whole image."""
    values: NDArray[np.float32]
    """The activation on each patch, (P,)."""
    overlay_png: bytes
    """The map over the image; empty when it was not asked for."""


@dataclass(frozen=True, kw_only=True)
class ImageExplanation:
    """The maps of an image."""

    maps: tuple[ConceptMap, ...]
    exact: bool
    """Whether each value is the mean of its map."""
    times: StageTimes
    coverage: ItemCoverage = NO_COVERAGE
    """What the model read of the image."""
    captions: tuple[tuple[str, float], ...] = ()
    """The nearest training captions with their cosine, best first."""


async def search_concepts(
    model: ServedModel, query: str, limit: int, deadline: float
) -> ConceptSearch:
    """Concepts for a word or phrase, best first: by name, then by the text tower's activation.

    `deadline` is in the event loop's time. Raises ServingError.
    """
    result = (await model.embed([TextItem(id="", text=query)], deadline))[0]
    if isinstance(result, ServingError):
        raise result.at("text", "query")
    by_name = await model.texts.thread.run(lambda: model.concepts.search(query, limit))
    # All of the row: a concept that the name finds keeps its activation, whatever the limit is.
    activations = dict(result.row.top(len(result.row.indices)))
    return ConceptSearch(
        matches=tuple(ranked(query, activations, by_name, model.concepts)[:limit]),
        coverage=result.coverage,
    )


async def explain_image(model: ServedModel, call: ExplainCall, deadline: float) -> ImageExplanation:
    """Where an image shows concepts. Raises ServingError."""
    check_patches(model.architecture)
    named = [
        find_concept(model.concepts, ref, f"concepts[{i}]").id
        for i, ref in enumerate(call.concepts)
    ]
    model.check_framing(call.framing, "framing")
    loop = asyncio.get_running_loop()
    started = loop.time()
    batcher = model.batchers["patches"]
    with batcher.admission.admit(1, deadline) as permits:
        pixels, coverage = await model.decode(call.image, call.framing)
        decode_s = loop.time() - started
        item = await batcher.submit(pixels, deadline, permits, decode_s, coverage)
    image = ExplainedImage(
        pixels=pixels,
        row=item.row,
        grid=model.architecture.grid,
        preprocessing=model.preprocessing,
    )
    concept_ids = named or [concept for concept, _ in item.row.top(call.top)]
    maps = await loop.run_in_executor(None, image.maps, concept_ids, call.overlay)
    return ImageExplanation(
        maps=maps,
        exact=model.architecture.pool == "patch_mean" and image.complete,
        times=item.times,
        coverage=item.coverage,
        captions=model.nearest_captions(item.row, call.captions),
    )


@dataclass(frozen=True, kw_only=True)
class ExplainedImage:
    """An image that went through the patches graph."""

    pixels: NDArray[np.float32]
    """The image as the model saw it, (3, S, S)."""
    row: OutputRow
    grid: tuple[int, int]
    """Rows and columns of patches."""
    preprocessing: Preprocessing

    @property
    def patches(self) -> Patches:
        """The image's patch codes."""
        if self.row.patches is None:
            raise ValueError("the row comes from a graph without patches")
        return self.row.patches

    @property
    def complete(self) -> bool:
        """Whether the codes of every patch hold all of its active concepts."""
        return self.patches.complete

    def maps(self, concept_ids: Sequence[int], overlay: bool) -> tuple[ConceptMap, ...]:
        """Each concept's map; with `overlay`, also drawn over the image."""
        activations = dict(zip(self.row.indices.tolist(), self.row.values.tolist(), strict=True))
        max_bytes = MAX_OVERLAY_BYTES // max(1, len(concept_ids))
        maps = []
        for concept_id in concept_ids:
            values = self.patches.map(concept_id)
            png = b""
            if overlay:
                png = render_overlay(self.pixels, values, self.grid, self.preprocessing, max_bytes)
            maps.append(
                ConceptMap(
                    concept_id=concept_id,
                    value=activations.get(concept_id, 0.0),
                    values=values,
                    overlay_png=png,
                )
            )
        return tuple(maps)


def ranked(
    query: str,
    activations: Mapping[int, float],
    by_name: Sequence[NamedConcept],
    vocabulary: ConceptVocabulary,
) -> list[RankedConcept]:
    """Concepts that the query names, then those that it activates, then those of similar names."""
    spelling = folded(query)
    candidates = {c.id: c for c in (*(vocabulary[i] for i in activations), *by_name)}
    matches = [
        RankedConcept(
            concept=concept,
            activation=activations.get(concept.id, 0.0),
            name_match=any(folded(name) == spelling for name in (concept.name, *concept.aliases)),
        )
        for concept in candidates.values()
    ]
    return sorted(matches, key=lambda match: (not match.name_match, -match.activation))
