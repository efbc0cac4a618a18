"""English words are told from others by WordNet, its endings, and compounds."""

from __future__ import annotations

import pytest

from training.data.english import FILES, FOLDER, EnglishWords

LEMMAS = {
    "index.noun": "box candle check city dish goose mark palm salt shaker tree table "
    "costa_rica pie kitchen risk",
    "index.verb": "light run stack",
    "index.adj": "dark heavy",
    "noun.exc": "geese",
}


@pytest.fixture
def english() -> EnglishWords:
    """A WordNet of some words, in its own format, licence and all."""
    lines = {
        name: "".join(f"{w} n 1 0 1 0 02\n" for w in ws.split()) for name, ws in LEMMAS.items()
    }
    lines["index.noun"] = "  1 This software is licensed gatto\n" + lines["index.noun"]
    lines["noun.exc"] = "geese goose\n"
    files = {name: lines.get(name.removeprefix(FOLDER), "").encode() for name in FILES}
    return EnglishWords.from_files(files)


@pytest.mark.parametrize(
    "word",
    [
        "box",
        "boxes",
        "cities",
        "dishes",
        "geese",
        "lighting",
        "stacked",
        "darker",
        "with",
        "palmtree",
    ],
)
def test_words_and_their_forms_are_known(english: EnglishWords, word: str) -> None:
    assert english.knows(word)


@pytest.mark.parametrize("word", ["gatto", "licensed", "checkbo", "treebox", "fotografica", "xes"])
def test_other_words_are_not(english: EnglishWords, word: str) -> None:
    assert not english.knows(word)  # the parts of a compound have four letters: `treebox` has none


def test_a_caption_is_english_in_every_word(english: EnglishWords) -> None:
    assert english.knows_all("salt and a pie")
    for caption in ("salt 2", "box x", "mdi box", "salt-box", ""):
        assert not english.knows_all(caption), caption


@pytest.mark.parametrize(
    "title",
    [
        "Candle",
        "heavy kitchen table",
        "flag of Costa Rica",
        "DarkCandle",
        "Goose's box",
        "Box of Zyx pie",
    ],
)
def test_english_titles(english: EnglishWords, title: str) -> None:
    assert english.is_title(title)


@pytest.mark.parametrize(
    "title", ["Gatto", "Candela di notte", "risk biologico", "gatto con tree verde", "", "of in"]
)
def test_other_titles(english: EnglishWords, title: str) -> None:
    assert not english.is_title(title)  # half of the words is not enough
