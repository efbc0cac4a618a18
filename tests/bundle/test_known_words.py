"""Which words of a text are said to be unknown: those that are no concept's evidence."""

from __future__ import annotations

import pytest

from bundle.concepts import ConceptEvidence, NamedConcept
from bundle.known_words import KnownWords

EVIDENCE = ["dog", "clapping hands", "T-Rex", "call me hand", "hand", "me", "2nd place"]
KNOWN = KnownWords.of(
    NamedConcept(id=i, name=f"dog ({i})", words=(ConceptEvidence(source=source, value=1.0),))
    for i, source in enumerate(EVIDENCE)
)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("dog", ()),
        ("rocket", ("rocket",)),
        ("dogs", ("dogs",)),  # another token, which the tower never saw
        ("a photo of a dog", ("photo",)),
        ("clapping hands", ()),
        ("two clapping hands", ("two",)),
        ("hands clapping", ("hands", "clapping")),  # known in the phrase only
        ("call me hand", ()),
        ("call me dog", ("call",)),
        ("clapping hands call me hand dog", ()),
        ("a t-rex", ()),
        ("rex", ("rex",)),
        ("rocket, rocket and red rocket", ("rocket", "red")),
        ("2nd place 17 !", ()),
        ("dog (2)", ()),
        ("日本", ("日本",)),
        ("a dog's hand, the dog’s rocket", ("rocket",)),
        ("s, 's and store's", ("s", "store")),
        ("the of a", ()),
    ],
)
def test_words(text: str, unknown: tuple[str, ...]) -> None:
    assert KNOWN.unknown(text) == unknown


def test_a_model_without_evidence_judges_no_word() -> None:
    known = KnownWords.of([NamedConcept(id=0, name="dog")])
    assert known.unknown("rocket dog") == ()
