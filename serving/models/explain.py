"""From codes to explanations: maps of concepts over an image, and a search for concepts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.concepts import Concept, ConceptVocabulary
from bundle.manifest import Preprocessing
from serving.core.errors import ServingError
from serving.core.requests import (
    ExplainCall,
    Explained,
    ExplainedConcept,
    RankedConcept,
    StageTimes,
    TextItem,
    concept_id,
)
from serving.engines.outputs import OutputRow, Patches
from serving.models.model import ServedModel
from serving.models.overlay import render_overlay


async def search_concepts(
    model: ServedModel, query: str, limit: int, deadline: float
) -> list[RankedConcept]:
    """Concepts for a word or phrase, best first: its own names, then what the text tower says.

    `deadline` is in the event loop's time. Raises ServingError.
    """
    result = (await model.embed([TextItem(id="", text=query)], deadline))[0]
    if isinstance(result, ServingError):
        raise result
    names = await model.text_thread.run(lambda: model.concepts.search(query, limit))
    return ranked(query, dict(result.row.top(limit)), names, model.concepts)[:limit]


async def explain_image(model: ServedModel, call: ExplainCall, deadline: float) -> Explained:
    """Where an image shows concepts. Raises ServingError."""
    wanted = [
        concept_id(model.concepts, key, f"concepts[{i}]") for i, key in enumerate(call.concepts)
    ]
    loop = asyncio.get_running_loop()
    started = loop.time()
    batcher = model.batchers["patches"]
    with batcher.room.admit(1, deadline) as places:
        pixels = await model.decoders.decode(call.image)
        decode_s = loop.time() - started
        done = await batcher.submit(pixels, deadline, places)
    image = ExplainedImage(
        pixels=pixels,
        row=done.row,
        grid=model.architecture.patch_grid,
        preprocessing=model.preprocessing,
    )
    chosen = wanted or [concept for concept, _ in done.row.top(call.top)]
    maps = await loop.run_in_executor(None, image.maps, chosen, call.overlay)
    return Explained(
        maps=maps,
        exact=model.architecture.pool == "patch_mean" and image.complete,
        times=StageTimes(decode_s=decode_s, queue_s=done.queue_s, inference_s=done.inference_s),
    )


@dataclass(frozen=True, kw_only=True)
class ExplainedImage:
    """An image that went through the patches graph."""

    pixels: NDArray[np.float32]
    """(3, S, S)."""
    row: OutputRow
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
        """Each concept's map; with `overlay`, also as an image."""
        known = dict(zip(self.row.indices.tolist(), self.row.values.tolist(), strict=True))
        maps = []
        for concept in concept_ids:
            values = self.patches.map(concept)
            png = b""
            if overlay:
                png = render_overlay(self.pixels, values, self.grid, self.preprocessing)
            maps.append(
                ExplainedConcept(
                    concept_id=concept,
                    value=known.get(concept, 0.0),
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
) -> list[RankedConcept]:
    """Concepts that are called by the query, then those it activates, then similar names."""
    wanted = " ".join(query.casefold().split())
    matches = []
    for concept in {c.id: c for c in (*(vocabulary[i] for i in activations), *by_name)}.values():
        names = (concept.name, *concept.aliases)
        matches.append(
            RankedConcept(
                concept=concept,
                activation=activations.get(concept.id, 0.0),
                name_match=any(name.casefold() == wanted for name in names),
            )
        )
    return sorted(matches, key=lambda m: (not m.name_match, -m.activation))
