"""A new version of a bundle that has an adapter."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from bundle.store import open_bundle, write_bundle
from mllm_adapter.adapter import AdapterError, open_adapter, read_config
from mllm_adapter.llm import check_directory


def attach(adapter: Path, bundle: Path, models: Path, version: str) -> Path:
    """Writes `models/NAME/VERSION`: all that the bundle holds, and the adapter under `adapter/`.

    Raises AdapterError when the adapter is for a backbone of another shape, BundleError when the
    version exists.
    """
    source = open_bundle(bundle)
    architecture = source.manifest.architecture
    config = read_config(adapter)
    rows, columns = architecture.patch_grid
    if (config.concepts, config.patches) != (architecture.concepts, rows * columns):
        raise AdapterError(
            f"adapter.json: for {config.concepts} concepts on {config.patches} patches; the bundle "
            f"has {architecture.concepts} on {rows * columns}"
        )
    check_directory(open_adapter(adapter).llm)

    def fill(folder: Path) -> None:
        for name in source.manifest.files:
            if not name.startswith("adapter/"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source.root / name, folder / name)
        shutil.copytree(adapter, folder / "adapter")

    manifest = dataclasses.replace(source.manifest, version=version)
    return write_bundle(models, manifest, fill)
