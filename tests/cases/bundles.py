"""Bundles that must not be served: what is wrong with each, and where that is noticed.

`verified` cases are refused by whoever opens the bundle, before anything but the manifest is
parsed. `loaded` cases hold what their manifest says; they are refused by a server that loads them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bundle.manifest import Manifest
from bundle.verify import MANIFEST
from tests.cases.damaged_graphs import added_to_norm, external_tensor, hungry
from tests.support.resealing import reseal

Damage = Callable[[Path], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleCase:
    """A bundle with chat, after some damage."""

    name: str
    damage: Damage
    noticed: Literal["verified", "loaded"]
    message: str
    """How the refusal begins: to the operator, or in the log of the server."""
    chat_only: bool = False
    """The embeddings are answered all the same where the server starts with this bundle."""


def write_case(bundle: Path, target: Path, case: BundleCase) -> Path:
    """A copy of a chat bundle with the damage, and a manifest that fits it."""
    shutil.copytree(bundle, target)
    manifest = Manifest.from_json((target / MANIFEST).read_text())
    versioned = dataclasses.replace(manifest, version=target.name)
    (target / MANIFEST).write_text(versioned.to_json())
    case.damage(target)
    if case.noticed == "loaded":
        reseal(target)
    return target


def manifest_value(path: str, value: object) -> Damage:
    """The manifest says something else at a dotted path."""

    def damage(root: Path) -> None:
        data = json.loads((root / MANIFEST).read_text())
        *parents, leaf = path.split(".")
        inner = data
        for parent in parents:
            inner = inner[parent]
        inner[leaf] = value
        (root / MANIFEST).write_text(json.dumps(data))

    return damage


def json_value(name: str, key: str, value: object) -> Damage:
    """A JSON file of the bundle says something else; None takes the key out."""

    def damage(root: Path) -> None:
        path = root / name
        data = json.loads(path.read_text()) if path.exists() else {}
        data[key] = value
        path.write_text(json.dumps(data))

    return damage


def weights(name: str, change: Callable[[dict[str, Any]], None]) -> Damage:
    """Other tensors in a safetensors file."""

    def damage(root: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(root / name)
        change(tensors)
        save_file(tensors, root / name, metadata={"format": "pt"})

    return damage


def fifo(root: Path) -> None:
    os.mkfifo(root / "adapter" / "llm" / "special_tokens_map.json")


def template(text: str) -> Damage:
    return json_value("adapter/llm/tokenizer_config.json", "chat_template", text)


def _drop(tensors: dict[str, Any]) -> None:
    del tensors[next(name for name in tensors if "mlp" in name)]


def _rename(tensors: dict[str, Any]) -> None:
    name = next(name for name in tensors if "mlp" in name)
    tensors["another." + name] = tensors.pop(name)


def _spoil(value: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[max(tensors)].view(-1)[3] = value

    return change


def _shorten(tensors: dict[str, Any]) -> None:
    tensors["rows"] = tensors["rows"][:-1].clone()


LOOPS = (
    "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}"
)

_MANIFEST: list[tuple[str, str, object, str]] = [
    ("control characters in a name", "name", "tiny\x1b[2J", "manifest.json: name: not a plain"),
    ("a side below 0", "preprocessing.size", -1, "manifest.json: preprocessing.size: must be 1 to"),
    ("a side of a billion", "preprocessing.size", 10**9, "manifest.json: preprocessing.size: must"),
    ("a mean that is no number", "preprocessing.mean", [math.nan, 0, 0], "manifest.json: prepro"),
    ("a deviation of 0", "preprocessing.std", [0, 1, 1], "manifest.json: preprocessing.std[0]: mu"),
    ("no colour", "preprocessing.background", [0, 0, 1e20], "manifest.json: preprocessing.backgr"),
    ("patches below 0", "architecture.patch_grid", [-4, -4], "manifest.json: architecture.patch_"),
    ("an infinite scale", "architecture.logit_scale", math.inf, "manifest.json: architecture.logi"),
]

_LLM = "adapter/llm/"

CASES: tuple[BundleCase, ...] = (
    *(
        BundleCase(name=name, damage=manifest_value(path, value), noticed="verified", message=text)
        for name, path, value, text in _MANIFEST
    ),
    BundleCase(
        name="a tensor in another file",
        damage=external_tensor,
        noticed="verified",
        message="image.onnx: keeps tensors in another file",
    ),
    BundleCase(
        name="a FIFO",
        damage=fifo,
        noticed="verified",
        message="adapter/llm/special_tokens_map.json: not a regular file",
    ),
    BundleCase(
        name="a graph that asks for more memory than there is",
        damage=added_to_norm(hungry),
        noticed="loaded",
        message="",
    ),
    *(
        BundleCase(name=name, damage=damage, noticed="loaded", message=message, chat_only=True)
        for name, damage, message in [
            (
                "layers without weights",
                json_value(_LLM + "config.json", "num_hidden_layers", 10_000),
                "llm: config.json: num_hidden_layers: 10000; the files hold",
            ),
            (
                "a wider model than the weights",
                json_value(_LLM + "config.json", "intermediate_size", 10**6),
                "llm: model.layers.0.mlp.down_proj.weight: config.json describes 64 x 1000000",
            ),
            (
                "an LLM that would be fetched",
                json_value("adapter/adapter.json", "llm", "smollm2"),
                "adapter.json: llm: smollm2 is not on this machine: sparseclip llm fetch smollm2",
            ),
            (
                "shards outside",
                json_value(
                    _LLM + "model.safetensors.index.json", "weight_map", {"a": "../../../x.bin"}
                ),
                "llm: model.safetensors.index.json: names a file that is not beside it",
            ),
            (
                "code of the model",
                json_value(_LLM + "config.json", "auto_map", {"AutoModel": "x.Y"}),
                "llm: config.json: auto_map: code of a model is not run",
            ),
            (
                "a missing weight",
                weights(_LLM + "model.safetensors", _drop),
                "llm: config.json describes ",
            ),
            (
                "a weight under another name",
                weights(_LLM + "model.safetensors", _rename),
                "llm: the files lack weights: model.layers.0.mlp",
            ),
            (
                "a weight that is no number",
                weights(_LLM + "model.safetensors", _spoil(math.nan)),
                "llm: model.norm.weight: holds numbers that are not finite",
            ),
            (
                "an infinite weight of the projector",
                weights("adapter/projector.safetensors", _spoil(np.inf)),
                "projector.safetensors: ",
            ),
            (
                "a projector without a row",
                weights("adapter/projector.safetensors", _shorten),
                "projector.safetensors: not the weights that adapter.json describes",
            ),
            ("a template of loops", template(LOOPS * 3), "the chat template runs too long"),
            (
                "a template that fails",
                template("{{ raise_exception('no') }}"),
                "the chat template cannot be rendered",
            ),
            (
                "a template that drops what the user says",
                template("{% for m in messages %}{% endfor %}hello"),
                "the chat template leaves out a message",
            ),
        ]
    ),
)
