"""Captions say what a person would say, and compare equal when they mean the same words."""

from __future__ import annotations

import pytest

from training.data.captions import (
    alternatives,
    caption_key,
    category_slug,
    emoji_caption,
    gender_neutral,
    has_word,
    name_caption,
    name_key,
)


@pytest.mark.parametrize(
    ("label", "caption"),
    [
        ("red apple", "red apple"),
        ("flag: Norway", "flag of Norway"),
        ("flag: Bosnia & Herzegovina", "flag of Bosnia and Herzegovina"),
        ("keycap: 1", "keycap 1"),
        ("man: red hair", "man with red hair"),
        ("woman: bald", "bald woman"),
        ("person running: facing right", "person running facing right"),
        ("family: man, woman, boy", "family of man, woman and boy"),
        ("kiss: man, man", "kiss of man and man"),
        ("one o’clock", "one o'clock"),
        ("O button (blood type)", "O button blood type"),
        ("Japanese “here” button", "Japanese here button"),
    ],
)
def test_emoji_labels_become_phrases(label: str, caption: str) -> None:
    assert emoji_caption(label) == caption


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alarm clock", "Clock, Alarm"),
        ("cherries", "cherry"),
        ("box with ribbon", "ribbon boxes"),
        ("Côte d’Ivoire", "cote d'ivoire"),
        ("woman's hat", "womans hat".replace("womans", "woman")),
        ("baby symbol", "baby"),
    ],
)
def test_captions_that_say_the_same_share_a_key(one: str, other: str) -> None:
    assert caption_key(one) == caption_key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("dog", "hot dog"), ("glass", "gla"), ("bus", "bu"), ("up arrow", "arrow")]
)
def test_captions_that_differ_have_other_keys(one: str, other: str) -> None:
    assert caption_key(one) != caption_key(other)


def test_a_key_is_never_empty_for_a_caption_of_fillers() -> None:
    assert caption_key("ON") == "on"


def test_names_lose_what_the_set_says_to_strip() -> None:
    assert name_caption("alarm-clock-2-flat", ("-flat$", r"-\d+$")) == "alarm clock"
    # A pattern that would leave nothing is not applied.
    assert name_caption("24", (r"^\d+$",)) == "24"


def test_gender_words_fall_away_from_labels() -> None:
    assert gender_neutral("man running: facing right") == "running"
    assert gender_neutral("woman running") == "running"
    assert gender_neutral("woman") == gender_neutral("boy") == "person"
    assert gender_neutral("mango") == "mango"


def test_alternatives_start_with_the_caption_and_never_repeat() -> None:
    found = alternatives("red apple", ["Red Apple", "apple"], ["apple", "food", "fruit", "red"])
    assert found[0] == "red apple"
    assert len({text.casefold() for text in found}) == len(found)
    assert "red apple, apple, food, fruit, red" in found
    assert alternatives("knot", [], []) == ["knot"]


def test_keywords_equal_to_the_caption_are_not_listed_again() -> None:
    assert alternatives("cherries", [], ["cherry"]) == ["cherries"]


@pytest.mark.parametrize("caption", ["7", "#", "a", "1 2", ""])
def test_captions_without_a_word_are_noise(caption: str) -> None:
    assert not has_word(caption)


def test_small_helpers() -> None:
    assert name_key("Flag: Côte d’Ivoire") == "flagcotedivoire"
    assert name_key("Antigua & Barbuda") == name_key("antigua-and-barbuda")
    assert category_slug("Food & Drink") == category_slug("FoodDrink") == "food-drink"
