"""Directories of language models: what is read from them, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mllm_adapter.model.llm import (
    EMBEDDING_TENSOR,
    context_length,
    end_tokens,
    load_embeddings,
    load_llm,
    load_tokenizer,
)
from mllm_adapter.model.llm_files import LLMError
from mllm_adapter.model.small_llm import CHAT_TEMPLATE
from tests.mllm_adapter.llms import save_llm
from training.core.torchvision_compat import transformers


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    return shutil.copytree(llama, tmp_path / "llama")


def test_what_is_read_of_a_directory(llama: Path) -> None:
    model, tokenizer = load_llm(llama)
    assert not model.training
    assert context_length(llama) == 256
    assert end_tokens(llama, tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert torch.equal(load_embeddings(llama).table, model.get_input_embeddings().weight)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pkl", "modeling_llama.py"])
def test_files_that_could_run_code_are_refused(copy: Path, name: str) -> None:
    (copy / name).write_bytes(b"")
    for load in (load_llm, load_embeddings):
        with pytest.raises(LLMError, match=f"^llama: holds {name}; only safetensors and JSON"):
            load(copy)
    load_tokenizer(copy, own=True)  # a directory as a hub has it: the file is not read


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {EMBEDDING_TENSOR: w[EMBEDDING_TENSOR].to(torch.int8)}, "I8: quantized weights"),
        (
            lambda w: {EMBEDDING_TENSOR: w[EMBEDDING_TENSOR][:, :32]},
            r"config\.json describes \d+ x 64, the files hold \d+ x 32",
        ),
        (
            lambda w: {"model.layers.7.mlp.up_proj.weight": torch.zeros(2)},
            "config.json: num_hidden_layers: 2; the files hold more",
        ),
    ],
)
def test_weights_that_are_not_those_of_the_configuration(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], message: str, copy: Path
) -> None:
    weights = load_file(copy / "model.safetensors")
    weights |= {name: tensor.contiguous() for name, tensor in change(weights).items()}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LLMError, match=rf"^llama: model\.[a-z_0-9.]+: {message}"):
        load_llm(copy)


def test_weights_that_are_cut_short(copy: Path) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:1000])
    for load in (load_llm, load_embeddings):
        with pytest.raises(LLMError, match="^llama: [^\n]+$"):
            load(copy)


def test_a_broken_tokenizer_is_one_line(copy: Path) -> None:
    for content in ("", "{}"):
        (copy / "tokenizer.json").write_text(content)
        with pytest.raises(LLMError, match="^llama: the tokenizer cannot be read: [^\n]+$"):
            load_tokenizer(copy)


def test_a_broken_config_is_one_line(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(LLMError, match="^llama: [^\n]+$"):
        load_llm(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "t5"}, "model_type: 't5' is not supported; llama, qwen2, .* are"),
        ({"model_type": "bert"}, "model_type: 'bert' is not supported"),
        ({"model_type": "gemma3"}, "model_type: 'gemma3' is not supported"),
        ({"model_type": "mamba"}, "model_type: 'mamba' is not supported"),
        ({"model_type": None}, "model_type: 'None' is not supported"),
        ({"architectures": ["LlamaModel"]}, "architectures: not a causal language model"),
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "architectures: not a causal language model",
        ),
        ({"quantization_config": {"bits": 4}}, "quantization_config: quantized weights are not"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map: code of a model is not run"),
    ],
)
def test_another_model_is_refused_in_one_line_before_weights_are_read(
    copy: Path, change: dict[str, Any], message: str
) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    (copy / "model.safetensors").write_bytes(b"not read")
    for load in (load_llm, load_embeddings):
        with pytest.raises(LLMError, match=rf"^llama: config\.json: {message}[^\n]*$"):
            load(copy)


def test_a_directory_as_a_hub_has_it_is_copied_without_its_code(copy: Path, tmp_path: Path) -> None:
    """Phi-3 is published with code that transformers does not need."""
    for name in ("config.json", "tokenizer_config.json"):
        data = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps(data | {"auto_map": {"AutoConfig": "tripwire.Wire"}}))
    (copy / "tripwire.py").write_text("raise SystemExit('this must not run')")
    save_llm(load_llm(copy, own=True), tmp_path / "written")
    load_llm(tmp_path / "written")


def test_a_model_without_a_chat_template_says_what_to_do(copy: Path) -> None:
    data = json.loads((copy / "tokenizer_config.json").read_text())
    del data["chat_template"]
    (copy / "tokenizer_config.json").write_text(json.dumps(data))
    (copy / "model.safetensors").write_bytes(b"not read")
    with pytest.raises(LLMError, match=r"^llama: no chat template: .*llm\.chat_template$"):
        load_llm(copy)
    assert load_tokenizer(copy, CHAT_TEMPLATE).chat_template == CHAT_TEMPLATE


def test_a_model_of_two_kinds_of_positions_has_the_context_of_one(tmp_path: Path) -> None:
    factors = [1.0] * 8
    config = transformers().Phi3Config(
        max_position_embeddings=512,
        original_max_position_embeddings=128,
        hidden_size=64,
        num_attention_heads=4,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_factor": factors,
            "long_factor": factors,
            "original_max_position_embeddings": 128,
        },
    )
    config.save_pretrained(tmp_path)
    assert context_length(tmp_path) == 128
