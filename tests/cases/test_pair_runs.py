"""What a training run takes of some pairs: its split, how images look, and how damage ends it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from bundle.preprocessor import Preprocessor
from tests.cases.damage import A, B, Write, shard
from tests.cases.damaged_shards import cut_shard
from tests.cases.pairs import (
    BLANK,
    CASES,
    WRITERS,
    image_table,
    write_saved,
    write_tar,
)
from tests.support.no_hang import no_hang
from tests.support.paths import ICONS
from tests.training.conftest import tiny_recipe
from training.cli.data import data
from training.data.data_recipe import DataError
from training.loading.pair_data import ALL, PairData
from training.loading.stream import random_crop
from training.model.pixels import preprocessing
from training.trainer.loop import train


@pytest.mark.kind("K2")
def test_splits(tmp_path: Path) -> None:
    own = tmp_path / "own"
    for name in ("train", "test"):
        write_tar(own / name / "0.tar", shard(A))
        write_saved(tmp_path / name, image_table([A]))
    assert PairData(own).splits == ["train", "test"]
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    assert PairData(tmp_path).splits == ["test", "train"]
    assert len(list(PairData(tmp_path).split("test").read_all())) == 1
    with pytest.raises(DataError, match=r"^data\.split: own has no split 'tset' \(did you mean"):
        PairData(own).split("tset")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["../x"]}')
    with pytest.raises(DataError, match=r"names no splits"):
        PairData(tmp_path)


@pytest.mark.kind("K2")
def test_a_built_data_set_streams_its_split_alone() -> None:
    built = PairData(ICONS)
    images = {
        split: [found.image for found in built.split(split).read_all()]  # type: ignore[union-attr]
        for split in ("train", "test_style")
    }
    assert len(images["train"]) == 38
    assert not set(images["train"]) & set(images["test_style"])


@pytest.mark.kind("K7")
def test_a_transparent_image_is_learned_as_it_is_served(tmp_path: Path) -> None:
    """What is hidden under transparent pixels is not seen, and the ground is that of serving."""
    views = []
    for hidden in ("#000000", "#ffffff", "#ff0000"):
        image = Image.new("RGBA", (16, 16), f"{hidden}00")
        image.paste((220, 60, 40, 255), (4, 4, 12, 12))
        views.append(random_crop(image, 16, random.Random(1)))
    assert all(torch.equal(view, views[0]) for view in views)
    served = Preprocessor(preprocessing(16))(image)
    assert torch.equal(views[0][:, 0, 0], torch.from_numpy(served)[:, 0, 0])
    assert torch.equal(views[0][:, 8, 8], torch.from_numpy(served)[:, 8, 8])


RUNS: dict[str, tuple[Write, str]] = {
    "two pairs, as many workers": (lambda f: write_tar(f / "0.tar", shard(A, B)), ""),
    "all blank": (
        lambda f: WRITERS["webdataset"].write(f, CASES["all bad"]),
        r"no good pair: 0 good, 3 bad \(the caption is blank: 3\)$",
    ),
    "no pairs": (lambda f: write_tar(f / "0.tar", []), "holds no pairs"),
    "no bytes": (lambda f: (f / "0.tar").touch(), "holds no pairs"),
    "a cut shard": (lambda f: cut_shard(f, 0.75), ""),
    "a key again": (lambda f: write_tar(f / "0.tar", shard(A, A, B)), ""),
}


@pytest.mark.kind("K3")
@pytest.mark.parametrize("case", RUNS)
def test_a_run_goes_on_or_ends_in_one_line(case: str, tmp_path: Path) -> None:
    write, problem = RUNS[case]
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    recipe = tiny_recipe(
        data={"path": str(tmp_path / "data"), "split": ALL, "workers": 2},
        loop={"batch_size": 2, "epochs": 4},
    )
    with no_hang():
        if problem:
            with pytest.raises(DataError, match=problem):
                train(recipe, tmp_path / "run", 3)
        else:
            assert train(recipe, tmp_path / "run", 3).name == "step-00000003"


@pytest.mark.kind("K2")
def test_a_look_before_a_run(tmp_path: Path) -> None:
    folder, recipe = tmp_path / "data", tmp_path / "tiny.yaml"
    folder.mkdir()
    recipe.write_text(yaml.safe_dump(tiny_recipe().to_dict()))
    WRITERS["webdataset"].write(folder, CASES["empty caption"])
    (folder / "1.tar").write_bytes(b"")
    command = ["inspect", str(folder), "--recipe", str(recipe)]
    done = CliRunner().invoke(data, [*command, "--json"])
    assert done.exit_code == 0, done.output
    [split] = json.loads(done.stdout)["splits"]
    assert (split["found"], split["good"], split["bad"]) == (3, 2, 1)
    assert split["bad_pairs"] == [{"key": "0.tar/bad", "reason": BLANK}]
    assert split["damaged"] == {"1.tar": "empty"}
    assert (split["repeated_images"], split["distinct_captions"], split["cut_captions"]) == (
        1,
        1,
        0,
    )
    table = CliRunner().invoke(data, command)
    assert "0.tar/bad: the caption is blank" in table.output
    (folder / "0.tar").unlink()
    none = CliRunner().invoke(data, command)
    assert none.exit_code == 1
    assert none.output.endswith("holds no good pair\n")
