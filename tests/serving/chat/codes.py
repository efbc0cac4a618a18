"""Codes and edits of images, and a resolver for the tiny bundle's concepts."""

from __future__ import annotations

import numpy as np

from bundle.concepts import ConceptVocabulary
from serving.chat.chat_request import RequestedEdit, SteeredImage
from serving.chat.code_cache import CachedCodes
from serving.chat.resolve_edits import EditResolver
from tests.support.tiny_model import CONCEPTS, tiny_concepts

RESOLVE = EditResolver(
    concepts=ConceptVocabulary(tuple(tiny_concepts())), patches=16, top=3, strength=2.0
)


def codes_of(slots: int, seed: int = 0) -> CachedCodes:
    random = np.random.default_rng(seed)
    indices = np.stack([random.permutation(CONCEPTS)[:slots] for _ in range(16)])
    return CachedCodes(indices, random.random((16, slots), dtype=np.float32))


def phrase_codes(**active: dict[int, float]) -> dict[str, np.ndarray]:
    codes = {}
    for phrase, values in active.items():
        codes[phrase] = np.zeros(CONCEPTS, dtype=np.float32)
        codes[phrase][list(values)] = list(values.values())
    return codes


def image(*edits: RequestedEdit, strength: float = 1.0) -> SteeredImage:
    return SteeredImage(data=b"x", edits=edits, strength=strength, at="at")
