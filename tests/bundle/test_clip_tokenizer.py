"""Texts to ids, beside open_clip's own tokenizer."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bundle.clip_tokenizer import ClipTokenizer, byte_characters
from bundle.text import MAX_CHARACTERS, TextError, clean_text, without_ignorable
from bundle.tokenizer import TokenizerError
from tests.support.explore import examples
from training.model.tokenizer import (
    STOCK_VOCABULARY,
    CaptionTokenizer,
    open_clip_tokenizer,
    truncated_bpe,
    write_tokenizer_json,
)

ICONS = Path(__file__).parents[1] / "fixtures" / "icons"

NASTY = [
    "a photo of a dog",
    "I'm sure they'll say WE'VE can't it's he'd you're",
    "'ſ 'S 'LL '\u2019s",
    "<end_of_text" * 9,
    "&amp;lt;b&amp;gt; &#xD800; &#0; &nbsp;",
    "\ufeffbom",
    "ﬁ ½ ² Ⅷ ０１２ 1234 a1b2",
    "😀👩👩👧 🏳🌈",
    "İstanbul \u212a ß ẞ Σς",
    "日本語テキスト ไทย العربية",
    "é e\u0301 \u0344",
    "a\u2028b\u3000c\x1fd\x85e\u00a0fg",
    "\U00031350 \uffff",
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
    ours: ClipTokenizer


@pytest.fixture(scope="module", params=[(8192, 32), (STOCK_VOCABULARY, 77), (514, 24)])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    size, context = request.param
    theirs = open_clip_tokenizer(size, context)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer_json(theirs, path)
    return Pair(theirs, ClipTokenizer.open(path, context))


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


@examples(150)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60))
def test_any_text_without_ignorable_characters(pair: Pair, text: str) -> None:
    """open_clip keeps those, and ends a row at a special token's name."""
    text = without_ignorable(text).replace("_", "")
    assume(not has_ignorable(pair.theirs.clean_fn(text)))
    try:
        ids = pair.ours.encode([text])
    except TextError:
        assert pair.theirs.clean_fn(text) == ""
    else:
        assert np.array_equal(ids, pair.theirs([text]).numpy())


@pytest.mark.parametrize("text", ["0\u00d8\x9c", "d\u00c2\u00adog"], ids=ascii)
def test_ignorable_characters_of_a_repaired_text_are_dropped(pair: Pair, text: str) -> None:
    """Garbled letters that are ignorable characters once their encoding is repaired."""
    repaired = pair.theirs.clean_fn(text)
    assert has_ignorable(repaired)
    assert not has_ignorable(text.replace("\u00ad", ""))
    assert np.array_equal(
        pair.ours.encode([text]), pair.theirs([without_ignorable(repaired)]).numpy()
    )


def has_ignorable(text: str) -> bool:
    return without_ignorable(text) != text


@given(
    st.text("abXY 019.!?-'e\u0301日❤", max_size=40),
    st.sampled_from("\u00ad\u200b\u200d\u200e\u2060\ufe0f\ufeff\U000e0041"),
)
def test_ignorable_characters_change_no_text(text: str, ignorable: str) -> None:
    assert cleaned(ignorable.join(["", *text, ""])) == cleaned(text)


def cleaned(text: str) -> str:
    """The cleaned text, or why it is refused."""
    try:
        return clean_text(text)
    except TextError as error:
        return error.problem


def test_long_texts_keep_their_end(pair: Pair) -> None:
    (row,) = pair.ours.encode(["dog " * 500])
    assert row[-1] == pair.theirs.eot_token_id
    assert (row != 0).all()


def test_a_text_says_how_long_it_is(pair: Pair) -> None:
    """The count is open_clip's of the whole text, read or not."""
    context = pair.ours.context_length
    for words in (1, context - 2, context - 1, 500):
        text = " ".join(["a"] * words)
        tokenized = pair.ours.tokenize(text)
        assert tokenized.tokens == len(pair.theirs.encode(text)) + 2
        assert tokenized.truncated == (words > context - 2)


def test_training_reads_texts_with_the_code_that_serves(pair: Pair) -> None:
    """Its rows for nasty texts are those of the bundle's tokenizer, ignorable characters too."""
    texts = [*NASTY, "d\u00adog", "<end_of_text> x", "e\u200b\u0301"]
    training = CaptionTokenizer.of_size(pair.ours.vocabulary, pair.ours.context_length)
    assert np.array_equal(training(texts).ids.numpy(), pair.ours.encode(texts))
    with pytest.raises(TextError):
        training(["a", ""])


def test_rows_are_independent(pair: Pair) -> None:
    together = pair.ours.encode(["a dog", "x" * 99, "a cat"])
    assert together.shape[0] == 3
    for row, text in zip(together, ["a dog", "x" * 99, "a cat"], strict=True):
        assert np.array_equal(row, pair.ours.encode([text])[0])
    assert pair.ours.encode([]).shape == (0, pair.ours.context_length)


@pytest.mark.parametrize(
    "unit",
    ["x", "ab1", "&", "&#", "Ã©", "\n", "'", "\u0301\u0323", "<start_of_tex", "é "],
)
def test_the_longest_text_takes_bounded_time(pair: Pair, unit: str) -> None:
    text = (unit * MAX_CHARACTERS)[:MAX_CHARACTERS]
    start = time.perf_counter()
    with contextlib.suppress(TextError):  # nothing but white space
        pair.ours.encode([text])
    assert time.perf_counter() - start < 5  # a quadratic step would need minutes


@pytest.mark.parametrize("length", [MAX_CHARACTERS + 1, 2**20])
def test_longer_texts_are_refused(pair: Pair, length: int) -> None:
    with pytest.raises(TextError, match="^text: more than"):
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
            ClipTokenizer.open(path, 32)
    write_tokenizer_json(open_clip_tokenizer(600, 16), path)
    with pytest.raises(TokenizerError, match="^context_length"):
        ClipTokenizer.open(path, 1)


def test_the_byte_table_is_open_clips() -> None:
    from training.core.torchvision_compat import open_clip

    open_clip()
    from open_clip.tokenizer import bytes_to_unicode

    assert byte_characters() == [bytes_to_unicode()[b] for b in range(256)]
