"""`sparseclip bundle export | name-concepts`, and a release of own pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from torch import Tensor

from bundle.store import open_bundle
from tests.support.paths import ROOT
from tests.support.tiny_model import graphs_from
from tests.training.conftest import ICONS, tiny_recipe
from training.cli.bundle import bundle
from training.data.shards import read_split
from training.evaluation.encoder import CodeMatrix
from training.loading.samples import held_out_splits


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few steps on the committed icons."""
    from training.trainer.loop import train

    folder = tmp_path_factory.mktemp("run")
    train(tiny_recipe(), folder, stop_after=3)
    return folder


def export(run: Path, models: Path, *more: str) -> Result:
    """`sparseclip bundle export` of a run."""
    arguments = ["export", str(run), "--name", "icons", "--version", "0.1"]
    options = ["--models", str(models), "--data", str(ICONS)]
    licence = ["--licence", str(ROOT / "LICENSE")]
    return CliRunner().invoke(bundle, [*arguments, *options, *licence, *more])


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The directory of models that an export makes, and what the command printed."""
    models = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        # pooling in slices of 50 of the 128 concepts, as large models do; the gate would see a
        # mistake
        patch.setattr("training.bundling.onnx_graphs.PATCH_CODES_PER_SLICE", 4 * 50)
        patch.setenv("SPARSECLIP_CACHE", str(models / "empty"))
        return models, export(run, models)


def test_export_a_checkpoint(run: Path, exported: tuple[Path, Result]) -> None:
    models, done = exported
    assert done.exit_code == 0, done.output
    assert done.stdout == f"bundle: {models / 'icons' / '0.1'}\n"
    opened = open_bundle(models / "icons")
    record = opened.manifest.training
    assert (record.recipe, record.pairs, record.samples_seen) == ("tiny", 38, 24)
    assert {"test_style.top1", "test_codepoint.l0_image"} <= set(record.figures)
    assert len(opened.concepts) == 128
    nodes = onnx.load(opened.file("image.onnx")).graph.node
    assert [len(n.output) for n in nodes if n.op_type == "Split"] == [3]
    assert any(c.words for c in opened.concepts.concepts)
    assert "clarity: not measured; " in done.stderr
    assert {c.clarity for c in opened.concepts.concepts} == {None}
    card = opened.file("CARD.md").read_text()
    for words in (
        "# icons 0.1",
        "128 concepts",
        "test_style",
        "Clarity, how well the images of a concept belong together, was not measured",
    ):
        assert words in card
    again = export(run, models)
    assert again.exit_code == 1
    assert again.output == "Error: icons/0.1: exists, and versions never change\n"


def sources(split: str) -> set[str]:
    """What evidence would call the images of a split of the icons."""
    metas = [sample.meta for sample in read_split(ICONS, split)]
    return {f"{meta['set']}/{meta['name']}" for meta in metas}


def test_no_held_out_image_is_evidence_for_a_name(exported: tuple[Path, Result]) -> None:
    opened = open_bundle(exported[0] / "icons")
    evidence = {e.source for c in opened.concepts.concepts for e in c.images}
    trained, held_out = sources("train"), set().union(*map(sources, held_out_splits(ICONS)))
    assert evidence
    assert evidence <= trained
    assert not evidence & (held_out - trained)
    captions = {sample.meta["caption"] for sample in read_split(ICONS, "train")}
    assert opened.captions is not None
    assert set(opened.captions.texts) <= captions


def test_names_of_a_bundle_are_fitted_again(exported: tuple[Path, Result], tmp_path: Path) -> None:
    old = open_bundle(exported[0] / "icons" / "0.1")
    words = tmp_path / "words.txt"
    words.write_text("zeppelin\n\n  Blue  Whale \nZEPPELIN\n" + "x" * 101)
    report = tmp_path / "coverage.json"
    command = ["name-concepts", str(old.root), "--data", str(ICONS), "--vocabulary", str(words)]
    command += ["--models", str(tmp_path), "--version", "0.2"]
    command += ["--coverage", str(report)]
    done = CliRunner().invoke(bundle, command)
    assert done.exit_code == 0, done.output
    assert "repeated lines: zeppelin" in done.stdout
    assert "line 5 is left out: more than 100 characters" in done.stdout
    coverage = json.loads(report.read_text())
    assert (coverage["words"], coverage["phrases"], coverage["concepts"]) == (2, 1, 128)
    assert {word["outcome"] for word in coverage["outcomes"]} & {"name", "evidence"}
    refused = CliRunner().invoke(bundle, [*command[:-4], "--version", "0.3", *command[-2:]])
    assert refused.output == "Error: --coverage: coverage.json exists, and is not replaced\n"
    new = open_bundle(tmp_path / "icons")
    changed = {"concepts.jsonl", "captions.safetensors", "CARD.md"}
    same = set(old.manifest.files) - changed
    assert {n: new.manifest.files[n] for n in same} == {n: old.manifest.files[n] for n in same}
    assert new.manifest.training == old.manifest.training
    # The captions' codes came from torch before, and come from the graphs now.
    assert new.captions is not None
    assert old.captions is not None
    assert new.captions.texts == old.captions.texts
    card = new.file("CARD.md").read_text()
    assert card.startswith("# icons 0.2\n")
    assert card.count("## Names of concepts") == 1
    used = {e.source for c in new.concepts.concepts for e in c.words}
    assert used & {"zeppelin", "blue whale"}
    again = CliRunner().invoke(bundle, command[:-2])
    assert again.output == "Error: icons/0.2: exists, and versions never change\n"


class Letters:
    """Judges by a caption's first letter."""

    name = "letters"

    def __call__(self, texts: Sequence[str]) -> CodeMatrix:
        return np.eye(128, dtype=np.float32)[[ord(text[0]) % 128 for text in texts]]


