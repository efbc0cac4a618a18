"""Names beside pictures: who is listed, what a judge's answers become, and the shares."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.name_judgements import (
    JudgedPicture,
    JudgementError,
    ListedName,
    NameSheet,
    read_answers,
    read_verdicts,
    shares,
    write_verdicts,
)
from benchmarks.name_sheet import CELL, COLUMNS, listed, one_of_each_caption, page
from benchmarks.names import of_order, order_weights
from bundle.concepts import ConceptEvidence, ConceptVocabulary, NamedConcept
from tests.bundle.encoded_images import encode, noise
from training.loading.samples import OwnSample


def name(concept: int, text: str, rank: int, cosine: float = 0.0) -> ListedName:
    return ListedName(concept=concept, name=text, cosine=cosine, rank=rank)


def picture(number: int, caption: str, *names: ListedName) -> JudgedPicture:
    words = tuple(caption.split())
    return JudgedPicture(
        picture=number, key=f"k{number}", caption=caption, words=words, names=names
    )


SHEET = NameSheet(
    model="demo/1",
    split="test_style",
    seed=0,
    shown=2,
    encoder="letters",
    threshold=0.5,
    pictures=(
        picture(1, "weary cat", name(4, "cat (weary)", 1), name(9, "boat", 0, 0.6)),
        picture(
            2, "dog", name(4, "cat (weary)", 2), name(3, "boat (2)", 0), name(5, "puppy", 1, 0.7)
        ),
    ),
)


def test_shares_are_of_what_was_accepted() -> None:
    found = shares(SHEET, read_answers(SHEET, "1: 1\n\n2: 2 3\n"))
    assert found["pictures"] == 2
    assert found["without a name"] == 1  # the second concept of the first picture

    def percents(measure: str) -> list[float]:
        return [share["percent"] for share in found[measure].values()]

    # of the 2 strongest, of their names, of the strongest one's name, of control names
    assert percents("judge") == [50, 66.7, 100, 50]
    assert percents("a word of the caption or keywords") == [25, 33.3, 50, 0]
    assert percents("near the caption") == [25, 33.3, 50, 50]
    assert percents("either") == [50, 66.7, 100, 50]
    assert found["judge"]["of the 2 strongest"]["names"] == 4
    # Both pictures have one of two accepted: they do not differ.
    assert found["judge"]["of the 2 strongest"]["error"] == 0
    assert found["judge"]["of control names"]["error"] == pytest.approx(35.4)  # 0.5 / sqrt(2)
    assert "judge" not in shares(SHEET, None)


def test_verdicts_and_the_sheet_survive(tmp_path: Path) -> None:
    verdicts = read_answers(SHEET, "2: 1\n1:")
    assert [pair for pair, accepted in verdicts.items() if accepted] == [(2, 4)]
    write_verdicts(tmp_path / "v.csv", verdicts, "somebody, by eye")
    SHEET.write(tmp_path / "sheet.json")
    sheet = NameSheet.read(tmp_path / "sheet.json")
    assert sheet == SHEET
    assert read_verdicts(sheet, tmp_path / "v.csv") == verdicts
    assert list(sheet.lines())[0] == "1: 1 cat (weary) | 2 boat"
    lines = (tmp_path / "v.csv").read_text().splitlines()
    (tmp_path / "v.csv").write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(JudgementError, match="v.csv: is not of this sheet"):
        read_verdicts(sheet, tmp_path / "v.csv")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1: 1", "picture 2: no line"),
        ("1: 1\n2: 1\n1:", "line 3: no such picture, or for the second time"),
        ("1: 1\n3: 1", "line 2: no such picture"),
        ("1: 3\n2:", "line 1: picture 1 has no name 3"),
        ("1: 0\n2:", "line 1: picture 1 has no name 0"),
        ("1 1\n2:", "line 1: must be like"),
    ],
)
def test_answers_that_do_not_fit_are_refused(text: str, problem: str) -> None:
    with pytest.raises(JudgementError, match=problem):
        read_answers(SHEET, text)


WHITE = ((255, 255),) * 3

VOCABULARY = ConceptVocabulary(
    tuple(
        NamedConcept(id=k, name="concept 3 (unnamed)" if k == 3 else f"name {k}") for k in range(12)
    )
)


def test_each_picture_lists_its_own_and_two_of_others() -> None:
    codes = np.zeros((3, 12), dtype=np.float32)
    codes[0, [5, 3, 2, 1, 0, 4]] = 6, 5, 4, 3, 2, 1  # six fire; the second has no name
    codes[1, [7, 8]] = 2, 1
    codes[2, [9, 10, 11, 6]] = 1, 2, 3, 4
    lists = listed(codes, VOCABULARY, random.Random(0))
    own = [{k: rank for k, _, rank in entries if rank} for entries in lists]
    assert own == [{5: 1, 2: 3, 1: 4, 0: 5}, {7: 1, 8: 2}, {6: 1, 11: 2, 10: 3, 9: 4}]
    for entries, ranks in zip(lists, own, strict=True):
        controls = [k for k, _, rank in entries if not rank]
        assert len(set(controls)) == 2
        assert all(k not in ranks and any(k in other for other in own) for k in controls)
        assert all(text == f"name {k}" for k, text, _ in entries)
    # Controls are not at the end of every list.
    assert any(entries[-1][2] for entries in lists)
    assert lists == listed(codes, VOCABULARY, random.Random(0))


def sample(key: str, caption: str) -> OwnSample:
    return OwnSample(key=key, encoded=encode(noise(40, 30), "PNG"), meta={"caption": caption})


def test_no_two_pictures_have_one_caption() -> None:
    samples = [
        sample(f"{i:03}", f"Thing {i // 5}" if i % 2 else f"thing {i // 5}") for i in range(60)
    ]
    chosen = one_of_each_caption(samples, 10, seed=3)
    assert len({s.meta["caption"].lower() for s in chosen}) == len(chosen) == 10
    assert chosen == one_of_each_caption(samples[::-1], 10, seed=3)
    assert chosen != one_of_each_caption(samples, 10, seed=4)
    assert len(one_of_each_caption(samples, 99, seed=3)) == 12


def test_a_page_holds_every_picture_and_cuts_long_names() -> None:
    samples = [sample("a", "cat")] * (COLUMNS + 1)
    pictures = [picture(i, "cat", name(1, "word " * 30, 1)) for i in range(COLUMNS + 1)]
    drawn = page(samples, pictures).convert("RGB")
    assert drawn.size == (COLUMNS * CELL[0], 2 * CELL[1])
    for i in range(COLUMNS + 1):
        left, top = i % COLUMNS * CELL[0], i // COLUMNS * CELL[1]
        cell = drawn.crop((left, top, left + CELL[0], top + CELL[1]))
        assert len(cell.getcolors(10_000) or []) > 20
        edge = cell.crop((CELL[0] - 3, 0, CELL[0], CELL[1]))
        assert edge.getextrema() == WHITE
    empty = drawn.crop((CELL[0], CELL[1], drawn.width, drawn.height))
    assert empty.getextrema() == WHITE


def test_orders_of_concepts_weigh_what_they_say() -> None:
    images = (ConceptEvidence(source="a", value=2.0), ConceptEvidence(source="b", value=4.0))
    concepts = [
        NamedConcept(id=0, name="cat", frequency=0.5, name_confidence=0.2, hub=True),
        NamedConcept(id=1, name="dog", frequency=0.01, name_confidence=0.9, images=images),
    ]
    weights = order_weights(concepts)
    assert weights["activation"].tolist() == [1, 1]
    assert weights["activation, without hubs"].tolist() == [0, 1]
    assert weights["activation x name_confidence"].tolist() == pytest.approx([0.2, 0.9])
    rarity = weights["activation x log(1 / frequency)"]
    assert rarity.tolist() == pytest.approx(np.log([2, 100]).tolist())
    strong = weights["activation / mean of the four strongest training images"]
    assert strong.tolist() == pytest.approx([1, 1 / 3])
    codes = np.array([[2, 1], [1, 0], [0, 0]], dtype=np.float32)
    names, own = [frozenset({"cat"}), frozenset({"dog"})], [frozenset({"dog"})] * 3
    assert of_order(codes, names, own) == {"first": 0.0, "one of 5": 33.3, "share of 5": 33.3}
    assert of_order(codes * rarity, names, own)["first"] == 33.3
