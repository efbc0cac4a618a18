"""Two stages, their checkpoints, and the adapter that comes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bundle.schema import SchemaError
from mllm_adapter.adapter_recipe import AdapterRecipe
from mllm_adapter.model.adapter import open_adapter
from mllm_adapter.model.llm import load_llm
from mllm_adapter.trainer import loop
from mllm_adapter.trainer.loop import train
from tests.mllm_adapter.runs import recipe, stage
from training.core import precision
from training.core.checkpoint import CheckpointError, complete_checkpoints
from training.core.resume import TrainingError


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_stopped_run_goes_on_as_if_it_had_not(
    tiny_bundle: Path, icons: Path, tmp_path: Path, stop: int
) -> None:
    small = recipe(tiny_bundle, icons, stage("frozen", 3), stage("full", 3, muon=True))
    whole = train(small, tmp_path / "whole")
    train(small, tmp_path / "parts", stop_after=stop)
    assert len(losses(tmp_path / "parts")) == stop
    parts = train(small, tmp_path / "parts")
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    again = train(small, tmp_path / "parts")
    assert again == parts
    for name in ("projector.safetensors", "llm/model.safetensors", "llm/tokenizer.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_first_stage_leaves_the_llm_alone(
    tiny_bundle: Path, icons: Path, tmp_path: Path, llama: Path
) -> None:
    small = recipe(tiny_bundle, icons, stage("frozen", 2), llm={"path": str(llama)})
    adapter = train(small, tmp_path)
    [checkpoint] = complete_checkpoints(tmp_path)
    assert all(
        name.startswith("projector.") for name in load_file(checkpoint / "model.safetensors")
    )
    before, after = load_llm(llama)[0], load_llm(adapter / "llm")[0]
    for name, weight in before.state_dict().items():
        assert torch.allclose(weight, after.state_dict()[name], atol=1e-2, rtol=1e-2), name


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("llm", ["frozen", "full"])
def test_weights_are_read_in_the_precision_that_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
    tiny_bundle: Path,
    icons: Path,
    tmp_path: Path,
    llama: Path,
    bf16: bool,
    llm: str,
) -> None:
    """Weights that learn are fp32 in any case."""
    dtypes: list[torch.dtype] = []

    def load(path: Path, dtype: torch.dtype, *rest: str, own: bool) -> object:
        dtypes.append(dtype)
        return load_llm(path, dtype, *rest, own=own)

    monkeypatch.setattr(precision, "computes_bf16", lambda device: bf16)
    monkeypatch.setattr(loop, "load_llm", load)
    auto = recipe(tiny_bundle, icons, stage(llm, 2), llm={"path": str(llama)})
    auto = replace(auto, run=replace(auto.run, precision="auto"))
    train(auto, tmp_path, stop_after=1)
    assert dtypes == [torch.bfloat16 if bf16 and llm == "frozen" else torch.float32]
    recorded = json.loads((tmp_path / "recipe.json").read_text())
    assert recorded["run"]["precision"] == ("bf16" if bf16 else "fp32")
    monkeypatch.setattr(precision, "computes_bf16", lambda device: not bf16)
    train(auto, tmp_path)  # in the precision that it was begun with
    assert len(losses(tmp_path)) == 2


def test_lora_ends_up_in_the_llm_that_is_written(
    tiny_bundle: Path, icons: Path, tmp_path: Path, llama: Path
) -> None:
    llm = {"path": str(llama), "lora_rank": 4, "system": "Be short."}
    stages = (stage("frozen", 2), stage("lora", 4, lr=0.05))
    adapter = train(recipe(tiny_bundle, icons, *stages, llm=llm), tmp_path)
    names = load_file(complete_checkpoints(tmp_path)[-1] / "model.safetensors").keys()
    assert any("lora_A" in name for name in names)
    assert not any("base_layer" in name for name in names)
    before, after = load_llm(llama)[0].state_dict(), load_llm(adapter / "llm")[0].state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.allclose(before[name], after[name], atol=0.02)}
    assert any("q_proj" in name for name in changed)
    assert not any("embed" in name or "norm" in name for name in changed)
    assert open_adapter(adapter).config.system == "Be short."


def test_it_learns(tiny_bundle: Path, icons: Path, tmp_path: Path) -> None:
    small = recipe(tiny_bundle, icons, stage("full", 200, lr=5e-3))
    train(replace(small, run=replace(small.run, checkpoint_every=100)), tmp_path)
    history = losses(tmp_path)
    assert sum(history[-10:]) < 0.6 * sum(history[:10])


def test_another_recipe_is_refused_and_a_broken_one_stops(
    tiny_bundle: Path, icons: Path, tmp_path: Path
) -> None:
    train(recipe(tiny_bundle, icons, stage("full", 2)), tmp_path / "one")
    with pytest.raises(CheckpointError, match="holds a run of another recipe"):
        train(recipe(tiny_bundle, icons, stage("full", 3)), tmp_path / "one")
    with pytest.raises(TrainingError, match=r"^step \d+: the loss is nan"):
        train(recipe(tiny_bundle, icons, stage("full", 20, lr=1e30)), tmp_path / "two")


def test_every_recipe_is_read_and_bad_ones_name_their_field() -> None:
    assert AdapterRecipe.names() == ["demo", "llama", "smollm2"]
    for name in AdapterRecipe.names():
        loaded = AdapterRecipe.load(name)
        assert AdapterRecipe.parse(json.loads(json.dumps(loaded.to_dict()))) == loaded
    assert AdapterRecipe.load("smollm2", ["stages.1.steps=7"]).stages[1].steps == 7
    for override, message in {
        "stages.5.steps=1": r"stages\.5\.steps: 5 is not one of",
        "stages.0.llm=half": r"stages\[0\]\.llm: must be one of frozen, lora, full",
        "stages=[]": r"stages: must have at least one",
        "data.augment.pair=0.1": r"data\.augment\.pair: must be 0",
        "data.splits=1": r"data\.splits: unknown key; did you mean split",
    }.items():
        with pytest.raises(SchemaError, match=message):
            AdapterRecipe.load("demo", [override])
