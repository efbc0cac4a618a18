"""`sparseclip data build` and `data inspect` on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from tests.support.paths import ICONS, ROOT
from training.cli.data import data
from training.data.shards import read_index


def test_the_command_reports_errors_in_one_line() -> None:
    result = CliRunner().invoke(data, ["build", "dmo"])
    assert result.exit_code == 1
    assert result.output == (
        "Error: unknown recipe 'dmo' (did you mean 'demo'?); known: demo, photos\n"
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
