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
_KEPT = ("similarity_fn_name", "prompts", "default_prompt_name", "max_active_dims")
"""Settings that sentence-transformers saves beside the modules."""


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
        saved = _read(folder / _SETTINGS)
        settings = {name: saved[name] for name in _KEPT if saved.get(name) is not None}
    return SparseEncoder(modules=[ConceptEncoder(bundle, threads=threads)], **settings)


def _module_folder(path: Path) -> str:
    """The folder of the one module. Raises BundleError where there are others."""
    modules = _read(path)
    kinds = [str(one.get("type", "")) for one in modules] if isinstance(modules, list) else []
    if kinds != [_TYPE]:
        raise BundleError(f"{path.name}: must list one module, {_TYPE}")
    folder = str(modules[0].get("path", ""))
    if Path(folder).name != folder:
        raise BundleError(f"{path.name}: path: must be a folder beside it")
    return folder


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BundleError(f"{path.name}: cannot be read") from None
