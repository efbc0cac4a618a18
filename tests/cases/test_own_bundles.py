"""Evaluation, a bundle and names from any kind of data, with nothing that a user did not have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundle.store import open_bundle
from tests.cases.pairs import WRITERS, WrittenPair
from tests.cases.test_held_out import pattern, saved
from tests.support.paths import ROOT
from tests.training.conftest import tiny_recipe
from training.bundling.release import ReleaseConfig, release
from training.cli.bundle import bundle
from training.cli.evaluate import evaluate
from training.loading.pair_data import PairData
from training.trainer.loop import train

pytestmark = pytest.mark.kind("K7")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(tiny_recipe(), folder, stop_after=1)
    return folder


def pairs(number: int = 60, caption: Callable[[int], object] = lambda n: f"a {_THINGS[n % 3]} {n}"):
    return [
        WrittenPair(name=f"{n}", image=saved(pattern(n), "PNG"), caption=caption(n))
        for n in range(number)
    ]


_THINGS = ("dog", "red house", "tree")


def _two_splits(folder: Path) -> None:
    for name, part in (("train", pairs()[:40]), ("test", pairs()[40:])):
        (folder / name).mkdir()
        WRITERS["table"].write(folder / name, part)


def _files(*written: WrittenPair) -> Callable[[Path], None]:
    return lambda folder: WRITERS["files"].write(folder, written)


DATA: dict[str, Callable[[Path], None]] = {
    **{
        kind: lambda folder, kind=kind: WRITERS[kind].write(
            folder, pairs(caption=lambda n: _THINGS[n % 3]) if kind == "classes" else pairs()
        )
        for kind in WRITERS
    },
    "two splits": _two_splits,
    "two pairs, none of them held out": _files(*pairs(2)),
    "one pair": _files(*pairs(1)),
    "captions without a word": _files(*pairs(caption=lambda n: f"{n} {n + 1} {n + 2}")),
    "one caption for all": _files(*pairs(caption=lambda n: "a photo")),
    "several captions, one long": _files(*pairs(caption=lambda n: [f"dog {n}", "a " * 50])),
}


FEW = {"two pairs, none of them held out", "one pair"}


@pytest.mark.parametrize("case", DATA)
def test_any_data_are_enough_for_a_bundle(
    case: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graphs are not written here, as that takes long: what goes into them is looked at."""
    folder = tmp_path / "own"
    folder.mkdir()
    DATA[case](folder)
    written: dict[str, Any] = {}
    monkeypatch.setattr(
        "training.bundling.release.export_bundle", lambda *_, **all: written.update(all)
    )
    licence = ROOT / "LICENSE"
    release(
        ReleaseConfig(
            run=run,
            data=PairData(folder),
            models_dir=tmp_path,
            name="own",
            version="1",
            licence=licence,
        )
    )
    assert len(written["golden"].images) == len(written["golden"].texts)
    assert 1 <= len(written["golden"].images) <= 60
    assert len(written["captions"].texts) >= 1
    assert ("No figures" in written["card_text"]) is (case in FEW)
    assert any(concept.images for concept in written["concepts"])
    assert any(concept.words for concept in written["concepts"])


@pytest.mark.parametrize("case", ["classes", "two splits", "one pair", "captions without a word"])
def test_any_data_measure_and_name(case: str, run: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    DATA[case](folder)
    data = PairData(folder)
    measured = CliRunner().invoke(evaluate, [str(run), "--data", str(folder), "--json"])
    if case in FEW:
        assert measured.output.endswith("Error: --data: own holds no good pair of held_out\n")
    else:
        assert measured.exit_code == 0, measured.output
        [figures] = map(json.loads, measured.stdout.splitlines())
        assert figures["zero_shot"]["images"] == data.split(data.splits[-1]).pairs
    command = ["name-concepts", str(tiny_bundle), "--data", str(folder), "--version", "2"]
    named = CliRunner().invoke(bundle, [*command, "--models", str(tmp_path / "models")])
    assert named.exit_code == 0, named.output
    assert open_bundle(tmp_path / "models" / "tiny").captions is not None
