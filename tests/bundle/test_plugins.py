"""Tables of plug-ins: names, what is missing, and what nobody built."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from bundle.plugins import Plugin, PluginError, Plugins

TABLE: Plugins[Any] = Plugins(
    "reader",
    {
        "json": Plugin("json:JSONDecoder"),
        "yaml": Plugin("training.core.recipe_file:BaseRecipe", "readers"),
    },
)


def test_a_name_gives_its_class() -> None:
    assert TABLE.names == ("json", "yaml")
    assert TABLE.load("json") is json.JSONDecoder


def test_an_unknown_name_is_refused_with_the_closest_one() -> None:
    with pytest.raises(PluginError, match="reader: 'jsn' is none of json, yaml; did you mean"):
        TABLE.load("jsn")


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "training.core.recipe_file", raising=False)
    monkeypatch.setitem(sys.modules, "yaml", None)  # as if it were not installed
    with pytest.raises(PluginError, match=r"yaml is not installed; .*'sparseclip\[readers\]'"):
        TABLE.load("yaml")


def test_a_module_of_ours_that_is_missing_is_a_defect_and_not_an_extra() -> None:
    table: Plugins[Any] = Plugins("reader", {"gone": Plugin("bundle.no_such:Reader", "readers")})
    with pytest.raises(ModuleNotFoundError):
        table.load("gone")
