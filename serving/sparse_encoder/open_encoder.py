"""Opens a SparseEncoder over a bundle, or over what such a one has saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.store import BundleError, default_bundle

if TYPE_CHECKING:
    from sentence_transformers import SparseEncoder

_SETTINGS = "config_sentence_transformers.json"
_MODULES = "modules.json"
_TYPE = "serving.sparse_encoder.concept_encoder.ConceptEncoder"
_KEPT = {
    "similarity_fn_name": str,
    "prompts": dict,
    "default_prompt_name": str,
    "max_active_dims": int,
}
"""Settings that sentence-transformers saves beside the modules, and their kinds."""


def open_sparse_encoder(path: str | Path | None = None, *, threads: int = 0) -> SparseEncoder:
    """A SparseEncoder over a bundle, whose similarity is the cosine; by default the demo bundle.

    A folder that `SparseEncoder.save` wrote is opened with its settings. sentence-transformers
    itself opens such a folder only if it may import whatever class the folder names; this function
    imports its own class alone. Raises BundleError.
    """
    from training.core.torchvision_compat import define_operators

    define_operators()  # sentence-transformers imports transformers, and that torchvision
    from sentence_transformers import SparseEncoder

    from serving.sparse_encoder.concept_encoder import ConceptEncoder

    folder = default_bundle() if path is None else Path(path)
    settings: dict[str, Any] = {"similarity_fn_name": "cosine"}
    bundle = folder
    if (folder / _MODULES).is_file():
        bundle = folder / _module_folder(folder / _MODULES) / "bundle"
        settings = _settings(folder / _SETTINGS)
    return SparseEncoder(modules=[ConceptEncoder(bundle, threads=threads)], **settings)


def _settings(path: Path) -> dict[str, Any]:
    """The settings that this class has. Raises BundleError for values of other kinds."""
    saved = _read(path)
    if not isinstance(saved, dict):
        raise BundleError(f"{path.name}: must be an object")
    settings = {name: saved[name] for name in _KEPT if saved.get(name) is not None}
    for name, value in settings.items():
        if not isinstance(value, _KEPT[name]) or isinstance(value, bool):
            raise BundleError(f"{path.name}: {name}: is of another kind")
    if not all(isinstance(text, str) for text in settings.get("prompts", {}).values()):
        raise BundleError(f"{path.name}: prompts: must be texts")
    return settings


def _module_folder(path: Path) -> str:
    """The folder of the one module. Raises BundleError where there are others."""
    modules = _read(path)
    if not (isinstance(modules, list) and len(modules) == 1 and isinstance(modules[0], dict)):
        raise BundleError(f"{path.name}: must list one module, {_TYPE}")
    if modules[0].get("type") != _TYPE:
        raise BundleError(f"{path.name}: must list one module, {_TYPE}")
    folder = str(modules[0].get("path", ""))
    if Path(folder).name != folder or folder == "..":
        raise BundleError(f"{path.name}: path: must be a folder beside it")
    return folder


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise BundleError(f"{path.name}: cannot be read") from None
