"""An adapter becomes part of a new version of its bundle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bundle.store import BundleError, current_version, open_bundle
from mllm_adapter.attach import attach
from mllm_adapter.cli.adapter import adapter as commands
from mllm_adapter.model.adapter import AdapterError, read_config
from tests.support.chat_bundles import add_adapter


def test_a_new_version_with_the_adapter(
    tiny_bundle: Path, chat_bundle: Path, tmp_path: Path
) -> None:
    done = attach(chat_bundle / "adapter", tiny_bundle, tmp_path, "9")
    bundle = open_bundle(tmp_path / "tiny")
    assert current_version(tmp_path / "tiny") == bundle.manifest.version == "9"
    assert read_config(done / "adapter") == read_config(chat_bundle / "adapter")
    assert "adapter/llm/model.safetensors" in bundle.manifest.files
    card = (done / "CARD.md").read_text()
    assert card.startswith("# tiny 9\n")
    assert "## Steered chat" in card
    with pytest.raises(BundleError, match="exists, and versions never change"):
        attach(chat_bundle / "adapter", tiny_bundle, tmp_path, "9")
    # An adapter in the source is replaced, not added to.
    attach(chat_bundle / "adapter", done, tmp_path, "10")
    assert current_version(tmp_path / "tiny") == "10"


def test_an_adapter_of_another_backbone_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    other = add_adapter(tiny_bundle, tmp_path / "other" / "1", concepts=128)
    with pytest.raises(AdapterError, match="for 128 concepts on 16 patches; the bundle has 256"):
        attach(other / "adapter", tiny_bundle, tmp_path, "2")
    # Of the same shape, but its concepts are others.
    same = add_adapter(tiny_bundle, tmp_path / "same" / "1") / "adapter"
    config = dataclasses.replace(read_config(same), backbone="other/3", codes="0" * 64)
    (same / "adapter.json").write_text(json.dumps(dataclasses.asdict(config)))
    with pytest.raises(AdapterError, match=r"codes: it reads the concepts of other/3, and those"):
        attach(same, tiny_bundle, tmp_path, "2")
    arguments = ["attach", str(other / "adapter"), "--bundle", str(tiny_bundle), "--version", "2"]
    done = CliRunner().invoke(commands, [*arguments, "--models", str(tmp_path)])
    assert done.exit_code == 1
    assert done.output.startswith("Error: adapter.json: for 128 concepts")
