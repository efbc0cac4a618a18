"""The page about language models of one's own says what the code does."""

from __future__ import annotations

import json
import re

import yaml

from mllm_adapter.adapter_recipe import AdapterRecipe
from mllm_adapter.data.own_conversations import parse_row
from mllm_adapter.model.llm_types import LLM_TYPES
from tests.packaging.pages import blocks
from tests.support.paths import ROOT

PAGE = "docs/own_llm.md"


def code(language: str) -> str:
    [block] = [block for block in blocks(language) if block.place.startswith(PAGE)]
    return block.code


def test_the_table_has_every_type() -> None:
    text = (ROOT / PAGE).read_text().replace("\\|", "|")
    for name, llm in LLM_TYPES.items():
        ends = ", ".join(f"`{end}`" for end in llm.end.split(", "))
        assert f"| `{name}` | {llm.families} | {ends} |" in text
    assert len(re.findall(r"^\| `\w+` \|.*\|$", text, re.MULTILINE)) == len(LLM_TYPES)


def test_the_recipe_and_the_conversations_are_read() -> None:
    recipe = AdapterRecipe.parse(yaml.safe_load(code("yaml")))
    assert (recipe.own_share, recipe.data.kind) == (0.5, "auto")
    rows = [parse_row(row["id"], row) for row in json.loads(code("json"))]
    assert [len(row.images) for row in rows] == [1, 0]
