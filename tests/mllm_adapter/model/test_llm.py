"""Directories of language models: what is read from them, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mllm_adapter.model.llm import (
    EMBEDDING_TENSOR,
    context_length,
    end_tokens,
    load_embeddings,
    load_llm,
)
from mllm_adapter.model.llm_files import LLMError


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(llama, tmp_path / "llama")


def test_what_is_read_of_a_directory(llama: Path) -> None:
    model, tokenizer = load_llm(llama)
    assert not model.training
    assert context_length(llama) == 256
    assert end_tokens(llama, tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert torch.equal(load_embeddings(llama), model.get_input_embeddings().weight)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pkl", "modeling_llama.py"])
def test_files_that_could_run_code_are_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"")
    for load in (load_llm, load_embeddings):
        with pytest.raises(LLMError, match=f"^llama: holds {name}; only safetensors and JSON"):
            load(copy)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "no config.json: not a Hugging Face directory"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "no safetensors; other weight formats are not read"),
    ],
)
def test_a_missing_file_is_named(copy: Path, name: str, message: str) -> None:
    (copy / name).unlink()
    with pytest.raises(LLMError, match=f"^llama: {message}"):
        load_llm(copy)


def test_a_model_without_the_usual_embeddings(copy: Path) -> None:
    save_file({"transformer.wte.weight": torch.zeros(2, 2)}, copy / "model.safetensors")
    with pytest.raises(LLMError, match=f"^llama: no {EMBEDDING_TENSOR}"):
        load_embeddings(copy)


def test_weights_that_are_cut_short(copy: Path) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:1000])
    for load in (load_llm, load_embeddings):
        with pytest.raises(LLMError, match="^llama: [^\n]+$"):
            load(copy)


def test_a_broken_config_is_one_line(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(LLMError, match="^llama: [^\n]+$"):
        load_llm(copy)
