"""The options of own pairs mean the same in every command, and none is left unread."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mllm_adapter.cli.evaluate import steering
from tests.cases.pairs import WRITERS, WrittenPair
from tests.cases.test_held_out import pattern, saved
from tests.support.paths import ICONS
from training.cli.bundle import bundle
from training.cli.data import data
from training.cli.evaluate import evaluate
from training.cli.sparsify import sparsify

DATA_OPTION = {
    "evaluate": (evaluate, ["{sparse}", "--data"]),
    "evaluate steering": (steering, ["{chat}/adapter", "--bundle", "{chat}", "--data"]),
    "bundle name-concepts": (bundle, ["name-concepts", "{sparse}", "--version", "2", "--data"]),
    "data inspect": (data, ["inspect"]),
    "sparsify": (sparsify, ["{bundle}", "--name", "x"]),
}
"""Commands that split data by themselves, up to what names the data."""


@pytest.mark.parametrize("command", DATA_OPTION)
def test_an_option_that_nothing_would_read_is_refused(
    command: str, dense_bundle: Path, tiny_bundle: Path, chat_bundle: Path, tmp_path: Path
) -> None:
    for name in ("train", "test"):
        (tmp_path / "own" / name).mkdir(parents=True)
        pairs = [WrittenPair(name="1", image=saved(pattern(1), "PNG"), caption="a dog")]
        WRITERS["files"].write(tmp_path / "own" / name, pairs)
    group, before = DATA_OPTION[command]
    bundles = {"bundle": dense_bundle, "sparse": tiny_bundle, "chat": chat_bundle}
    begin = [part.format(**bundles) for part in before]
    for path, option, problem in (
        (tmp_path / "own", ["--held-out", "image"], "--held-out: own has splits of its own"),
        (ICONS, ["--kind", "files"], "--kind: icons was built by `sparseclip data build`"),
    ):
        done = CliRunner().invoke(group, [*begin, str(path), *option])
        assert done.output.splitlines()[-1] == f"Error: {problem}", done.output


def test_without_data_nothing_reads_their_options(
    dense_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = CliRunner().invoke(evaluate, [str(tiny_bundle), "--caption-column", "text"])
    assert done.output.splitlines()[-1] == "Error: --caption-column: wants --data"
    export = ["export", str(tmp_path), "--name", "x", "--version", "1", "--kind", "table"]
    done = CliRunner().invoke(bundle, export)
    assert done.output.splitlines()[-1].startswith("Error: --kind: wants --data")
    command = [str(dense_bundle), str(tmp_path), "--name", "x", "--images-only", "--kind", "files"]
    done = CliRunner().invoke(sparsify, command)
    assert done.output.splitlines()[-1] == "Error: --kind: goes without --images-only"


def test_a_dense_bundle_says_what_has_codes(dense_bundle: Path, tmp_path: Path) -> None:
    naming = ["name-concepts", str(dense_bundle), "--version", "2", "--data", str(ICONS)]
    for group, command, problem in (
        (evaluate, [str(dense_bundle), "--data", str(ICONS)], "this model is dense and has no"),
        (bundle, naming, "this model is dense and has no concepts"),
        (
            steering,
            ["--bundle", str(dense_bundle), "--data", str(ICONS)],
            "is dense, and an adapter",
        ),
    ):
        done = CliRunner().invoke(group, command)
        assert done.exit_code == 1
        assert problem in done.output.splitlines()[-1]
        assert "sparseclip sparsify" in done.output.splitlines()[-1]
