"""Drawings of one colour fill the gaps that colour sets leave, a few for each caption and word."""

from __future__ import annotations

from collections.abc import Iterable

from training.data.captions import caption_key
from training.data.data_recipe import MonoSpec, SetSpec
from training.data.english import EnglishWords
from training.data.icons import Drawing, Dropped
from training.data.mono import choose_mono

ENGLISH = EnglishWords(frozenset({"anvil", "arrow", "left", "right", "up", "dog", "house"}))
STRIP = (r"-(bold|thin)$",)


def drawing(path: str) -> Drawing:
    """A drawing of which only the set and the name matter."""
    set_name, name = path.split("/")
    return Drawing(
        set=set_name,
        name=name,
        source=f"npm:x@1/{path}",
        licence="MIT",
        codepoint=None,
        category=None,
        content=b"",
    )


def choose(
    paths: Iterable[str], *, per_caption: int = 2, per_word: int = 2
) -> tuple[list[str], dict[str, str]]:
    """What is used, and why the others are not."""
    drawings = [drawing(path) for path in paths]
    sets = {
        d.set: SetSpec(package="x", kind="mono", licence="MIT", role="train", strip=STRIP)
        for d in drawings
    }
    spec = MonoSpec(per_caption=per_caption, captions_per_word=per_word)
    found = list(choose_mono(drawings, sets, spec, {caption_key("dog house")}, ENGLISH))
    used = [f"{d.set}/{d.name}" for d in found if isinstance(d, Drawing)]
    return used, {f"{d.set}/{d.name}": d.reason for d in found if isinstance(d, Dropped)}


def test_only_english_captions_that_no_other_set_has() -> None:
    used, dropped = choose(["a/anvil", "a/house-dog", "a/yunque", "a/anvil-2"])
    assert used == ["a/anvil"]
    assert dropped == {
        "a/house-dog": "another set has the caption",
        "a/yunque": "not all words are English",
        "a/anvil-2": "not all words are English",
    }


def test_a_caption_has_one_drawing_of_a_set_and_some_sets() -> None:
    paths = [f"{s}/anvil{end}" for s in "abcd" for end in ("", "-bold", "-thin")]
    used, dropped = choose(paths)
    assert len(used) == len({path[0] for path in used}) == 2
    assert {dropped[p] for p in paths if p not in used} == {"variant", "enough of the caption"}
    # The order in which sets are read does not matter.
    again, _ = choose(reversed(paths))
    assert sorted(again) == sorted(used)
    # One more set may only take the place of another.
    more, _ = choose([*paths, "e/anvil"])
    assert len(set(used) - set(more)) <= 1


def test_a_word_has_some_captions_the_short_ones_first() -> None:
    paths = ["a/arrow-left-up", "a/arrow-left", "b/arrow", "c/arrow", "a/arrow-right-up"]
    used, dropped = choose(paths)
    assert used == ["a/arrow-left", "b/arrow", "c/arrow"]
    assert set(dropped.values()) == {"a word has enough captions"}
