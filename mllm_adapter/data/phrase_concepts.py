"""The strongest concepts of many phrases. N phrases, C concepts, K slots, B drawn phrases."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bundle.progress import show_progress
from mllm_adapter.data.code_tables import BackboneGraphs

PHRASES_PER_CHUNK = 1024
CANDIDATES = 64
"""Phrases of which the most similar one is a hard negative. Among all phrases it would often be a
synonym."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PhraseConcepts:
    """The strongest concepts of N distinct phrases, strongest first."""

    phrases: Sequence[str]
    indices: NDArray[np.int64]
    """(N, K)"""
    values: NDArray[np.float32]
    """(N, K): relative to the strongest concept's, as an edit sets them; 0 in unused slots, and
    thus everywhere for a phrase on which no concept fires."""
    concepts: int
    """C."""

    @classmethod
    def of(cls, phrases: Sequence[str], graphs: BackboneGraphs, top: int) -> PhraseConcepts:
        """Runs the text tower."""
        slots = min(top, graphs.concepts)
        indices = np.zeros((len(phrases), slots), np.int64)
        values = np.zeros((len(phrases), slots), np.float32)
        with show_progress("phrases", len(phrases), "phrases") as advance:
            for start in range(0, len(phrases), PHRASES_PER_CHUNK):
                codes = graphs.texts(phrases[start : start + PHRASES_PER_CHUNK])  # (B, C)
                strongest = np.argsort(-codes, axis=1, kind="stable")[:, :slots]
                part = slice(start, start + len(codes))
                indices[part] = strongest
                values[part] = np.take_along_axis(codes, strongest, axis=1).clip(min=0)
                advance(len(codes))
        values /= np.where(values[:, :1] > 0, values[:, :1], 1)
        return cls(phrases=phrases, indices=indices, values=values, concepts=graphs.concepts)

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each phrase."""
        return {phrase: row for row, phrase in enumerate(self.phrases)}

    def taken(self, phrases: Sequence[str], top: int) -> PhraseConcepts:
        """Those of some of the phrases, `top` concepts each."""
        rows = [self.rows[phrase] for phrase in phrases]
        return PhraseConcepts(
            phrases=phrases,
            indices=self.indices[rows, :top],
            values=self.values[rows, :top],
            concepts=self.concepts,
        )

    def dense(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
        """The codes of some rows at full width, (B, C); the strongest concept of each has 1."""
        codes = np.zeros((len(rows), self.concepts), np.float32)
        np.put_along_axis(codes, self.indices[rows], self.values[rows], axis=1)
        return codes

    def similar(self, row: int, rng: random.Random) -> list[int]:
        """Some phrases by the cosine of their codes with that of a row, the nearest first."""
        candidates = np.array([rng.randrange(len(self)) for _ in range(CANDIDATES)])
        [full] = self.dense([row])
        values = self.values[candidates]
        cosines = (values * full[self.indices[candidates]]).sum(1) / np.linalg.norm(values, axis=1)
        nearest: list[int] = candidates[np.argsort(-cosines, kind="stable")].tolist()
        return nearest


def phrase_problems(
    phrases: Sequence[str], concepts: PhraseConcepts, graphs: BackboneGraphs
) -> dict[str, str]:
    """Phrases that cannot be learned from, and why. Of phrases with one code, which a reader of
    codes cannot tell apart, the first one is learned."""
    problems: dict[str, str] = {}
    seen: set[bytes] = set()
    for phrase in phrases:
        row = concepts.rows[phrase]
        code = concepts.indices[row].tobytes() + concepts.values[row].tobytes()
        if not concepts.values[row].any():
            problems[phrase] = "no concept answers to it"
        elif graphs.bundle.tokenizer.is_cut(phrase):
            problems[phrase] = "longer than the text tower reads"
        elif code in seen:
            problems[phrase] = "the code of another phrase"
        seen.add(code)
    return problems
