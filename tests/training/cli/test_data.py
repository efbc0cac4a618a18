"""`sparseclip data build` and `data inspect` on the command line."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import tokenizers
from click.testing import CliRunner

from bundle.manifest import Tokenization
from bundle.store import open_bundle, write_bundle
from tests.support.paths import ICONS, ROOT
from tests.support.tiny_model import tiny_images
from training.cli.data import data
from training.data.shards import read_index


def test_the_command_reports_errors_in_one_line() -> None:
    result = CliRunner().invoke(data, ["build", "dmo"])
    assert result.exit_code == 1
    assert result.output == (
        "Error: unknown recipe 'dmo' (did you mean 'demo'?); "
        "known: demo, demo-research, foreign, photos\n"
    )


def test_inspect_counts_the_fixture() -> None:
    result = CliRunner().invoke(data, ["inspect", str(ICONS), "--json"])
    report = json.loads(result.stdout)
    samples = {k: v["samples"] for k, v in read_index(ICONS)["splits"].items()}
    assert {k: v["samples"] for k, v in report["sets"].items()} == samples
    # And looks at every pair, as at a user's own.
    assert {split["split"]: split["good"] for split in report["splits"]} == samples
    assert sum(split["bad"] for split in report["splits"]) == 0
    table = CliRunner().invoke(data, ["inspect", str(ICONS), "--limit", "1"])
    assert table.exit_code == 0
    assert "twemoji" in table.output
    assert "tokens of a caption" in table.output
    refused = CliRunner().invoke(data, ["inspect", str(ICONS), "--kind", "files"])
    assert refused.output == "Error: --kind: icons was built by `sparseclip data build`\n"


def test_inspect_counts_captions_by_the_tokenizer_of_a_bundle(
    dense_bundle: Path, tmp_path: Path
) -> None:
    own = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({"[UNK]": 0, "c": 1, "##a": 2, "##t": 3}, unk_token="[UNK]")
    )
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    manifest = open_bundle(dense_bundle).manifest

    def fill(folder: Path) -> None:
        for name in manifest.files:
            shutil.copy(dense_bundle / name, folder / name)
        own.save(str(folder / "tokenizer.json"))

    tokenization = Tokenization(kind="wordpiece")
    bundle = write_bundle(
        tmp_path, dataclasses.replace(manifest, name="own", tokenization=tokenization), fill
    )
    (tmp_path / "images").mkdir()
    tiny_images()[0].save(tmp_path / "images" / "0.png")
    caption = "cat " * 5 + "caat"
    (tmp_path / "images" / "metadata.csv").write_text(f"file_name,text\n0.png,{caption}\n")
    command = ["inspect", str(tmp_path / "images"), "--json"]
    result = CliRunner().invoke(data, [*command, "--bundle", str(bundle)])
    assert result.exit_code == 0, result.output
    [split] = json.loads(result.stdout)["splits"]
    assert split["tokens"]["max"] == len(own.encode(caption).ids) == 19
    assert split["cut_captions"] == 1  # the context has fewer
    both = CliRunner().invoke(data, [*command, "--bundle", str(bundle), "--recipe", "demo"])
    assert both.exit_code == 2


def test_inspect_refuses_what_is_not_a_data_set(tmp_path: Path) -> None:
    result = CliRunner().invoke(data, ["inspect", str(tmp_path)])
    assert result.exit_code == 1
    assert "holds no shards, tables, lists or images" in result.output


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from training.cli.data import data\n"
        "try: data(['build', '--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'PIL', 'yaml', 'rich', 'resvg_py') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
