"""WordNet's counted senses become a list of words, the most used first."""

from __future__ import annotations

from training.data.words import used_words

COUNTS = """\
0%1:23:00:: 1 20
red%3:00:01:chromatic:00 1 42
red%1:07:00:: 1 3
run%2:38:00:: 1 106
ice_cream%1:13:00:: 1 5
man_of_the_world%1:18:00:: 1 9
cat%1:05:00:: 1 18
big%5:00:01:large:00 1 45
"""


def test_nouns_and_adjectives_by_use() -> None:
    # Verbs, numbers and phrases of more than two words are left out; senses are added up.
    assert used_words(COUNTS) == ["big", "red", "cat", "ice cream"]
