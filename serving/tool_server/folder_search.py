"""Search over images in folders: they are embedded when they are first asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np

from serving.index.query import QueryError
from serving.tool_server.allowed_folders import (
    MAX_BYTES,
    AllowedFolders,
    FileState,
    PathRefusedError,
)
from sparseclip import Client, Embedding, Outputs

MAX_IMAGES = 5_000
"""Images that are searched without a database."""
_AT_ONCE = 64
"""Images that are read and embedded together."""
_BYTES_AT_ONCE = MAX_BYTES
"""With images of more bytes than this together, no further one joins them."""
_QUERY_NAMES = 200
"""Concepts of a query that are named. A text activates far fewer."""


@dataclass(frozen=True, kw_only=True)
class FolderHit:
    """An image that answers a query."""

    path: str
    score: float
    """Cosine of its code with the query's."""
    shared: tuple[str, ...]
    """Names of the concepts that count most in the score; empty of a dense model."""


@dataclass(frozen=True, kw_only=True)
class FolderHits:
    """The best images, best first."""

    hits: tuple[FolderHit, ...]
    searched: int
    left_out: int
    """Images that could not be read or embedded, and folders that could not be listed."""


class FolderSearch:
    """Embeds the images of allowed folders, keeps their codes, and ranks them. Threads may share
    one."""

    def __init__(self, client: Client, folders: AllowedFolders) -> None:
        self._client = client
        self._folders = folders
        self._lock = threading.Lock()
        self._kept: dict[FileState, Embedding | None] = {}
        """None for a file that is no image. One that changes is another one."""

    def search(self, query: Embedding, folder: str, top: int) -> FolderHits:
        """The images nearest to an embedded text or image. Raises PathRefusedError or CallError."""
        files, left_out = self._folders.images(folder)
        if len(files) > MAX_IMAGES:
            raise PathRefusedError(
                f"{len(files)} images, and at most {MAX_IMAGES} are searched without a database:"
                " name a folder below, or use `sparseclip index` and --database"
            )
        with self._lock:
            self._embed([file for file in files if not self._is_kept(file, query)])
            rows = [(file, self._kept.get(file)) for file in files]
            if len(self._kept) > 2 * MAX_IMAGES:  # files that are gone, or were replaced
                self._kept = dict(rows)
        found = [(file, row) for file, row in rows if row is not None and row.model == query.model]
        scored = sorted(
            ((cosine(query, row), file.path, row) for file, row in found),
            key=lambda one: (-one[0], one[1]),
        )
        names = {concept.concept_id: concept.name for concept in query.concepts}
        hits = tuple(
            FolderHit(path=path, score=score, shared=tuple(shared_names(query, row, names)[:5]))
            for score, path, row in scored[:top]
            if score > 0
        )
        left_out += len(files) - len(found)
        return FolderHits(hits=hits, searched=len(found), left_out=left_out)

    def _is_kept(self, file: FileState, query: Embedding) -> bool:
        """Whether a file's code is known, and comes from the model of the query."""
        kept = self._kept.get(file)
        return file in self._kept and (kept is None or kept.model == query.model)

    def _embed(self, files: Sequence[FileState]) -> None:
        group: dict[FileState, bytes] = {}
        for file in files:
            try:
                group[file] = self._folders.read(file.path)
            except PathRefusedError:  # tried again by the next search
                continue
            if len(group) == _AT_ONCE or sum(map(len, group.values())) >= _BYTES_AT_ONCE:
                self._embed_group(group)
                group = {}
        if group:
            self._embed_group(group)

    def _embed_group(self, group: dict[FileState, bytes]) -> None:
        answers = self._client.embed(list(group.values()), priority="bulk")
        for file, answer in zip(group, answers, strict=True):
            if answer.ok:
                self._kept[file] = answer
            elif answer.status.code is grpc.StatusCode.INVALID_ARGUMENT:  # no image, and stays so
                self._kept[file] = None


def embed_query(client: Client, text: str) -> Embedding:
    """A text as a query, its concepts named. Raises QueryError for one that nothing answers to."""
    outputs = None
    if client.model_info().kind == "sparse":
        outputs = Outputs(sparse=True, top_concepts=_QUERY_NAMES)
    [answer] = client.embed([], [text], outputs=outputs)
    if not answer.ok:
        raise QueryError(f"query: {answer.status.message.removeprefix('text: ')}")
    if outputs is not None and not answer.active:
        raise QueryError("query: no concept answers to it")
    return answer


def shared_names(a: Embedding, b: Embedding, names: dict[int, str]) -> list[str]:
    """The names of concepts that two codes share, by how much each adds to their cosine."""
    concepts, first, second = np.intersect1d(a.indices, b.indices, return_indices=True)
    products = a.values[first] * b.values[second]
    order = np.argsort(-products, kind="stable")
    return [names[int(concepts[i])] for i in order if int(concepts[i]) in names]


def cosine(a: Embedding, b: Embedding) -> float:
    """The cosine of two codes, or of two vectors of a dense model."""
    if a.dense is not None and b.dense is not None and not len(a.indices):
        return float(a.dense @ b.dense / (np.linalg.norm(a.dense) * np.linalg.norm(b.dense)))
    _, first, second = np.intersect1d(a.indices, b.indices, return_indices=True)
    norms = max(a.norm * b.norm, 1e-12)
    return float(a.values[first] @ b.values[second] / norms)
