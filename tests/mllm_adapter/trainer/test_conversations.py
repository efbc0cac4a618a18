"""Conversations as token batches: what is learned, and where an image goes."""

from __future__ import annotations

from mllm_adapter.data.instructions import QuestionAnswer
from mllm_adapter.model.prompt import PromptBuilder
from mllm_adapter.trainer.conversations import IGNORED, collate, encode
from tests.mllm_adapter.llms import family_llm, tiny_llm


def test_only_answers_and_their_ends_are_learned() -> None:
    tokenizer = tiny_llm()[1]
    build = PromptBuilder(tokenizer, visual_tokens=3, system="Look.")
    turns = [
        QuestionAnswer(question="What is this?", answer="a cat"),
        QuestionAnswer(question="Is it?", answer="yes"),
    ]
    [row] = encode(turns, build)
    learned = [label for label in row.labels if label != IGNORED]
    assert tokenizer.decode(learned) == "a cat<|im_end|>yes<|im_end|>"
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.ids, strict=True))
    [position] = row.image_positions
    text = tokenizer.decode([*row.ids[:position], *row.ids[position + 3 :]])
    assert text.startswith("<|im_start|>system\nLook.<|im_end|>\n<|im_start|>user\n\nWhat is this?")
    assert text.count("<|im_start|>user") == 2
    batch = collate([row, *encode(turns[:1], PromptBuilder(tokenizer, visual_tokens=3))])
    first = tokenizer.encode("a cat<|im_end|>", add_special_tokens=False)
    assert batch.learned == len(learned) + len(first)
    assert batch.mask.sum(1).tolist()[0] == len(row.ids)


def test_a_template_that_rewrites_old_answers_gets_a_row_for_each_prompt() -> None:
    """Qwen 3 begins a new answer with an empty thought, and leaves it out of old ones."""
    tokenizer = family_llm("qwen3")[1]
    build = PromptBuilder(tokenizer, visual_tokens=3)
    turns = [QuestionAnswer(question=q, answer=a) for q, a in (("One?", "1"), ("Two?", "2"))]
    rows = encode(turns, build)
    learned = [[label for label in row.labels if label != IGNORED] for row in rows]
    assert [tokenizer.decode(labels) for labels in learned] == ["1<|im_end|>", "2<|im_end|>"]
    for row in rows:
        text = tokenizer.decode(row.ids)
        assert text.count("<think>") == 1
        assert row.labels[: -len(learned[0])] == [IGNORED] * (len(row.ids) - len(learned[0]))
    assert "1<|im_end|>" in tokenizer.decode(rows[1].ids)
