"""Texts to ids, beside open_clip's own tokenizer."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bundle.tokenizer import MAX_CHARACTERS, Tokenizer, TokenizerError, byte_characters
from training.model.tokenizer import (
    STOCK_VOCABULARY,
    open_clip_tokenizer,
    truncated_bpe,
    write_tokenizer_json,
)

ICONS = Path(__file__).parents[1] / "fixtures" / "icons"

NASTY = [
    "",
    " ",
    "\n\t\r\n",
    "a photo of a dog",
    "I'm sure they'll say WE'VE can't it's he'd you're",
    "'ſ 'S 'LL '\u2019s",
    "<start_of_text>hi<end_of_text>",
    "<START_OF_TEXT>",
    "!<start_of_text>!",
    "<ſtart_of_text>",
    "<end_of_text" * 9,
    "&lt;end_of_text&gt;",
    "&amp;lt;b&amp;gt; &#xD800; &#0; &nbsp;",
    "a\0b",
    "\ud800x\udfff",
    "\ufeffbom",
    "ﬁ ½ ² Ⅷ ０１２ 1234 a1b2",
    "😀👩‍👩‍👧 🏳️‍🌈",
    "İstanbul \u212a ß ẞ Σς",
    "日本語テキスト ไทย العربية",
    "é e\u0301 \u0344",
    "a\u2028b\u3000c\x1fd\x85e\u00a0f\u200bg",
    "\U00031350 \U000e0041 \uffff",
    "don''t _under_score --dash-- ...",
    "schÃ¶n â€œquotesâ€\x9d",
    "\x1b[31mred\x1b[0m",
    "x" * 400,
    "á" * 100,
    "word " * 100,
]


class Pair(NamedTuple):
    """open_clip's tokenizer and ours, read from the file that it was written to."""

    theirs: Any
    ours: Tokenizer


@pytest.fixture(scope="module", params=[(8192, 32), (STOCK_VOCABULARY, 77), (514, 24)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    size, context = request.param
    theirs = open_clip_tokenizer(size, context)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer_json(theirs, path)
    return Pair(theirs, Tokenizer.open(path, context))


def test_ids_and_specials(pair: Pair) -> None:
    theirs, ours = pair
    assert ours.vocabulary == theirs.vocab_size
    assert list(ours.special_tokens.values())[:2] == [theirs.sot_token_id, theirs.eot_token_id]
    assert theirs.eot_token_id == theirs.vocab_size - 1  # open_clip pools at the highest id


def test_every_caption(pair: Pair) -> None:
    """Of the committed icons, or of the built data set that SPARSECLIP_DATA names."""
    from training.data.shards import read_index, read_split

    folder = Path(os.environ.get("SPARSECLIP_DATA", ICONS))
    captions: set[str] = set()
    for split in read_index(folder)["splits"]:
        for sample in read_split(folder, split):
            captions.update(sample.meta["captions"])
            captions.update(sample.meta["keywords"])
    assert len(captions) > 100
    texts = [t for c in sorted(captions) for t in (c, f"A photo of the {c.upper()}.")]
    assert np.array_equal(pair.ours.encode(texts), pair.theirs(texts).numpy())


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_nasty_texts(pair: Pair, text: str) -> None:
    ids = pair.ours.encode([text])
    assert ids.dtype == np.int64
    assert ids.shape == (1, pair.ours.context_length)
    assert np.array_equal(ids, pair.theirs([text]).numpy())


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=[]), max_size=60))
def test_any_text(pair: Pair, text: str) -> None:
    assert np.array_equal(pair.ours.encode([text]), pair.theirs([text]).numpy())


def test_long_texts_keep_their_end(pair: Pair) -> None:
    (row,) = pair.ours.encode(["dog " * 500])
    assert row[-1] == pair.theirs.eot_token_id
    assert (row != 0).all()


def test_rows_are_independent(pair: Pair) -> None:
    together = pair.ours.encode(["a dog", "", "a cat"])
    assert together.shape[0] == 3
    for row, text in zip(together, ["a dog", "", "a cat"], strict=True):
        assert np.array_equal(row, pair.ours.encode([text])[0])
    assert pair.ours.encode([]).shape == (0, pair.ours.context_length)


@pytest.mark.parametrize(
    "unit",
    ["x", "ab1", "&", "&#", "Ã©", "\n", "'", "\ud800", "\u0301\u0323", "<start_of_tex", "é "],
)
def test_the_longest_text_takes_bounded_time(pair: Pair, unit: str) -> None:
    text = (unit * MAX_CHARACTERS)[:MAX_CHARACTERS]
    start = time.perf_counter()
    pair.ours.encode([text])
    assert time.perf_counter() - start < 5  # a quadratic step would need minutes


@pytest.mark.parametrize("length", [MAX_CHARACTERS + 1, 2**20])
def test_longer_texts_are_refused(pair: Pair, length: int) -> None:
    with pytest.raises(TokenizerError, match="^text: more than"):
        pair.ours.encode(["a", "x" * length])


def test_the_file_runs_in_any_tokenizers(tmp_path: Path) -> None:
    import tokenizers

    theirs = open_clip_tokenizer(8192, 32)
    write_tokenizer_json(theirs, tmp_path / "tokenizer.json")
    alone = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("a  Photo of a DOG, isn't it?", "1234 trees"):
        expected = [theirs.sot_token_id, *theirs.encode(text), theirs.eot_token_id]
        assert alone.encode(text).ids == expected
        assert alone.decode(expected).strip() != ""


def test_a_truncated_vocabulary_is_the_head_of_the_stock_one(tmp_path: Path) -> None:
    small, stock = open_clip_tokenizer(8192, 77), open_clip_tokenizer(STOCK_VOCABULARY, 77)
    assert small.vocab_size == 8192
    assert [small.decoder[i] for i in range(8190)] == [stock.decoder[i] for i in range(8190)]
    truncated_bpe(8192, tmp_path / "a.gz")
    truncated_bpe(8192, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    for size in (513, STOCK_VOCABULARY + 1):
        with pytest.raises(ValueError, match="vocabulary: must be"):
            truncated_bpe(size, tmp_path / "c.gz")


def test_other_cleanings_are_refused(tmp_path: Path) -> None:
    from training.core.torchvision_compat import open_clip

    for options in ({"clean": "whitespace"}, {"reduction_mask": "simple"}):
        tokenizer = open_clip().SimpleTokenizer(**options)
        with pytest.raises(ValueError, match="^tokenizer: only"):
            write_tokenizer_json(tokenizer, tmp_path / "tokenizer.json")


def test_files_that_are_no_such_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    word_level = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    for text in ("", "{}", "[" * 9999, json.dumps({"version": "1.0", "model": word_level})):
        path.write_text(text)
        with pytest.raises(TokenizerError, match=r"^tokenizer\.json: not a"):
            Tokenizer.open(path, 32)
    write_tokenizer_json(open_clip_tokenizer(600, 16), path)
    with pytest.raises(TokenizerError, match="^context_length"):
        Tokenizer.open(path, 1)


def test_the_byte_table_is_open_clips() -> None:
    from training.core.torchvision_compat import open_clip

    open_clip()
    from open_clip.tokenizer import bytes_to_unicode

    assert byte_characters() == [bytes_to_unicode()[b] for b in range(256)]
