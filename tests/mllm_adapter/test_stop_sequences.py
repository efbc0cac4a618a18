"""Stop sequences: what passes, what is held back and what ends a text, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm_adapter.stop_sequences import StopScanner

# Few different characters, so that stop sequences occur, overlap and nearly occur.
TEXTS = st.text("abé ", max_size=40)
STOPS = st.lists(st.text("abé ", min_size=1, max_size=5), max_size=4)


def pieces(text: str, cuts: list[int]) -> list[str]:
    """A text cut at some positions; pieces may be empty."""
    bounds = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]


def until_stop(text: str, stops: list[str]) -> tuple[str, str]:
    """The text before the first stop sequence, and which it is: read off the whole text."""
    for start in range(len(text)):
        for stop in sorted(stops, key=len):
            if text.startswith(stop, start):
                return text[:start], stop
    return text, ""


@given(text=TEXTS, stops=STOPS, cuts=st.lists(st.integers(0, 40), max_size=12))
def test_text_passes_up_to_the_first_stop_sequence(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    scanner = StopScanner(stops)
    sent = "".join(scanner.feed(piece) for piece in pieces(text, cuts)) + scanner.finish()
    assert (sent, scanner.found) == until_stop(text, stops)


@given(text=TEXTS, stops=STOPS, cuts=st.lists(st.integers(0, 40), max_size=12))
def test_no_more_is_held_back_than_could_become_a_stop_sequence(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    scanner, read, sent = StopScanner(stops), "", ""
    for piece in pieces(text, cuts):
        read += piece
        sent += scanner.feed(piece)
        whole = until_stop(read, stops)
        # Nothing was sent that would have to be taken back.
        assert whole[0].startswith(sent)
        if scanner.found:
            assert (sent, scanner.found) == whole
            return
        held = read[len(sent) :]
        if whole[1]:  # it waits only for one that would begin before it
            assert len(sent) < len(whole[0])
        else:
            assert not held or any(stop.startswith(held) for stop in stops)


@pytest.mark.parametrize(
    ("stops", "cut", "sent", "found"),
    [
        ([], ["a", "b"], ["a", "b", ""], ""),
        (["bc"], ["ab", "d", "e"], ["a", "bd", "e", ""], ""),  # held back, and sent after all
        (["bc"], ["ab", "c", "d"], ["a", "", "", ""], "bc"),
        (["bc"], ["ab"], ["a", "b"], ""),  # held back at the end of the text
        (["\n"], ["a\nb"], ["a", ""], "\n"),
        ([" "], ["a", " ", "b"], ["a", "", "", ""], " "),
        # One that is there waits for one that would begin before it.
        (["c", "bcd"], ["abc", "d"], ["a", "", ""], "bcd"),
        (["c", "bcd"], ["abc", "e"], ["a", "b", ""], "c"),
        (["c", "bcd"], ["abc"], ["a", "b"], "c"),
        (["abcd", "ab"], ["xa", "b", "cd"], ["x", "", "", ""], "ab"),  # the shorter of two
        (["aab"], ["aa", "ab"], ["", "a", ""], "aab"),
        (["ab", "ab"], ["ab"], ["", ""], "ab"),
    ],
)
def test_pieces(stops: list[str], cut: list[str], sent: list[str], found: str) -> None:
    scanner = StopScanner(stops)
    assert [*map(scanner.feed, cut), scanner.finish()] == sent
    assert scanner.found == found
