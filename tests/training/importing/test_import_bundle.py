"""A model becomes a bundle: compared with its own library, and written whole or not at all."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from bundle.manifest import Tokenization
from bundle.onnx_graph import OnnxGraph
from bundle.store import open_bundle
from serving.cli.main import main
from tests.training.importing.tiny_open_clip import CONTEXT
from training.huggingface.model_error import ModelImportError
from training.importing import import_bundle as job
from training.importing._golden_inputs import golden_images
from training.importing._open_clip_reference import OpenClipReference
from training.importing.base import ImportedModel, SourceOptions
from training.importing.import_bundle import ImportConfig, import_bundle
from training.importing.open_clip_source import OpenClipSource

Folders = Callable[[str], Path]


def load(folder: Path) -> ImportedModel:
    return OpenClipSource().load(f"local-dir:{folder}", SourceOptions())


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    return (a * b).sum(axis=-1)


def test_a_folder_becomes_a_bundle_that_equals_its_library(
    open_clip_folder: Folders, tmp_path: Path
) -> None:
    """As SigLIP: a sigmoid, attention pooling and patches."""
    folder, licence = open_clip_folder("attention"), tmp_path / "licence"
    licence.write_text("MIT\n")
    arguments = ["import", f"open_clip:local-dir:{folder}", "--name", "tiny"]
    arguments += ["--models", str(tmp_path / "models"), "--licence", str(licence)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    version = tmp_path / "models" / "tiny" / "1"
    assert done.stdout == f"bundle: {version}\n"
    done = CliRunner().invoke(main, ["bundle", "verify", str(version.parent)])
    assert "tiny/1: good" in done.output, done.output
    done = CliRunner().invoke(main, ["bundle", "inspect", str(version)])
    for text in ("dense", "local-dir:", "sigmoid", "source_parity.min_image_cosine"):
        assert text in done.output

    bundle = open_bundle(version)
    manifest, model = bundle.manifest, load(folder)
    architecture = manifest.architecture
    assert architecture.family == "open_clip:custom"
    assert (architecture.score, architecture.logit_bias) == ("sigmoid", -10)
    assert architecture.patch_grid == (10, 10)
    assert manifest.origin is not None
    assert manifest.origin.source == f"open_clip:local-dir:{folder.name}"
    assert manifest.source_parity is not None
    assert manifest.source_parity.min_image_cosine > 0.9999
    assert bundle.file("LICENSE").read_text() == "MIT\n"
    assert f"`{manifest.origin.source}`" in bundle.file("CARD.md").read_text()

    pixels = np.stack([bundle.preprocessor(image) for image in golden_images()[:3]])
    texts = ["a photo of a dog", "Ein Haus!"]
    tokens = bundle.tokenizer.encode(texts)
    graph = OnnxGraph(bundle.file("image.onnx"), "image", sparse=False)
    images = model.reference.images(model.reference.pixels(golden_images()[:3]))
    assert cosines(graph.run(pixels)["dense"], images).min() > 0.9999
    graph = OnnxGraph(bundle.file("text.onnx"), "text", sparse=False)
    expected = model.reference.texts(model.reference.tokens(texts))
    assert cosines(graph.run(tokens)["dense"], expected).min() > 0.9999
    graph = OnnxGraph(bundle.file("patches.onnx"), "patches", sparse=False)
    assert model.patches is not None
    with torch.inference_mode():
        patches = model.patches(torch.from_numpy(pixels))[1].numpy()
    outputs = graph.run(pixels)
    assert cosines(outputs["patch_dense"], patches).min() > 0.9999
    assert cosines(outputs["dense"], images).min() > 0.9999

    done = CliRunner().invoke(main, arguments)
    assert done.output == "Error: tiny/1: exists, and versions never change\n"


def test_weights_may_be_stored_in_half(open_clip_folder: Folders, tmp_path: Path) -> None:
    """A convolutional network; the licence is not known. What a killed import left is removed."""
    folder = open_clip_folder("map_norm")
    config = ImportConfig(
        source=f"open_clip:local-dir:{folder}",
        models_dir=tmp_path,
        name="half",
        storage="float16",
    )
    left, steps = tmp_path / "half" / ".sparseclip-writing-ab1_cd2e" / "1", list[str]()
    left.mkdir(parents=True)
    (left / "image.onnx").write_bytes(b"half")

    def report(step: str) -> None:
        steps.append(step)
        if step == "comparing image.onnx":  # killed now, the import would leave this
            [draft] = (tmp_path / "half").glob(".sparseclip-writing-*/1/image.onnx")
            assert draft.parent != left

    bundle = open_bundle(import_bundle(config, report))
    assert sorted(path.name for path in (tmp_path / "half").iterdir()) == ["1", "CURRENT"]
    assert steps[0] == "reading the model"
    assert steps[-1] == "verifying the bundle"
    weights = folder / "open_clip_model.safetensors"
    assert bundle.manifest.files["image.onnx"].bytes < weights.stat().st_size / 2
    parity = bundle.manifest.source_parity
    assert parity is not None
    assert 0.999 < parity.min_image_cosine < 1
    assert "not known" in bundle.file("LICENSE").read_text()


class Bent(torch.nn.Module):
    """A tower whose vectors are off by a little."""

    def __init__(self, tower: torch.nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        dense: torch.Tensor = self.tower(inputs)
        return dense + 0.03 * dense.norm(dim=-1, keepdim=True) * torch.eye(24)[0]


class Changed(OpenClipReference):
    """The reference of a model, for one of whose methods another stands in."""

    def __init__(self, model: ImportedModel) -> None:
        vars(self).update(vars(model.reference))


class Silent(Changed):
    def images(self, pixels: np.ndarray) -> np.ndarray:
        return super().images(pixels) * 0


class Blind(Changed):
    def pixels(self, images: object) -> np.ndarray:
        raise ValueError(images)


def test_a_model_that_differs_from_its_library_is_not_written(
    open_clip_folder: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = load(open_clip_folder("vit"))
    no_deviation = dataclasses.replace(good.preprocessing, std=(0.0, 1.0, 1.0))
    bilinear = dataclasses.replace(good.preprocessing, interpolation="bilinear")
    wrong = {
        r"pixels: differ by \d+.\d/255": {"preprocessing": bilinear},
        "tokens: rows of 16, not 12": {"context_length": CONTEXT - 4},
        "tokenizer: CLIP's has 49408 ids, the text tower 50000": {"vocabulary": 50_000},
        "tokenizer: has 49408 ids, the text tower 90000: it belongs to other weights": {
            "vocabulary": 90_000,
            "tokenization": Tokenization(kind="bpe"),
        },
        "architecture.logit_scale: must be a finite number": {"logit_scale": float("inf")},
        r"preprocessing.std\[0\]: must be 0.001 to 100": {"preprocessing": no_deviation},
        "image: the library's model gives vectors of length 0": {"reference": Silent(good)},
        "pixels: the library's own processor reads no images": {"reference": Blind(good)},
        r"text.onnx: cosine 0.99\d+ to the library's own model": {"text": Bent(good.text)},
    }
    for message, fields in wrong.items():
        model = dataclasses.replace(good, image=good.text, patches=None, patch_grid=None, **fields)
        config = ImportConfig(source="open_clip:x", models_dir=tmp_path / "models", name="x")
        monkeypatch.setattr(OpenClipSource, "load", lambda *_, given=model: given)
        # The text graph comes first: each graph is written only when the ones before it agree.
        monkeypatch.setattr(job, "_modules", lambda given: {"text": given.text})
        with pytest.raises(ModelImportError, match=message) as refusal:
            import_bundle(config, lambda step: None)
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / "models").exists()


def test_a_source_is_named_by_what_stands_before_the_colon(tmp_path: Path) -> None:
    for name, hint in (("config.json", "write hf: before"), ("open_clip_config.json", "local-dir")):
        (tmp_path / name).touch()
        done = CliRunner().invoke(main, ["import", str(tmp_path), "--name", "x"])
        assert hint in done.output
        (tmp_path / name).unlink()
    done = CliRunner().invoke(main, ["import", "open-clip:x", "--name", "x"])
    assert "'open-clip' is none of hf, open_clip, run; did you mean open_clip?" in done.output
    done = CliRunner().invoke(main, ["import", "ViT-B-32", "--name", "x"])
    assert "SOURCE: must begin with one of hf:, open_clip:, run:" in done.output


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("", "SOURCE: must begin with one of hf:, open_clip:, run:"),
        ("hf:", "SOURCE: hf: name a folder"),
        ("hf:openai/clip", "SOURCE: hf: no such folder; `hf download ORG/REPO --local-dir PATH`"),
        ("hf:~nobody-of-this-name/x", "SOURCE: hf: no such folder"),
        ("run:", "SOURCE: run: no folder"),
        ("open_clip:local-dir:", "SOURCE: local-dir: no folder"),
        ("open_clip:ViT-B-32/no\nsuch", "SOURCE: must be one line of text"),
        ("hf:caf\udce9", "SOURCE: must be one line of text"),
        ("a" * 5_000, "SOURCE: must be one line of text"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_source_that_is_none_is_named_in_one_line(source: str, line: str, tmp_path: Path) -> None:
    arguments = ["import", source, "--name", "x", "--models", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert done.output.startswith(f"Error: {line}")
    assert done.output.count("\n") == 1


def test_a_tilde_is_the_home_of_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell leaves it as it is behind a colon."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "clip").mkdir()
    done = CliRunner().invoke(main, ["import", "hf:~/clip", "--name", "x"])
    assert done.output == "Error: SOURCE: hf: no config.json in this folder\n"


def test_a_licence_is_read_before_the_model(tmp_path: Path) -> None:
    (tmp_path / "long").write_text("a\n" * 2**20)
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    os.mkfifo(tmp_path / "pipe")
    lines = {"long": "over 1048576 bytes", "latin": "must be a file of text"}
    for name, line in (lines | {"pipe": lines["latin"]}).items():
        arguments = ["import", "hf:", "--name", "x", "--licence", str(tmp_path / name)]
        done = CliRunner().invoke(main, arguments)
        assert done.output == f"Error: --licence: {line}\n"


def test_a_pipe_in_a_folder_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "open_clip_config.json")
    with pytest.raises(ModelImportError, match="no folder with an open_clip_config.json"):
        load(tmp_path)
    (tmp_path / "open_clip_config.json").unlink()
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {}}')
    os.mkfifo(tmp_path / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelImportError, match="it has none"):
        load(tmp_path)
