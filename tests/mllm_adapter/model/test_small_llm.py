"""New small models: which tokens their texts have, and how answers are written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers.decoders import DecodeStream

from mllm_adapter.model.llm import load_llm
from mllm_adapter.model.prompt import PromptBuilder, PromptMessage
from mllm_adapter.model.small_llm import SmallLLM, new_llm
from tests.mllm_adapter.llms import save_llm

TEXTS = ["a sousaphone", "What is this?", "flag of Åland", "a T-shirt", "naïveté, 千と千尋"]
QUESTION = PromptMessage(role="user", text="What is this?", images=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    config = SmallLLM(vocabulary=300, width=64, layers=1, heads=1, whole_words=True)
    folder = save_llm(new_llm(config, TEXTS), tmp_path_factory.mktemp("small") / "llm")
    return load_llm(folder)  # as an adapter is opened


def answer(tokenizer: Any, text: str) -> list[int]:
    *ids, end = PromptBuilder(tokenizer, 1).exchange([QUESTION], text).answer
    assert end == tokenizer.convert_tokens_to_ids("<|im_end|>")
    return ids


def test_every_word_is_one_token_first_or_not(whole: tuple[Any, Any]) -> None:
    model, tokenizer = whole
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    [sousaphone] = answer(tokenizer, "sousaphone")
    assert answer(tokenizer, "a sousaphone")[1:] == [sousaphone]
    [_] = answer(tokenizer, "Åland")
    assert len(answer(tokenizer, "flag of Åland")) == 3
    ids = {i for text in TEXTS for i in answer(tokenizer, text)}
    assert max(ids) < len(tokenizer)


def test_a_word_that_no_text_has_is_written_in_pieces(whole: tuple[Any, Any]) -> None:
    _, tokenizer = whole
    assert len(answer(tokenizer, "sousaphones")) > 1
    assert len(answer(tokenizer, "zither 🎻")) > 2


@pytest.mark.parametrize(
    "text", [*TEXTS, "sousaphones", "zither 🎻", " two  spaces ", "<|im_end|> as text", "a\nb", "é"]
)
def test_an_answer_is_read_as_it_was_written(whole: tuple[Any, Any], text: str) -> None:
    _, tokenizer = whole
    ids = answer(tokenizer, text)
    assert tokenizer.decode(ids) == text
    stream = DecodeStream(skip_special_tokens=True)
    parts = [stream.step(tokenizer.backend_tokenizer, i) or "" for i in ids]
    assert "".join(parts) == text


def test_a_prompt_is_the_same_before_and_within_a_conversation(whole: tuple[Any, Any]) -> None:
    """So the cache of a conversation holds, and what is learned is what is asked."""
    _, tokenizer = whole
    build = PromptBuilder(tokenizer, 1)
    first = build.exchange([QUESTION], "a sousaphone")
    said = PromptMessage(role="assistant", text="a sousaphone")
    later = build([QUESTION, said, PromptMessage(role="user", text="What is this?")])
    both = [*first.prompt.ids, *first.answer]
    assert later.ids[: len(both)] == both


def test_without_whole_words_the_vocabulary_is_the_size_that_was_asked(tmp_path: Path) -> None:
    config = SmallLLM(vocabulary=300, width=64, layers=1, heads=1)
    model, tokenizer = new_llm(config, TEXTS)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == 300
