"""What the tools do: search, explain and compare images, and look up concepts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.index.databases.base import Origin, SearchableDatabase
from serving.index.query import QueryError, QueryTerm, make_query
from serving.tool_server.allowed_folders import AllowedFolders, PathRefusedError
from serving.tool_server.folder_search import FolderSearch, cosine, embed_query, shared_names
from sparseclip import Client, Embedding, Outputs

MAX_TOP = 50
"""Results of one call: what a language model reads costs it tokens."""
_NAMED = 200
"""Concepts of an image that are named for a comparison."""


@dataclass(frozen=True, kw_only=True)
class FoundImage:
    """An image that answers a query."""

    path: str
    score: float
    shared_concepts: list[str]


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """The images nearest to a query, best first."""

    images: list[FoundImage]
    searched: str


@dataclass(frozen=True, kw_only=True)
class FoundConcept:
    """A concept that fits a query."""

    id: int
    name: str
    activation: float
    is_its_name: bool
    words: list[str]


@dataclass(frozen=True, kw_only=True)
class FoundConcepts:
    """The concepts that fit a query, best first."""

    concepts: list[FoundConcept]
    unknown_words: list[str]


@dataclass(frozen=True, kw_only=True)
class ExplainedConcept:
    """A concept of an image, and where it fires."""

    id: int
    name: str
    value: float
    where: str
    map: list[list[float]]


@dataclass(frozen=True, kw_only=True)
class ImageReport:
    """What an image shows."""

    path: str
    concepts: list[ExplainedConcept]
    nearest_captions: list[str]


@dataclass(frozen=True, kw_only=True)
class SharedConcept:
    """A concept of both images."""

    name: str
    first: float
    second: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two images have in common."""

    similarity: float
    shared: list[SharedConcept]
    only_first: list[str]
    only_second: list[str]


class ImageTools:
    """Asks a server through the client. Threads may share one.

    Methods raise PathRefusedError, QueryError, DatabaseError and CallError, whose messages are for
    the language model.
    """

    def __init__(
        self, client: Client, folders: AllowedFolders, database: SearchableDatabase | None
    ) -> None:
        """Searches `database` where there is one, and otherwise the images in the folders."""
        self._client = client
        self._folders = folders
        self._database = database
        self._search = FolderSearch(client, folders)

    def search_images(self, query: str, top: int = 10, folder: str = "") -> FoundImages:
        """See `serving.tool_server.mcp_tools`."""
        if self._database is not None:
            if folder:
                raise PathRefusedError("folder: a database is searched as a whole")
            return self._search_database(self._database, query, _bounded(top))
        found = self._search.search(embed_query(self._client, query), folder, _bounded(top))
        images = [
            FoundImage(path=hit.path, score=_short(hit.score), shared_concepts=list(hit.shared))
            for hit in found.hits
        ]
        left_out = f", {found.left_out} could not be read" if found.left_out else ""
        return FoundImages(images=images, searched=f"{found.searched} images{left_out}")

    def _search_database(self, database: SearchableDatabase, query: str, top: int) -> FoundImages:
        origin = database.origin()
        made = make_query(self._client, [QueryTerm(text=query)], dense=origin.dense_dim > 0)
        model = Origin(model=made.model, bundle=origin.bundle, dense_dim=origin.dense_dim)
        origin.refuse_other(model, "database")
        images = [
            FoundImage(path=hit.source, score=_short(hit.score), shared_concepts=[])
            for hit in database.search(made.vector, top)
        ]
        return FoundImages(images=images, searched="the database")

    def explain_image(self, path: str, top: int = 5) -> ImageReport:
        """See `serving.tool_server.mcp_tools`."""
        data = self._folders.read(path)
        answer = self._client.explain(data, top_concepts=_bounded(top), captions=3)
        concepts = [
            ExplainedConcept(
                id=entry.concept.concept_id,
                name=entry.concept.name,
                value=_short(entry.concept.value),
                where=where(entry.values),
                map=[[_short(value) for value in row] for row in entry.values.tolist()],
            )
            for entry in answer.explanations
        ]
        captions = [caption.text for caption in answer.captions]
        return ImageReport(path=path, concepts=concepts, nearest_captions=captions)

    def search_concepts(self, query: str, top: int = 10) -> FoundConcepts:
        """See `serving.tool_server.mcp_tools`."""
        matches = self._client.search_concepts(query, limit=_bounded(top))
        concepts = [
            FoundConcept(
                id=match.concept.concept_id,
                name=match.concept.name,
                activation=_short(match.activation),
                is_its_name=match.name_match,
                words=[word.source for word in match.concept.words[:5]],
            )
            for match in matches
        ]
        return FoundConcepts(concepts=concepts, unknown_words=list(matches.coverage.unknown_words))

    def compare_images(self, first: str, second: str, top: int = 10) -> Comparison:
        """See `serving.tool_server.mcp_tools`."""
        data = [self._folders.read(path) for path in (first, second)]
        is_sparse = self._client.model_info().kind == "sparse"
        outputs = Outputs(sparse=True, top_concepts=_NAMED) if is_sparse else None
        answers = self._client.embed(data, outputs=outputs)
        for path, answer in zip((first, second), answers, strict=True):
            if not answer.ok:
                raise QueryError(f"{path}: {answer.status.message}")
        a, b = answers
        values = [{c.name: c.value for c in answer.concepts} for answer in (a, b)]
        names = {c.concept_id: c.name for c in (*a.concepts, *b.concepts)}
        shared = [n for n in shared_names(a, b, names) if n in values[0] and n in values[1]]
        return Comparison(
            similarity=_short(cosine(a, b)),
            shared=[
                SharedConcept(name=n, first=_short(values[0][n]), second=_short(values[1][n]))
                for n in shared[: _bounded(top)]
            ],
            only_first=_own(a, b)[:top],
            only_second=_own(b, a)[:top],
        )


def where(values: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> str:
    """In words, the part of an image where a map (rows, columns) is strongest."""
    if values.size == 0 or not values.any():
        return "nowhere"
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    vertical = ("top", "middle", "bottom")[int(row) * 3 // values.shape[0]]
    horizontal = ("left", "centre", "right")[int(column) * 3 // values.shape[1]]
    return f"{vertical} {horizontal}"


def _own(a: Embedding, b: Embedding) -> list[str]:
    """The strongest concepts of one image that the other one does not show."""
    others = set(b.indices.tolist())
    return [concept.name for concept in a.concepts if concept.concept_id not in others]


def _bounded(top: int) -> int:
    if not 1 <= top <= MAX_TOP:
        raise QueryError(f"top: must be from 1 to {MAX_TOP}")
    return top


def _short(value: float) -> float:
    return round(float(value), 4)
