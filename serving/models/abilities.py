"""What a model can be asked for: a dense one has no concepts, and some have no patches."""

from __future__ import annotations

import dataclasses

from bundle.architecture import Architecture
from bundle.manifest import NO_CONCEPTS, NO_PATCHES, NO_SHARED_DENSE
from serving.core.errors import ErrorKind, ServingError
from serving.core.requests import OutputSelection


def check_concepts(architecture: Architecture, field: str = "") -> None:
    """Raises ServingError, naming the field of the request, for a dense model."""
    if not architecture.is_sparse:
        raise _refused(NO_CONCEPTS, field)


def check_patches(architecture: Architecture, field: str = "") -> None:
    """Raises ServingError, naming the field, for a model that shows no concepts on patches."""
    check_concepts(architecture, field)
    if architecture.patch_grid is None:
        raise _refused(NO_PATCHES, field)


def chosen_outputs(selection: OutputSelection, architecture: Architecture) -> OutputSelection:
    """What is sent: the selection, or what the model is for where nothing is selected.

    Raises ServingError, naming the field, for what the model does not have.
    """
    if selection == OutputSelection():
        is_sparse = architecture.is_sparse
        return dataclasses.replace(selection, sparse=is_sparse, dense=not is_sparse)
    for name in ("top_concepts", "patch_concepts", "captions", "sparse"):
        if getattr(selection, name):
            check_concepts(architecture, f"outputs.{name}")
    if selection.patch_concepts:
        check_patches(architecture, "outputs.patch_concepts")
    if selection.dense and architecture.dense is None:
        raise _refused(NO_SHARED_DENSE, "outputs.dense")
    return selection


def _refused(problem: str, field: str) -> ServingError:
    at = f"{field}: " if field else ""
    return ServingError(ErrorKind.CONFLICT, f"{at}{problem}", field=field)
