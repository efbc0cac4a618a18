"""Data and language models that runs of adapters start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.mllm_adapter.llms import tiny_llm
from tests.training.conftest import ICONS


@pytest.fixture(scope="session")
def icons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the committed icons, beside which codes may be kept."""
    return shutil.copytree(ICONS, tmp_path_factory.mktemp("data") / "icons")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny Llama."""
    folder = tmp_path_factory.mktemp("llm") / "llama"
    model, tokenizer = tiny_llm()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    return folder
