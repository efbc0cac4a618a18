"""Training batches: drawn by seed and step, and every image once an epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.instructions import NAME_QUESTIONS, QuestionAnswer
from mllm_adapter.data.own_conversations import Conversation
from mllm_adapter.data.phrase_concepts import PhraseConcepts
from mllm_adapter.data.text_pictures import LabelledRow, TextPictures
from mllm_adapter.data.text_questions import PhraseQuestions
from mllm_adapter.data.texts_config import TextsConfig
from mllm_adapter.model.prompt import PromptBuilder, PromptMessage
from mllm_adapter.trainer.batches import (
    NO_EASY_VQA,
    ConversationBatch,
    ConversationSampler,
    EasyVqaMix,
    OwnMix,
    TextMix,
)
from tests.mllm_adapter.llms import tiny_llm

IMAGES, PATCHES = 10, 2
META: list[dict[str, Any]] = [
    {"caption": f"thing {i}", "captions": [f"thing {i}"], "keywords": [], "category": None}
    for i in range(IMAGES)
]


def table(concept_offset: int = 0) -> CodeTable:
    """One active concept per patch: an image's number, plus an offset."""
    return CodeTable(
        indices=np.repeat(np.arange(IMAGES) + concept_offset, PATCHES).astype(np.uint16),
        values=np.ones(IMAGES * PATCHES, np.float16),
        offsets=np.arange(IMAGES * PATCHES + 1),
        patches=PATCHES,
        concepts=2 * IMAGES,
    )


@pytest.fixture(scope="module")
def build() -> PromptBuilder:
    return PromptBuilder(tiny_llm()[1], visual_tokens=1 + PATCHES)


def sampler(build: PromptBuilder, seed: int = 0, mix: EasyVqaMix = NO_EASY_VQA) -> Any:
    return ConversationSampler(META, [table()], build, mix, seed=seed)


def images(parts: list[ConversationBatch]) -> list[int]:
    return [int(i) for part in parts for i in part.codes.indices[:, 0, 0]]


def test_a_batch_depends_on_seed_and_step_only(build: PromptBuilder) -> None:
    batches, again = sampler(build), sampler(build)
    forward = [batches.batch(step, 4) for step in range(4)]
    for step in (3, 0, 2, 1):
        for one, other in zip(forward[step], again.batch(step, 4), strict=True):
            assert torch.equal(one.text.ids, other.text.ids)
            assert torch.equal(one.codes.indices, other.codes.indices)
    assert images(sampler(build, seed=1).batch(0, 4)) != images(forward[0])


def test_an_epoch_has_every_image_once_and_the_next_one_another_order(build: PromptBuilder) -> None:
    batches = sampler(build)
    steps = [images(batches.batch(step, 5)) for step in range(4)]
    assert sorted(steps[0] + steps[1]) == sorted(steps[2] + steps[3]) == list(range(IMAGES))
    assert set(steps[0]) != set(steps[2])


def test_a_batch_is_split_into_parts_of_similar_length(build: PromptBuilder) -> None:
    parts = sampler(build).batch(0, 80)
    assert [len(part.text.ids) for part in parts] == [32, 32, 16]
    lengths = [part.text.mask.sum(1) for part in parts]
    assert all(len(p.text.ids[0]) == n.max() for p, n in zip(parts, lengths, strict=True))
    assert all(a.max() <= b.min() for a, b in zip(lengths, lengths[1:], strict=False))


def test_easy_vqa_is_mixed_in_with_its_own_codes(build: PromptBuilder) -> None:
    question = QuestionAnswer(question="What shape is it?", answer="circle")
    mix = EasyVqaMix(table(concept_offset=IMAGES), [(3, question)], 1.0)
    parts = sampler(build, mix=mix).batch(0, 4)
    assert images(parts) == [IMAGES + 3] * 4
    learned = parts[0].text.labels[0][parts[0].text.labels[0] >= 0]
    assert build.tokenizer.decode(learned) == "circle<|im_end|>"


def said(*turns: tuple[str, str, int]) -> tuple[PromptMessage, ...]:
    return tuple(PromptMessage(role=r, text=t, images=i) for r, t, i in turns)  # type: ignore[arg-type]


