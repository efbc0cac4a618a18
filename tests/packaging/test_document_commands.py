"""Every command of the documents is one that its program accepts; every block has a language."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from sparseclip import Steering
from tests.packaging.command_lines import (
    CommandError,
    IncompleteCommandError,
    check_block,
    check_command,
    extras,
    extras_named,
    known_options,
    simple_commands,
)
from tests.packaging.pages import LANGUAGES, PAGES, Block, blocks, inline_code, scan
from tests.support.paths import ROOT

OF_THE_PAST = {"CHANGELOG.md"}
"""Pages that name what is no more."""

ROOMS = "benchmarks|bundle|docs|examples|mllm_adapter|models|protos|serving|tests|training"
PATH = re.compile(rf"(?:{ROOMS})/\S*")


def named(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_has_a_language(page: Path) -> None:
    for block in scan(page.name, page.read_text()):
        assert block.language in LANGUAGES, f"{block.place}: see tests/packaging/pages.py"


@pytest.mark.parametrize("block", blocks("bash", "sh"), ids=named)
def test_commands_are_accepted(block: Block) -> None:
    check_block(block.code)


@pytest.mark.parametrize("block", blocks("json", "toml", "yaml"), ids=named)
def test_data_blocks_parse(block: Block) -> None:
    parsers = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
    assert parsers[block.language](block.code)


def test_a_plan_in_the_guides_is_a_plan() -> None:
    plans = [block for block in blocks("json") if '"edits"' in block.code]
    assert plans
    for block in plans:
        assert Steering.from_json(block.code).edits, block.place


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in OF_THE_PAST], ids=str)
def test_commands_in_the_prose_are_accepted(page: Path) -> None:
    """Commands in the prose may lack arguments and name several at once (`embed|explain`)."""
    for code in inline_code(page):
        for extra in extras_named(code):
            assert extra in extras(), f"{page.name}: {code}"
        if not code.startswith(("make ", "python -m ", "sparseclip ", "torchrun ")):
            continue
        if "..." in code or "|" in code:
            continue
        for words in simple_commands(code):
            with suppress(IncompleteCommandError):
                check_command(words)


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in OF_THE_PAST], ids=str)
def test_paths_in_the_prose_lead_to_files(page: Path) -> None:
    """`serving/core/limits.py`, unless a part is a placeholder, in capitals or as a pattern."""
    for code in inline_code(page):
        if PATH.fullmatch(code) and not re.search(r"[A-Z]{4}|[*{<]", code):
            bases = (ROOT, page.parent, ROOT / "benchmarks" / "results")
            assert any((base / code).exists() for base in bases), f"{page.name}: {code}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name not in OF_THE_PAST], ids=str)
def test_options_in_the_prose_exist(page: Path) -> None:
    """`--top 3` beside no command is an option of some command, or of a benchmark."""
    for code in inline_code(page):
        match = re.match(r"--[a-z][a-z0-9-]*", code)
        assert match is None or match[0] in known_options(), f"{page.name}: {code}"


def test_a_wrong_option_is_caught() -> None:
    assert {"--top", "--no-sparse", "--limits-queue-s", "--rows"} <= known_options()
    assert not {"--fromat", "--models-dir"} & known_options()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("sparseclip serve --models-dir models", "No such option"),
        ("sparseclip serv", "No such command"),
        ("sparseclip export images", "Missing argument"),
        ("sparseclip bundle", "Missing command"),
        ("sparseclip bundle exprot runs/demo", "No such command"),
        ("sparseclip export images codes --format csv", "not one of"),
        ("sparseclip export images codes --workers 0", "not in the range"),
        ("sparseclip export verify codes --quick", "No such option"),
        ("sparseclip embed a.png > codes.json | spareclip embed", "no program"),
        ("make tests", "no such target"),
        ("pip install 'sparseclip[server,everything]'", "no extra 'everything'"),
        ("python -m benchmarks.speed", "no such module"),
        ("python -m benchmarks.steering --rounds 9", "no option --rounds"),
        ("python benchmarks/speed.py", "no such file"),
        ("torchrun --nproc-per-node 8 -m training demo --runs runs", "No such option"),
        ("for f in *.png; do sparseclip embed $f --frm 3; done", "No such option"),
        ("sparseclip train demo \\\n  --epochs 3", "No such option"),
    ],
)
def test_a_wrong_command_is_caught(line: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        check_block(line)


@pytest.mark.parametrize(
    "line",
    [
        "sparseclip serve --help",
        'sparseclip search qdrant:folder --concept "#123=0.5" --top 20  # by its id',
        "SPARSECLIP_TOKEN=secret sparseclip embed a.png --server example.org:50051",
        "make evaluate ARGS='runs/demo'",
        "PYTHON=python3.12 make test",
    ],
)
def test_a_right_command_is_accepted(line: str) -> None:
    check_block(line)


def test_a_block_that_is_not_closed_is_caught() -> None:
    with pytest.raises(ValueError, match=r"page.md:3: the block is not closed"):
        scan("page.md", "a\n\n```sh\nls\n")


def test_pages_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {"README.md", "docs/serving.md", "data/README.md"} <= names
