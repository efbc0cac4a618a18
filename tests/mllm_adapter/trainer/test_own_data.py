"""Adapters of a user's own: pairs, conversations and a language model, from files to an answer."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bundle.schema import SchemaError
from bundle.store import open_bundle
from mllm_adapter.adapter_recipe import AdapterRecipe
from mllm_adapter.attach import attach
from mllm_adapter.data.code_tables import PATCH_GRAPH
from mllm_adapter.model.adapter import read_config
from mllm_adapter.model.llm_files import LLMError
from mllm_adapter.trainer.loop import train
from serving.in_process import local_server
from sparseclip import ChatSampling, Client, Edit, Steering
from tests.mllm_adapter.llms import family_llm, save_llm
from tests.mllm_adapter.runs import SMALL, recipe, stage
from training.core.checkpoint import CheckpointError
from training.data.data_recipe import DataError

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of several sizes, with a list of captions and a file of conversations."""
    folder = tmp_path_factory.mktemp("photos")
    pairs, rows = ["path,caption"], list[dict[str, Any]]()
    for i, (name, colour) in enumerate(sorted(COLOURS.items()) * 8):
        file = f"{i}.png"
        Image.new("RGB", (40 + 3 * i, 30 + i % 5), colour).save(folder / file)
        pairs.append(f"{file},a {name} square")
        question = {"from": "human", "value": "<image>\nWhich colour?"}
        answer = {"from": "gpt", "value": name}
        rows.append({"id": i, "image": file, "conversations": [question, answer] * 2})
    rows.append(
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "yo"}]}
    )
    rows.append({"image": "gone.png", "conversations": rows[0]["conversations"]})
    for row in rows[:3]:
        row["conversations"][2] = {"from": "human", "value": "Sure?"}
    rows[3:-2] = [{**row, "conversations": row["conversations"][:2]} for row in rows[3:-2]]
    (folder / "pairs.csv").write_text("\n".join(pairs))
    (folder / "own.json").write_text(json.dumps(rows))
    return folder


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines()]