def test_own_conversations_have_their_images_and_their_share(build: PromptBuilder) -> None:
    """Two images in one question, one in a later one, and none."""
    two = said(("user", "Which?", 2), ("assistant", "both", 0), ("user", "And?", 1))
    rows = [
        Conversation("a", (*two, *said(("assistant", "third", 0))), ("x", "y", "x")),
        Conversation("b", said(("user", "Hi", 0), ("assistant", "yo", 0)), ()),
    ]
    own = OwnMix([table(concept_offset=IMAGES)], {"x": 4, "y": 7}, rows, 1.0)
    sampler_ = ConversationSampler([], [], build, own=own, seed=0)
    [part] = sampler_.batch(0, 2)
    assert images([part]) == [IMAGES + 4, IMAGES + 7, IMAGES + 4]
    [row] = {int(row) for row in part.text.image_rows}
    other = 1 - row
    assert build.tokenizer.decode(part.text.labels[other][part.text.labels[other] >= 0]) == (
        "yo<|im_end|>"
    )
    text = torch.zeros(*part.text.ids.shape, 1)
    visual = torch.arange(1.0, 4)[:, None, None].expand(3, 1 + PATCHES, 1)
    embedded = part.text.embedded(text, visual)[..., 0]
    assert embedded[other].count_nonzero() == 0
    assert embedded[row][embedded[row] > 0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    half = own._replace(share=0.5)
    mixed = ConversationSampler(META, [table()], build, own=half, seed=0)
    drawn = [image for step in range(20) for image in images(mixed.batch(step, 8))]
    assert {image >= IMAGES for image in drawn} == {True, False}


def test_a_batch_of_texts_alone_has_no_image(build: PromptBuilder) -> None:
    rows = [Conversation("b", said(("user", "Hi", 0), ("assistant", "yo", 0)), ())]
    own = OwnMix([], {}, rows, 1.0)
    [part] = ConversationSampler([], [], build, own=own, seed=0).batch(0, 2)
    assert len(part.codes.indices) == len(part.text.image_rows) == 0


def phrases(count: int, **settings: Any) -> TextMix:
    """Phrase i has concept IMAGES + i alone, at a strength that no image has."""
    codes = PhraseConcepts(
        phrases=[f"word{i}" for i in range(count)],
        indices=np.arange(IMAGES, IMAGES + count)[:, None],
        values=np.ones((count, 1), np.float32),
        concepts=2 * IMAGES,
    )
    settings = {"share": 1.0, "noise": 0.0, "strength": (5.0, 5.0), "kept": 0.0, **settings}
    config = TextsConfig(**settings)
    pictures = TextPictures(codes, config, table(), codes, [LabelledRow(0, 0)], (1, PATCHES))
    questions = PhraseQuestions(codes.phrases, codes.similar)
    return TextMix(pictures, questions, config.share)


def test_phrases_have_their_share_and_every_phrase_once_an_epoch(build: PromptBuilder) -> None:
    mix = phrases(8, pairs=0.0, empty=0.0, part=0.0)
    batches = ConversationSampler(META, [table()], build, texts=mix, seed=0)
    assert sorted(images(batches.batch(0, 8))) == list(range(IMAGES, IMAGES + 8))
    [part] = batches.batch(1, 2)
    assert part.codes.values.max() == 5
    for row, image in enumerate(images([part])):
        said = build.tokenizer.decode(part.text.labels[row][part.text.labels[row] >= 0])
        asked = build.tokenizer.decode(part.text.ids[row])
        if any(question in asked for question in NAME_QUESTIONS):
            assert f"word{image - IMAGES}" in said
    mixed = ConversationSampler(META, [table()], build, texts=mix._replace(share=0.5), seed=0)
    drawn = [image >= IMAGES for step in range(20) for image in images(mixed.batch(step, 20))]
    assert 0.4 < sum(drawn) / len(drawn) < 0.6
    again = ConversationSampler(META, [table()], build, texts=mix._replace(share=0.5), seed=0)
    for one, other in zip(mixed.batch(3, 9), again.batch(3, 9), strict=True):
        assert torch.equal(one.text.ids, other.text.ids)
        assert torch.equal(one.codes.values, other.codes.values)


def test_some_pictures_have_two_phrases_and_some_none(build: PromptBuilder) -> None:
    mix = phrases(8, pairs=0.5, empty=0.3, part=0.0)
    batches = ConversationSampler(META, [table()], build, texts=mix, seed=0)
    parts = [part for step in range(10) for part in batches.batch(step, 40)]
    counts = [
        int((values > 0).any(0).sum()) for part in parts for values in part.codes.values
    ]  # slots in use, one for a phrase
    shares = [counts.count(number) / len(counts) for number in (0, 1, 2)]
    assert shares == pytest.approx([0.3, 0.2 + 0.5 / 8, 0.5 * 7 / 8], abs=0.08)


def test_an_image_that_must_not_be_learned_from_is_not_drawn(build: PromptBuilder) -> None:
    known = [None if row in (0, 7) else m for row, m in enumerate(META)]
    batches = ConversationSampler(known, [table()], build, seed=0)
    drawn = images(batches.batch(0, 4)) + images(batches.batch(1, 4))
    assert sorted(drawn) == [1, 2, 3, 4, 5, 6, 8, 9]
    text = build.tokenizer.decode(batches.batch(0, 8)[0].text.ids.ravel())
    assert "thing 0" not in text
