"""concepts.jsonl and the search in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bundle.concepts import ConceptEvidence, ConceptsError, ConceptVocabulary, NamedConcept


def named(*names: str, aliases: tuple[str, ...] = ()) -> list[NamedConcept]:
    return [NamedConcept(id=i, name=name, aliases=aliases) for i, name in enumerate(names)]


def through(path: Path, concepts: list[NamedConcept]) -> ConceptVocabulary:
    ConceptVocabulary.write(path / "concepts.jsonl", concepts)
    return ConceptVocabulary.open(path / "concepts.jsonl")


def test_everything_survives(tmp_path: Path) -> None:
    concepts = [
        NamedConcept(
            id=0,
            name="hot dog 🌭",
            aliases=("frankfurter", "Würstchen"),
            frequency=0.25,
            clarity=0.5,
            modality=0.75,
            active=True,
            words=(ConceptEvidence(source="hot dog", value=2.5),),
            images=(ConceptEvidence(source="icons/1f32d.png", value=3.5),),
        ),
        NamedConcept(id=1, name="cat"),
    ]
    vocabulary = through(tmp_path, concepts)
    assert vocabulary.concepts == tuple(concepts)
    assert len(vocabulary) == 2
    assert vocabulary[1] == concepts[1] == vocabulary.by_name("cat")
    assert vocabulary.by_name("Cat") is None
    for outside in (-1, 2):
        with pytest.raises(IndexError):
            vocabulary[outside]


def test_names_become_unique_and_printable(tmp_path: Path) -> None:
    names = ("dog", "dog", "dog (2)", "dog", "", "a\nb", "\x00", "\u202edog")
    vocabulary = through(tmp_path, named(*names))
    assert [c.name for c in vocabulary.concepts] == [
        "dog",
        "dog (3)",
        "dog (2)",
        "dog (4)",
        "concept 4",
        "a b",
        "concept 6",
        "dog (5)",
    ]
    assert all(vocabulary.by_name(c.name) == c for c in vocabulary.concepts)


def test_ids_must_be_all_of_them(tmp_path: Path) -> None:
    for ids in ((0, 2), (1,), (0, 0)):
        with pytest.raises(ConceptsError, match="^id: must be"):
            through(tmp_path, [NamedConcept(id=i, name=f"c{n}") for n, i in enumerate(ids)])
    swapped = [NamedConcept(id=1, name="b"), NamedConcept(id=0, name="a")]
    assert [c.name for c in through(tmp_path, swapped).concepts] == ["a", "b"]


def test_what_json_cannot_hold(tmp_path: Path) -> None:
    for bad in (
        NamedConcept(id=0, name="x", frequency=float("nan")),
        NamedConcept(id=0, name="x", aliases=("\ud800",)),
    ):
        with pytest.raises(ConceptsError, match="^concept 0: "):
            through(tmp_path, [bad])


GOOD = {"id": 0, "name": "dog"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "line 1: not JSON"),
        (["[" * 100_000], "line 1: not JSON"),
        ([b"\xff"], "line 1: not JSON"),
        (["3"], "line 1: top level: must be an object"),
        (['{"id": 0}'], "line 1: name: missing"),
        (['{"id": 0, "nmae": "x"}'], "line 1: nmae: unknown key; did you mean name"),
        ([json.dumps(GOOD), json.dumps(GOOD)], "line 2: id: must be 1"),
        ([json.dumps(GOOD | {"id": 5})], "line 1: id: must be 0"),
        ([json.dumps(GOOD), json.dumps(GOOD | {"id": 1})], "line 2: name: empty"),
        ([json.dumps(GOOD | {"name": ""})], "line 1: name: empty"),
        ([json.dumps(GOOD | {"name": "a\tb"})], "line 1: name: empty"),
        ([json.dumps(GOOD | {"words": [{"source": "x"}]})], r"line 1: words\[0\].value: missing"),
    ],
)
def test_a_mistake_names_its_line(tmp_path: Path, lines: list[str | bytes], message: str) -> None:
    path = tmp_path / "concepts.jsonl"
    path.write_bytes(b"\n".join(x.encode() if isinstance(x, str) else x for x in lines))
    with pytest.raises(ConceptsError, match=f"^concepts.jsonl, {message}"):
        ConceptVocabulary.open(path)


def test_search_ranks_as_it_says() -> None:
    vocabulary = ConceptVocabulary(
        (
            NamedConcept(id=0, name="hot dog", active=True),
            NamedConcept(id=1, name="dog", active=False),
            NamedConcept(id=2, name="dogfish", active=True, frequency=0.1),
            NamedConcept(id=3, name="dogma", active=True, frequency=0.2),
            NamedConcept(id=4, name="underdog", active=True),
            NamedConcept(id=5, name="puppy", aliases=("pet", "dog"), active=True),
            NamedConcept(id=6, name="cat", aliases=("not a dog",), active=True),
            NamedConcept(id=7, name="dogs", active=False),
            NamedConcept(id=8, name="fish", active=True),
        )
    )

    def found(query: str, limit: int = 99) -> list[int]:
        return [c.id for c in vocabulary.search(query, limit)]

    assert found("dog") == [1, 5, 3, 2, 7, 0, 6, 4]
    assert found("  DOG ") == found("dog")
    assert found("dog", 2) == [1, 5]
    assert found("hot   dog") == [0]
    assert found("not a dog") == [6]
    assert found("zebra") == found("") == found(" ") == found("dog", 0) == []


def test_what_tells_names_apart_is_found_like_a_word() -> None:
    vocabulary = ConceptVocabulary(tuple(named("babysitting", "cat (sitting)", "cat (weary)")))
    assert [c.id for c in vocabulary.search("sitting", 9)] == [1, 0]
    assert [c.id for c in vocabulary.search("cat (s", 9)] == [1]
    assert vocabulary[1].is_named
    assert not NamedConcept(id=3, name="concept 3 (unnamed)").is_named


def test_it_holds_the_largest_model(tmp_path: Path) -> None:
    evidence = tuple(ConceptEvidence(source=f"word {i}", value=float(i)) for i in range(4))
    many = [NamedConcept(id=i, name=f"c {i % 500}", words=evidence) for i in range(8_000)]
    vocabulary = through(tmp_path, many)
    assert len({c.name for c in vocabulary.concepts}) == 8_000
    assert vocabulary.by_name("c 499 (16)") is not None
    assert vocabulary.search("c 499 (16)", 1)[0].id == 7_999