def test_own_pairs_and_own_conversations_make_an_adapter(
    tiny_bundle: Path,
    photos: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(photos.iterdir())
    small = recipe(
        tiny_bundle,
        photos / "pairs.csv",
        stage("full", 12, lr=5e-3),
        conversations={"path": str(photos / "own.json"), "share": 0.5},
    )
    adapter = train(small, tmp_path / "run")
    assert "\r" not in capsys.readouterr().err, "a library's own bar"
    assert sorted(photos.iterdir()) == before, "nothing is written beside a user's own images"
    assert len(list((tmp_path / "run" / "codes").iterdir())) == 4  # two sources, two views each
    assert sum(losses(tmp_path / "run")[-3:]) < sum(losses(tmp_path / "run")[:3])
    assert "bad conversation: own.json:26: the image is not found" in caplog.messages
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["bad_conversations"] == 1
    assert read_config(adapter).training["own_share"] == 0.5
    assert read_config(adapter).codes == open_bundle(tiny_bundle).manifest.files[PATCH_GRAPH].sha256
    written = attach(adapter, tiny_bundle, tmp_path / "models", "9")
    assert "of which 50% are its owner's" in " ".join((written / "CARD.md").read_text().split())


def test_conversations_alone_with_an_llm_that_refuses_a_system_message_are_served(
    tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    llm = save_llm(family_llm("gemma3_text"), tmp_path / "gemma")
    small = recipe(
        tiny_bundle,
        tmp_path / "nowhere",  # not read
        stage("frozen", 2),
        stage("full", 25, lr=5e-3),
        llm={"path": str(llm), "system": "Be short."},
        conversations={"path": str(photos / "own.json"), "share": 1.0},
    )
    adapter = train(small, tmp_path / "run")
    assert losses(tmp_path / "run")[-1] < 0.5 * losses(tmp_path / "run")[2]
    written = attach(adapter, tiny_bundle, tmp_path / "models", "9")
    assert "which are its owner's" in " ".join((written / "CARD.md").read_text().split())
    with local_server(written) as address, Client(address) as client:
        sampling = ChatSampling(max_tokens=12)

        def ask(steering: Steering | None) -> str:
            events = list(
                client.chat(
                    "Which colour?", [photos / "0.png"], steering=steering, sampling=sampling
                )
            )
            assert events[-1].finish == "stop"  # at the token that the template writes
            return "".join(event.text for event in events[1:-1])

        plain = ask(None)
        assert plain.strip()
        assert ask(None) == plain
        edits = [Edit(concept=i, op="SET", value=50.0) for i in range(40)]
        assert ask(Steering(edits=edits, strength=0.0)) == plain
        ask(Steering(edits=edits))


def test_rows_that_are_too_long_are_bad(
    tiny_bundle: Path, photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = json.loads((photos / "own.json").read_text())[:3]
    rows[0]["conversations"][1]["value"] = "word " * 400
    (tmp_path / "long.json").write_text(json.dumps(rows))
    own = {"path": str(tmp_path / "long.json"), "images": str(photos), "share": 1.0}
    small = recipe(tiny_bundle, photos, stage("full", 1), conversations=own)
    with caplog.at_level(logging.INFO):
        train(small, tmp_path / "run")
    assert "bad conversation: long.json:1 (0): more than 128 tokens" in caplog.messages
    assert any("3 conversations, 2 good, 1 bad" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"codes": "0" * 64, "backbone": "a/1"}, "run: began with the concepts of a/1, and those"),
        ({"width": 48}, "run: llm: began with a hidden_size of 48, and it is 64 now"),
    ],
)
def test_a_run_goes_on_with_the_models_that_it_began_with(
    tiny_bundle: Path, photos: Path, tmp_path: Path, other: dict[str, object], problem: str
) -> None:
    small = recipe(tiny_bundle, photos / "pairs.csv", stage("full", 2))
    train(small, tmp_path / "run", stop_after=1)
    inputs = json.loads((tmp_path / "run" / "inputs.json").read_text())
    (tmp_path / "run" / "inputs.json").write_text(json.dumps(inputs | other))
    with pytest.raises(CheckpointError, match=f"^{problem}"):
        train(small, tmp_path / "run")


def test_what_cannot_be_used_is_refused_before_anything_is_written(
    tiny_bundle: Path, photos: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    llm = save_llm(family_llm("llama"), tmp_path / "llama")
    (tmp_path / "bad.json").write_text("[]")
    own = {"path": str(tmp_path / "bad.json"), "share": 1.0}
    with pytest.raises(DataError, match=r"^conversations.path: bad.json: 0 conversations"):
        train(recipe(tiny_bundle, photos, stage("full", 1), conversations=own), run)
    with pytest.raises(DataError, match=r"^data.path: "):
        train(recipe(tiny_bundle, tmp_path / "nowhere", stage("full", 1)), run)
    config = json.loads((llm / "config.json").read_text())
    (llm / "config.json").write_text(json.dumps(config | {"model_type": "t5"}))
    with pytest.raises(LLMError, match=r"^llama: config.json: model_type: 't5' is not supported"):
        train(recipe(tiny_bundle, photos, stage("full", 1), llm={"path": str(llm)}), run)
    assert not run.exists()
    short = recipe(
        tiny_bundle, photos / "pairs.csv", stage("full", 1), llm={"small": SMALL | {"context": 4}}
    )
    with pytest.raises(LLMError, match=r"^llm: reads 4 tokens, and an image of this bundle is "):
        train(short, tmp_path / "short")
    shares = {"conversations": {"path": "x.json", "share": 0.7}, "data": {"easy_vqa": 0.5}}
    with pytest.raises(SchemaError, match=r"^conversations.share, data.easy_vqa, texts"):
        AdapterRecipe.parse(small_data(tiny_bundle, photos) | shares)


def small_data(bundle: Path, data: Path) -> dict[str, Any]:
    return recipe(bundle, data, stage("full", 1)).to_dict()
