"""A user's vocabulary: what is read of its file, and what became of its words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from bundle.concepts import ConceptEvidence, NamedConcept
from training.bundling.name_vocabulary import (
    NameVocabulary,
    read_vocabulary,
    vocabulary_coverage,
)
from training.bundling.naming import image_codes_of
from training.data.data_recipe import DataError
from training.evaluation.encoder import CodeMatrix
from training.evaluation.evaluate import EncodedSplit


def test_a_line_is_a_word_or_costs_itself(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"\xef\xbb\xbfMitral  Valve\r\n\naorta\nAORTA\na\0b\n" + b"x" * 101)
    vocabulary = read_vocabulary(path)
    assert vocabulary.words == ["mitral valve", "aorta"]
    assert (vocabulary.phrases, vocabulary.repeated) == (["mitral valve"], ["aorta"])
    assert [(at, reason) for at, _, reason in vocabulary.refused] == [
        (5, "holds a NUL character"),
        (6, "more than 100 characters"),
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\n \n", "holds no words"),
        (b"caf\xe9", "not UTF-8"),
        (b"".join(b"%d\n" % n for n in range(30_001)), "30,001 words are over the limit of 30,000"),
        (None, "not found"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_one_line(
    content: bytes | None, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as raised:
        read_vocabulary(path)
    assert str(raised.value) == f"--vocabulary: words.txt: {problem}"


def concept(number: int, name: str, *words: str, confidence: float | None = None) -> NamedConcept:
    evidence = tuple(ConceptEvidence(source=word, value=1.0) for word in words)
    return NamedConcept(
        id=number, name=name, words=evidence, active=True, name_confidence=confidence
    )


def test_each_word_has_an_outcome() -> None:
    concepts = [
        concept(0, "dog", "dog", "fur", confidence=0.5),
        concept(1, "dog (2)", "dog", confidence=0.75),
        concept(2, "concept 2 (unnamed)", "cat"),
    ]

    def texts(words: Sequence[str]) -> CodeMatrix:
        assert list(words) == ["zebra", "qqq"]  # the others need no look
        return np.array([[0, 1, 0], [0, 0, 0]], dtype=np.float32)

    vocabulary = NameVocabulary(words=["dog", "fur", "cat", "zebra", "qqq"])
    coverage = vocabulary_coverage(vocabulary, concepts, texts, lambda word: word == "zebra")
    assert coverage.to_dict()["cut_words"] == ["zebra"]
    assert [(w.word, w.outcome, list(w.concepts), w.confidence) for w in coverage.words] == [
        ("dog", "name", [0, 1], 0.75),
        ("fur", "evidence", [0], None),
        ("cat", "evidence", [2], None),
        ("zebra", "nothing", [], None),
        ("qqq", "silent", [], None),
    ]
    assert (coverage.concepts_named, coverage.named, coverage.unnamed) == (2, 2, [2])


class CaptionedSample:
    key = "a"
    meta = {
        "caption": "An X-ray of the mitral valve",
        "captions": ["An X-ray of the mitral valve", "valve, aorta"],
        "keywords": [],
        "set": "own",
        "name": "a",
    }


def test_an_image_is_tagged_with_the_phrases_of_its_captions() -> None:
    codes = np.ones((1, 2), dtype=np.float32)
    split = EncodedSplit(name="train", samples=[CaptionedSample()], codes=codes, held_out=False)  # type: ignore[list-item]
    words = ["mitral valve", "valve", "x-ray", "aorta", "left ventricle of the heart", "ray of the"]
    assert image_codes_of(split, words).tags == [
        {"mitral valve", "valve", "x-ray", "aorta", "ray of the"}
    ]
