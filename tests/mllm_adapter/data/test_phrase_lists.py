"""Phrases from all sources: what is taken, what is left out, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mllm_adapter.data.phrase_lists import HELD_OUT, WITHHELD, PhraseList, WithheldWords
from mllm_adapter.data.texts_config import TextsConfig
from training.data.data_recipe import DataError

META: list[dict[str, Any]] = [
    {"caption": "Red Apple", "captions": ["Red Apple", "apple"], "keywords": ["fruit"]},
    {"caption": "dog", "captions": ["dog"], "keywords": ["pet", "dog"]},
]
NONE = WithheldWords()


def read(folder: Path, config: TextsConfig, held_out: list[str], withheld: WithheldWords) -> Any:
    return PhraseList.read(config, folder, META, held_out, withheld)


def test_all_sources_are_taken_once_and_in_the_spelling_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("pet\nthing\nentity\nworld\n")
    (tmp_path / "own.txt").write_bytes("\ufeffDOG\n\n  gas   mask \nred apple\n".encode())
    config = TextsConfig(share=0.5, words=3, lists=(str(tmp_path / "own.txt"),))
    found = read(tmp_path, config, [], NONE)
    assert found.phrases == [
        *("Red Apple", "apple", "dog", "fruit", "pet", "gas mask", "thing", "entity")
    ]
    assert found.found == 3 + 3 + 3 + 3
    assert found.dropped == {"there before": 4}  # dog twice, red apple, pet
    assert found.summary() == "12 phrases found, 8 learned from, 4 left out (there before: 4)"


def test_held_out_captions_are_left_out_unless_an_image_that_is_learned_from_has_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "words.txt").write_text("thing\nrocket\napple\n")
    found = read(tmp_path, TextsConfig(share=0.5, words=3), ["Rocket", "APPLE"], NONE)
    assert "rocket" not in found.phrases
    assert "apple" in found.phrases
    assert found.dropped[HELD_OUT] == 1


def test_withheld_words_are_found_inside_texts_as_whole_words(tmp_path: Path) -> None:
    (tmp_path / "without.txt").write_text("Apple\nhot dog\n")
    withheld = WithheldWords(tmp_path / "without.txt")
    assert len(withheld) == 2
    for text, within in {
        "red APPLE": True,
        "apple-tree": True,
        "pineapple": False,
        "a hot dog": True,
        "hot": False,
        "dog": False,
        "hotdog": False,
    }.items():
        assert withheld.within(text) is within, text
    assert withheld.from_meta({**META[0], "category": "x"}) is None
    hot = {**META[1], "keywords": ["pet", "hot dog"], "category": "apple-things"}
    assert withheld.from_meta(hot) == {**META[1], "keywords": ["pet"], "category": None}
    assert NONE.from_meta(hot) == hot
    found = read(tmp_path, TextsConfig(share=0.5), [], withheld)
    assert found.phrases == ["dog", "fruit", "pet"]
    assert found.dropped[WITHHELD] == 2


def test_lines_that_are_no_phrases_are_counted_and_too_many_are_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    config = TextsConfig(share=0.5, captions=False, keywords=False, lists=(str(own),))
    own.write_text("cat\n...\n" + "x" * 101 + "\na\0b\n")
    found = read(tmp_path, config, [], NONE)
    assert found.phrases == ["cat"]
    assert found.dropped == {
        "has no word": 1,
        "more than 100 characters": 1,
        "holds a NUL character": 1,
    }
    own.write_text("cat\n" + "...\n" * 100)
    with pytest.raises(DataError, match=r"texts\.lists: own\.txt: 100 of 101 lines are no phrases"):
        read(tmp_path, config, [], NONE)
    own.write_text("...\n")
    with pytest.raises(DataError, match="1 of 1 lines"):
        read(tmp_path, config, [], NONE)
    own.write_text("rocket\n")
    with pytest.raises(DataError, match=r"texts: no phrase is left of 1 phrases found"):
        read(tmp_path, config, ["rocket"], NONE)


@pytest.mark.parametrize(
    ("content", "problem"),
    [(None, "not found"), (b"", "holds no phrase"), (b"\xff\xfe", "not UTF-8")],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    for field, config in {
        "texts.lists": TextsConfig(share=0.5, lists=(str(path),)),
        "texts.words": TextsConfig(share=0.5, words=9),
    }.items():
        with pytest.raises(DataError) as raised:
            read(tmp_path, config, [], NONE)
        assert str(raised.value) == f"{field}: words.txt: {problem}"
    with pytest.raises(DataError, match=rf"texts\.without: words\.txt: {problem}"):
        WithheldWords(path)


def test_a_digest_tells_lists_apart() -> None:
    config = TextsConfig(share=0.5)
    one, other = read(Path(), config, [], NONE), read(Path(), config, [], NONE)
    assert one.digest("a", NONE) == other.digest("a", NONE) != one.digest("b", NONE)
    other.drop({"dog": "no concept answers to it"})
    assert one.digest("a", NONE) != other.digest("a", NONE)
    assert other.dropped["no concept answers to it"] == 1
