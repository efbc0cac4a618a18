"""Folders of sentence encoders: what is read of them, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bundle.schema import SchemaError
from tests.support.tiny_encoders import LIMIT, write_encoder
from tests.training.importing.hf_edits import Edit, change, drop, replace, steps, tensors
from training.core.torchvision_compat import transformers
from training.model.build_towers import tower_config
from training.model.sentence_source import open_encoder_source, resolved_text


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoders") / "bert")


def resolve(folder: Path, **text: object) -> dict[str, object]:
    return resolved_text({"sentence_encoder": str(folder), **text})


def test_what_a_run_writes_down(bert: Path) -> None:
    text = resolve(bert)
    assert text["context_length"] == LIMIT
    encoder = text["encoder"]
    assert isinstance(encoder, dict)
    assert (encoder["name"], encoder["licence"]) == ("bert", "apache-2.0")
    assert (encoder["pooling"], encoder["normalize"]) == ("mean", True)
    assert str(bert.parent) not in json.dumps(encoder)
    assert json.loads(json.dumps(text)) == text
    assert resolved_text(text) == text


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "mpnet"])
def test_positions_that_begin_after_the_padding(tmp_path: Path, family: str) -> None:
    folder = write_encoder(tmp_path / family, family)
    change("tokenizer_config.json", model_max_length=10**30)(folder)
    assert resolve(folder)["context_length"] == LIMIT


def test_an_encoder_without_modules_is_averaged(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(bert, folder)
    steps(drop("modules.json", "1_Pooling/config.json", "README.md"))(folder)
    encoder = resolve(folder)["encoder"]
    assert isinstance(encoder, dict)
    assert (encoder["pooling"], encoder["normalize"]) == ("mean", False)
    assert encoder["licence"] == "unknown"


def test_newer_names_of_modules_and_pooling(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "newer"
    shutil.copytree(bert, folder)
    kinds = [("", "base.modules.transformer.Transformer"), ("1_Pooling", "modules.Pooling")]
    entries = [{"path": path, "type": f"sentence_transformers.{kind}"} for path, kind in kinds]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "cls"}))
    encoder = resolve(folder)["encoder"]
    assert isinstance(encoder, dict)
    assert (encoder["pooling"], encoder["normalize"]) == ("cls", False)


def only_pickles(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def with_dense(folder: Path) -> None:
    entries = json.loads((folder / "modules.json").read_text())
    entries.append({"path": "3_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(entries))


def outside(folder: Path) -> None:
    entries = json.loads((folder / "modules.json").read_text())
    entries[1]["path"] = "../1_Pooling"
    (folder / "modules.json").write_text(json.dumps(entries))


def without_pooler(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_pooler_is_not_missed(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(bert, folder)
    without_pooler(folder)
    with open_encoder_source(str(bert)) as whole, open_encoder_source(str(folder)) as cut:
        torch.testing.assert_close(cut.trunk().state_dict(), whole.trunk().state_dict())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop("config.json"), "the folder: no config.json"),
        (only_pickles, "weights: only pickles"),
        (replace("model.safetensors", b"x"), "weights: not a file of safetensors"),
        (change("config.json", auto_map={"AutoModel": "x.Y"}), "config.json: auto_map"),
        (change("config.json", model_type="no_such"), "config.json: transformers refuses it"),
        (change("config.json", vocab_size=3), "tokenizer: [0-9]+ ids for an encoder of 3"),
        (change("config.json", num_hidden_layers=10**6), "config.json.num_hidden_layers"),
        (change("config.json", is_decoder=True), "config.json: a decoder"),
        (with_dense, "modules.json: Dense: only Transformer, Pooling, Normalize"),
        (outside, "modules.json: Pooling: its path leads out"),
        (replace("modules.json", b"{}"), "modules.json: not a list"),
        (replace("modules.json", b"[]"), "modules.json: must have a Transformer"),
        (
            change("1_Pooling/config.json", pooling_mode_cls_token=True),
            "1_Pooling/config.json: pooling_mode_mean_tokens, pooling_mode_cls_token: must be",
        ),
        (change("1_Pooling/config.json", pooling_mode="lasttoken"), "lasttoken: must be the mean"),
        (change("sentence_bert_config.json", do_lower_case=True), "do_lower_case"),
        (
            change("config_sentence_transformers.json", default_prompt_name="query"),
            "prompts are not supported",
        ),
        (change("tokenizer_config.json", padding_side="left"), "tokenizer: padding_side"),
        (change("tokenizer_config.json", pad_token="[SEP]"), "tokenizer: pad_token"),
        (drop("tokenizer.json"), "no tokenizer.json"),
    ],
)
def test_it_is_refused_in_one_line(bert: Path, tmp_path: Path, edit: Edit, message: str) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(bert, folder)
    edit(folder)
    with pytest.raises(ValueError, match=f"^model.text.sentence_encoder: .*{message}") as caught:
        resolve(folder)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (tensors(lambda weights: weights.popitem()), "is missing"),
        (
            tensors(lambda weights: weights.update(lora_A=torch.zeros(2))),
            "weights: lora_A is not a tensor of this",
        ),
    ],
)
def test_weights_that_do_not_fit(bert: Path, tmp_path: Path, edit: Edit, message: str) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(bert, folder)
    without_pooler(folder)
    edit(folder)
    with (
        open_encoder_source(str(folder)) as source,
        pytest.raises(ValueError, match=message),
    ):
        source.trunk()


def test_a_language_model_is_no_encoder(tmp_path: Path, bert: Path) -> None:
    folder = tmp_path / "gpt2"
    library = transformers()
    config = library.GPT2Config(vocab_size=500, n_embd=24, n_layer=1, n_head=2, n_positions=LIMIT)
    library.GPT2Model(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(bert / name, folder / name)
    with pytest.raises(ValueError, match=r"model\.text\.sentence_encoder: a decoder"):
        resolve(folder)


def test_the_context_is_at_most_the_encoder_s(bert: Path) -> None:
    assert resolve(bert, context_length=8)["context_length"] == 8
    with pytest.raises(ValueError, match=rf"^model\.text\.context_length: at most {LIMIT}"):
        resolve(bert, context_length=LIMIT + 1)


def test_an_encoder_that_changed_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "encoder"
    shutil.copytree(bert, folder)
    text = resolve(folder)
    tensors(lambda weights: next(iter(weights.values())).add_(1))(folder)
    with pytest.raises(ValueError, match=r"another encoder .*\(other: weights_sha256\)"):
        resolved_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"sentence_encoder": "no/such/folder"}, "sentence_encoder: the folder: no such folder"),
        ({"sentence_encoder": "x", "layers": 2}, "layers: unknown key"),
        ({"sentence_encoder": "x", "hiden": 2}, "hiden: unknown key; did you mean hidden?"),
        ({"sentence_encoder": "x", "hidden": 0}, "hidden: must be 1 or more"),
    ],
)
def test_mistakes_name_their_key(text: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.text\.{message}"):
        resolved_text(text)


def test_a_misspelt_encoder_is_hinted_at() -> None:
    with pytest.raises(ValueError, match=r"did you mean sentence_encoder\?"):
        tower_config("", {}, {"sentence_encode": "all-MiniLM-L6-v2"})
    with pytest.raises(SchemaError, match=r"model\.text\.hidden: wants .*sentence_encoder"):
        tower_config("", {}, {"hidden": 2})