def test_a_release_reads_and_encodes_once(
    run: Path,
    exported: tuple[Path, Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from training.bundling.bundle_writer import as_shipped
    from training.bundling.release import ReleaseConfig, release
    from training.data import shards
    from training.evaluation.encoder import CheckpointEncoder
    from training.evaluation.evaluate import evaluate_split, figures_by_name

    read: list[str] = []
    shown: list[Image.Image] = []
    tar, pixels = shards.read_tar, CheckpointEncoder.pixels

    def reading(path: Path) -> Iterator[shards.Sample]:
        read.append(path.name)
        return tar(path)

    def encoding(self: CheckpointEncoder, batch: Sequence[Image.Image]) -> Tensor:
        shown.extend(batch)
        return pixels(self, batch)

    monkeypatch.setattr(shards, "read_tar", reading)
    monkeypatch.setattr(CheckpointEncoder, "pixels", encoding)
    written = exported[0] / "icons" / "0.1"
    monkeypatch.setattr("training.bundling.bundle_writer.write_graphs", graphs_from(written))
    order = ReleaseConfig(
        run=run,
        data=ICONS,
        models_dir=tmp_path,
        name="icons",
        version="1",
        licence=ROOT / "LICENSE",
        judge=Letters(),
    )
    opened = open_bundle(release(order))
    splits = shards.read_index(ICONS)["splits"]
    assert read == [shard["file"] for split in splits.values() for shard in split["shards"]]
    assert len(shown) == sum(split["samples"] for split in splits.values())

    monkeypatch.undo()
    encoder = CheckpointEncoder(run)
    encoder.model = as_shipped(encoder.model)
    names = held_out_splits(ICONS)
    apart = figures_by_name([evaluate_split(encoder, ICONS, split, Letters()) for split in names])
    assert "test_style.clarity_random.letters" in apart
    assert "test_style.monosemanticity_untrained.letters" in apart
    assert opened.manifest.training.figures == pytest.approx(apart, abs=0.002)
    assert "Judged by letters" in opened.file("CARD.md").read_text()
    clarity = [c.clarity for c in opened.concepts.concepts if c.active]
    assert any(value is not None and 0 < value < 1 for value in clarity)


def test_a_shipped_model_is_a_rounded_copy(run: Path) -> None:
    from training.bundling.bundle_writer import as_shipped
    from training.evaluation.encoder import CheckpointEncoder

    encoder = CheckpointEncoder(run)
    exact = encoder.texts(["a dog"])
    encoder.model = as_shipped(encoder.model)
    rounded = encoder.texts(["a dog"])
    assert not np.array_equal(exact, rounded)
    assert np.allclose(exact, rounded, atol=0.01)


def test_a_folder_that_holds_no_checkpoint(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        bundle,
        [
            "export",
            str(tmp_path),
            "--name",
            "x",
            "--version",
            "1",
            "--models",
            str(tmp_path),
            "--data",
            str(ICONS),
            "--licence",
            str(ROOT / "LICENSE"),
        ],
    )
    assert done.exit_code == 1
    assert done.output.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in done.output


@pytest.fixture
def own_pairs(tmp_path: Path) -> Path:
    """The icons as a user's own files: an image beside a caption, one image that is cut."""
    from training.data.shards import read_split

    folder = tmp_path / "own"
    folder.mkdir()
    for split in ("train", "val_style", "test_style"):
        for sample in read_split(ICONS, split):
            (folder / f"{sample.key}.png").write_bytes(sample.png)
            (folder / f"{sample.key}.txt").write_text(sample.meta["caption"])
    (folder / "cut.png").write_bytes(sample.png[:60])
    (folder / "cut.txt").write_text("a cut image")
    return folder


def test_own_pairs_are_evaluated_on_their_held_out_part(run: Path, own_pairs: Path) -> None:
    from training.cli.evaluate import evaluate
    from training.loading.pair_data import PairData

    held_out = list(PairData(own_pairs).split("held_out").read_all())
    assert held_out
    done = CliRunner().invoke(evaluate, [str(run), "--data", str(own_pairs), "--json"])
    assert done.exit_code == 0, done.output
    [line] = done.stdout.splitlines()
    figures = json.loads(line)
    assert (figures["split"], figures["zero_shot"]["images"]) == ("held_out", len(held_out))


def test_own_pairs_are_enough_for_a_bundle(
    run: Path, own_pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs are not written here, as that takes long: what goes into them is judged."""
    from training.bundling.release import ReleaseConfig, release
    from training.loading.pair_data import ALL, PairData
    from training.loading.sources.base import Pair

    written: dict[str, Any] = {}
    monkeypatch.setattr(
        "training.bundling.release.export_bundle", lambda *_, **all: written.update(all)
    )
    config = ReleaseConfig(
        run=run,
        data=PairData(own_pairs),
        models_dir=tmp_path,
        name="own",
        version="1",
        licence=ROOT / "LICENSE",
    )
    release(config)
    golden, record, card = (written[key] for key in ("golden", "training_record", "card_text"))
    good = sum(isinstance(found, Pair) for found in PairData(own_pairs).split(ALL).read_all())
    assert len(golden.images) == len(golden.texts) == good - 1  # one is cut
    assert record.data == "own"
    assert "No figures: no images were held out." not in card
    assert "held_out.top1" in record.figures
    assert any(concept.words for concept in written["concepts"])
