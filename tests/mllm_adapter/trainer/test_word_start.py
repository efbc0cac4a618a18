"""The words of codes: what is drawn, and visual tokens that are most like those of their label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mllm_adapter.adapter_recipe import WordsConfig
from mllm_adapter.data.code_tables import CodeTable
from mllm_adapter.data.phrase_concepts import PhraseConcepts
from mllm_adapter.data.texts_config import TextsConfig
from mllm_adapter.model.projector import Cells, Projector
from mllm_adapter.trainer.word_start import WordSamples, learn_words
from tests.mllm_adapter.llms import tiny_llm

CAPTIONS = ("dog", "cat", "red apple")
WORDS = (*CAPTIONS, "yurt", "silence")
CONCEPTS = 16
PATCHES = 4


def table() -> CodeTable:
    """Image i has concept i on two of its four patches, with a value of 3."""
    return CodeTable(
        indices=np.repeat(np.arange(3), 2).astype(np.uint16),
        values=np.full(6, 3, np.float16),
        offsets=np.array([0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]),
        patches=PATCHES,
        concepts=CONCEPTS,
    )


def texts() -> PhraseConcepts:
    """Word i has concept i, and no concept fires on the last one."""
    values = np.ones((len(WORDS), 1), np.float32)
    values[-1] = 0
    return PhraseConcepts(
        phrases=WORDS, indices=np.arange(len(WORDS))[:, None], values=values, concepts=CONCEPTS
    )


def samples(tokenizer: Any, captions: tuple[str, ...] = CAPTIONS) -> WordSamples:
    config = TextsConfig(strength=(2.0, 2.0), noise=0.0)
    weights = [0.1, 1.0, 0.1]
    return WordSamples(captions, weights, [table()], texts(), config, tokenizer.encode, seed=0)


def test_half_are_images_and_labels_belong_to_their_codes() -> None:
    tokenizer = tiny_llm()[1]
    batch = samples(tokenizer, ("dog", "", "red apple")).draw(64)
    values, concepts = batch.codes.max(1)
    assert values[:32].unique().tolist() == [2.0]
    assert values[32:].unique().tolist() == [1.5]  # the mean over patches
    assert set(concepts[:32].tolist()) == {0, 1, 2, 3}
    assert set(concepts[32:].tolist()) == {0, 2}
    for row, concept in enumerate(concepts.tolist()):
        assert batch.ids[batch.rows == row].tolist() == tokenizer.encode(WORDS[concept])


def test_images_are_drawn_by_their_weights() -> None:
    concepts = samples(tiny_llm()[1]).draw(2000).codes[1000:].argmax(1)
    assert concepts.bincount(minlength=3)[1] / 1000 == pytest.approx(1 / 1.2, abs=0.05)


def test_a_large_collection_is_thinned_out_evenly(monkeypatch: Any) -> None:
    monkeypatch.setattr("mllm_adapter.trainer.word_start.MAX_IMAGES", 2)
    batch = samples(tiny_llm()[1]).draw(64)
    assert set(batch.codes[32:].argmax(1).tolist()) == {0, 2}


def test_a_projector_learns_the_words_of_a_frozen_llm() -> None:
    llm, tokenizer = tiny_llm()
    before = {name: weight.clone() for name, weight in llm.state_dict().items()}
    torch.manual_seed(0)
    projector = Projector(CONCEPTS, llm.config.hidden_size, Cells(patches=(2, 2), grid=(1, 1)))
    embeddings = llm.get_input_embeddings().weight
    config = WordsConfig(steps=150, batch_size=32, lr=1e-2)
    drawn = samples(tokenizer)
    learn_words(projector, embeddings, drawn, config, "fp32", learns_table=False)
    for name, weight in llm.state_dict().items():
        assert torch.equal(weight, before[name]), name
    with torch.no_grad():
        tokens = projector.project(torch.eye(CONCEPTS)[:4] * 2)
        likeness = torch.cosine_similarity(tokens[:, None], embeddings[None], dim=-1)
    for row, word in enumerate(WORDS[:4]):
        ids = set(tokenizer.encode(word))
        assert set(likeness[row].topk(len(ids)).indices.tolist()) == ids
    assert 0.5 < tokens.std() / embeddings.std() < 2


def test_embeddings_learn_where_they_may() -> None:
    llm, tokenizer = tiny_llm()
    embeddings = llm.get_input_embeddings().weight
    before = embeddings.detach().clone()
    projector = Projector(CONCEPTS, llm.config.hidden_size)
    config = WordsConfig(steps=1, batch_size=16)
    learn_words(projector, embeddings, samples(tokenizer), config, "fp32", learns_table=True)
    assert not torch.equal(embeddings, before)
